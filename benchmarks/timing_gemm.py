"""Rows per second and peak memory of GEMM and MoE times, a million shapes each: python benchmarks/timing_gemm.py"""

import resource
import time

import numpy as np

from roofline.timing.chip import Chip
from roofline.timing.gemm import GemmParameters, gemm_time
from roofline.timing.moe import MoeParameters, moe_time
from roofline.timing.routing import UniformRouting
from roofline.timing.tiles import TileLibrary

ROWS = 1_000_000
H100 = Chip(132.0, 1.83e9, 989.4e12 / 132 / 1.83e9, 3350e9, 50 * 2.0**20, 256.0)


def report(name: str, start: float, rows: int) -> None:
    seconds = time.perf_counter() - start
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{name:34} {rows:9,d} rows {seconds:6.1f} s {rows / seconds:11,.0f} rows/s, peak so far {peak_mib:5.0f} MiB")


def main() -> None:
    generator = np.random.default_rng(0)
    m, n, k = (generator.integers(1, high, ROWS).astype(np.float64) for high in (32_768, 65_536, 65_536))
    for library in TileLibrary:
        start = time.perf_counter()
        gemm_time(m, n, k, chip=H100, parameters=GemmParameters(library=library))
        report(f"GEMM {library.name.lower()}", start, ROWS)
    start = time.perf_counter()
    moe_time(m, 4096.0, 1536.0, 8.0, 128.0, chip=H100, parameters=MoeParameters(), routing=UniformRouting())
    report("MoE, uniform routing", start, ROWS)


if __name__ == "__main__":
    main()
