"""Predictions per second in one process: decode steps one by one, and a grid of a million. Prints figures.

Usage: python benchmarks/throughput.py [MODEL] [DEVICE]
"""

import resource
import sys
import time

import numpy as np

import roofline
from roofline.deployment import deployment
from roofline.io.calibration import load_calibration
from roofline.io.profiles import load_target
from roofline.workload import AttentionKind, Parallelism, Precision, Scenario


def main(model="llama-3.1-70b", device="h100-sxm"):
    of, target = roofline.load_model(model).model, load_target(device)
    on, calibration = target.device, load_calibration(target)
    asked = Scenario(32.0, 2048.0, 256.0, Precision(), Parallelism(tp=8), AttentionKind.FUSED)
    where = deployment(of, on, calibration, asked)

    count = 20_000
    generator = np.random.default_rng(0)
    batches, contexts = generator.integers(1, 257, count).tolist(), generator.integers(1, 32768, count).tolist()
    start = time.perf_counter()
    for batch, context in zip(batches, contexts, strict=True):
        where.decode_step(float(batch), float(context)).stage_s
    seconds = time.perf_counter() - start
    print(f"{model} on 8 x {device}: {count / seconds:,.0f} decode steps a second, one by one")

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    batch, context = np.arange(1.0, 1001.0), np.arange(32.0, 32032.0, 32.0)
    start = time.perf_counter()
    grid = roofline.decode_grid(of, on, calibration, asked, batch, context)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"grid of {grid.size:,} decode steps: {seconds:.2f} s, {grid.size / seconds:,.0f} a second, "
        f"{(peak - before) / 1e3:.0f} MB more, {peak / 1e3:.0f} MB in all"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
