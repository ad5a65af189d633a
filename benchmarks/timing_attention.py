"""A million different attention kernels per family: rows per second and peak memory."""

import resource
import time
from collections.abc import Callable

import numpy as np

from roofline.structs import NO_WINDOW
from roofline.timing.chip import Chip
from roofline.timing.decode_attention import DecodeAttentionParameters, decode_attention_time
from roofline.timing.decode_kernels import DecodeKernel
from roofline.timing.latent_attention import LatentAttentionParameters, latent_attention_time
from roofline.timing.mixed_attention import MixedAttentionParameters, mixed_attention_time
from roofline.timing.prefill_attention import PrefillAttentionParameters, prefill_attention_time

ROWS = 1_000_000
H100 = Chip(132.0, 1.83e9, 4096.0, 3350e9, 50 * 2.0**20, 256.0)


def main() -> None:
    draw = np.random.default_rng(0)
    sequences = draw.integers(1, 1024, ROWS).astype(float)
    new_token, context = (draw.integers(1, 16384, ROWS).astype(float) for _ in range(2))
    kv_heads, group = draw.integers(1, 33, ROWS).astype(float), draw.integers(1, 17, ROWS).astype(float)
    heads, head_dim = kv_heads * group, draw.choice((64.0, 128.0, 256.0), ROWS)
    window = draw.choice((128.0, 4096.0, NO_WINDOW), ROWS)
    shape = (heads, kv_heads, head_dim)

    def decode(kernel: DecodeKernel) -> Callable[[], object]:
        parameters = DecodeAttentionParameters(kernel=kernel)
        return lambda: decode_attention_time(sequences, context, *shape, window, chip=H100, parameters=parameters)

    cases: dict[str, Callable[[], object]] = {
        "prefill": lambda: prefill_attention_time(
            sequences, new_token, context, *shape, window, chip=H100, parameters=PrefillAttentionParameters()
        ),
        **{f"decode {kernel.name.lower()}": decode(kernel) for kernel in DecodeKernel},
        "latent": lambda: latent_attention_time(
            sequences, new_token, context, heads, 512.0, 64.0, 128.0, 128.0,
            chip=H100, parameters=LatentAttentionParameters(),
        ),
        "mixed": lambda: mixed_attention_time(
            new_token, context, sequences, context, *shape, chip=H100, parameters=MixedAttentionParameters()
        ),
    }  # fmt: skip
    for name, run in cases.items():
        start = time.perf_counter()
        run()
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{name:36s} {seconds:6.2f} s for {ROWS:,} rows, {ROWS / seconds:12,.0f} rows/s, peak {peak:5.0f} MiB")


if __name__ == "__main__":
    main()
