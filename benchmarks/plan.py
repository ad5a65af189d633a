"""Time and peak memory of searches of 10^5 and 10^6 candidates, on all cores and in this process. Prints figures.

Usage: python benchmarks/plan.py [MODEL]
"""

import resource
import sys
import time

import roofline

SMALL = {"max_sequences": (64, 256, 1024), "max_batch_tokens": (2048, 8192)}
LARGE = {
    "max_sequences": (8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 640, 768, 896, 1024),
    "max_batch_tokens": (512, 1024, 2048, 3072, 4096, 6144, 8192, 12288, 16384),
}
DEVICES = (
    "a100-sxm-40gb,a100-sxm-80gb,b200-sxm,gb200,h100-nvl,h100-sxm,h200-sxm,l40s,mi300x,rtx-pro-6000,"
    "tpu-v5e,tpu-v5p,tpu-v6e"
)


def one(name, model, devices, limits, max_devices):
    start = time.perf_counter()
    found = roofline.plan(
        model,
        rate=100.0,
        ttft=0.5,
        tpot=0.05,
        devices=devices.split(","),
        max_devices=max_devices,
        **limits,
    ).record
    seconds = time.perf_counter() - start
    evaluated, pruned = found["candidates_evaluated"], found["candidates_pruned"]
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(
        f"{name}: {evaluated:,} candidates evaluated and {pruned:,} ruled out in {seconds:.1f} s "
        f"({evaluated / seconds:,.0f} a second); peak {own:.0f} MB in this process"
    )


def main(model="llama-3.1-8b"):
    one("10^5", model, "h100-sxm,h200-sxm,b200-sxm,mi300x,a100-sxm-80gb,tpu-v6e", SMALL, 64)
    one("10^6", model, DEVICES, LARGE, 64)


if __name__ == "__main__":
    main(*sys.argv[1:])
