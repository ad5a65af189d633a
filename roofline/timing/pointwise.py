"""Kernels that treat rows alike (norms, activations, RoPE, residual additions, embedding, softmax, sampling) on a GPU.

One block of threads per row; rows run `resident` to a compute unit and more in waves. What the kernel before wrote
and what fits in the last-level cache is read from there; beyond it everything comes from DRAM. Both rates and the
kernel's fixed time are fitted per kind of kernel.
"""

from dataclasses import dataclass

import numpy as np

from ..structs import Array, Number
from .chip import Chip
from .loop import MODEL_STEP, BenchmarkLoop
from .parameter import parameter
from .time import Time


@dataclass(frozen=True, slots=True)
class PointwiseParameters:
    """What datasheets do not say about a kernel over rows. Rates of one compute unit carry over between GPUs."""

    launch_s: float = parameter(2.5e-6, low=3e-7, high=1e-4, ideal=0.0, unit="s", meaning="start and end of one kernel")
    dram_fraction: float = parameter(
        0.6, low=0.05, high=1.0, ideal=1.0, unit="1", meaning="fraction of the DRAM bandwidth that it reaches"
    )
    cache_fraction: float = parameter(
        0.6, low=0.05, high=3.0, ideal=1.0, unit="1", meaning="share of the last-level cache that keeps its operands"
    )
    unit_byte_per_clock: float = parameter(
        10.0, low=0.3, high=200.0, ideal=np.inf, unit="byte/clock", meaning="what one compute unit moves through caches"
    )
    row_clock: float = parameter(20.0, low=0.1, high=1e4, ideal=0.0, unit="clock", meaning="fixed time of one row")
    held_byte: float = parameter(
        6e4, low=2e3, high=1e6, ideal=np.inf, unit="byte", meaning="longest row that is not read a second time"
    )
    resident: float = parameter(
        1.0, low=0.1, high=16.0, ideal=0.0, unit="1", meaning="rows of one compute unit that take the time of one"
    )


def pointwise_time(
    row: Number,
    read_byte: Number,
    write_byte: Number,
    chip: Chip,
    parameters: PointwiseParameters,
    loop: BenchmarkLoop = MODEL_STEP,
) -> Time:
    """Seconds of one kernel over `row` rows that reads and writes so many bytes of each; elementwise.

    moved = compute units' time and DRAM time, the longer with little added (6-norm); total = launch + moved.
    Memory time is the longer of DRAM's and the compute units' own moving of bytes through the caches; compute time is
    what a row costs besides.
    The bare roofline asks DRAM only for what the last-level cache cannot hold, since the previous kernel has just
    written the input. Ignores: arithmetic (far below every device's vector rate), weights of norms.
    Source: measured (Vidur A100, LLMServingSim RTX PRO 6000, LLMCompass A100 and MI210).
    """
    rows, reads, writes = np.broadcast_arrays(np.float64(row), np.float64(read_byte), np.float64(write_byte))
    again = np.maximum(reads - parameters.held_byte, 0.0)
    byte = rows * (reads + writes)
    missed = _missed(byte, parameters.cache_fraction * chip.cache_byte)
    memory_s = missed * (byte + rows * again) / (parameters.dram_fraction * chip.dram_byte_per_s)
    waves = np.hypot(rows / chip.unit_count, parameters.resident)
    row_clock = parameters.row_clock + (reads + writes + again) / parameters.unit_byte_per_clock
    unit_s = waves * row_clock / chip.clock_hz
    longer, shorter = np.maximum(memory_s, unit_s), np.minimum(memory_s, unit_s)
    moved_s = longer * (1.0 + (shorter / longer) ** 6) ** (1.0 / 6.0)
    roofline_s = np.maximum(byte - chip.cache_byte, 0.0) / chip.dram_byte_per_s
    model_s = np.maximum(parameters.launch_s + moved_s, loop.launch_floor_s)
    fixed_s = waves * parameters.row_clock / chip.clock_hz
    return Time(
        compute_s=fixed_s,
        memory_s=np.maximum(memory_s, unit_s - fixed_s),
        link_s=np.zeros(byte.shape),
        overhead_s=np.full(byte.shape, parameters.launch_s),
        total_s=np.maximum(model_s, roofline_s),
        roofline_s=roofline_s,
    )


def _missed(byte: Array, usable_byte: float) -> Array:
    """Share of a footprint that comes from DRAM: a smooth step (6th power) where it outgrows the usable cache."""
    return 1.0 / (1.0 + (usable_byte / np.maximum(byte, 1.0)) ** 6)
