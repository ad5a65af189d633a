"""Kernels that treat rows alike (norms, activations, RoPE, residual additions, embedding, softmax, sampling) on a GPU.

One block of threads per row; rows run `resident` to a compute unit and more in waves. What the kernel before wrote
and what fits in the last-level cache is read from there; the rest comes from DRAM. Both rates and the kernel's fixed
time are fitted per kind of kernel. Kernels that only stream hide the units' time behind DRAM's or the other way round;
those that reduce a row (norms, softmax) cannot: all blocks of a wave wait for their rows, and then write together.
"""

from dataclasses import dataclass

import numpy as np

from ..structs import Array, Number
from .chip import Chip
from .loop import MODEL_STEP, BenchmarkLoop
from .parameter import parameter
from .time import Time

_SPREAD_STEP = 6.0
"""How sharply misses set in where a footprint outgrows the cache: its bytes differ in how long ago they were used."""

_SAME_AGE_STEP = 16.0
"""The same for bytes that were all used equally long ago."""


@dataclass(frozen=True, slots=True)
class PointwiseParameters:
    """What datasheets do not say about a kernel over rows. Rates of one compute unit carry over between GPUs.

    Kernel facts: `reduces` is 1 where a row is reduced before it is written, else 0. A row of more than `held_byte` is
    read `passes` times (softmax: maximum, sum, result), shorter ones stay in registers. A block of threads takes at
    most `block_byte` of a row's input: kernels without a reduction may cut rows.
    """

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
    resident: float = parameter(
        1.0, low=0.1, high=16.0, ideal=0.0, unit="1", meaning="rows of one compute unit that take the time of one"
    )
    reduces: float = 0.0
    passes: float = 1.0
    held_byte: float = 0.0
    block_byte: float = 1e9


def pointwise_time(
    row: Number,
    read_byte: Number,
    write_byte: Number,
    chip: Chip,
    parameters: PointwiseParameters,
    loop: BenchmarkLoop = MODEL_STEP,
) -> Time:
    """Seconds of one kernel over `row` rows that reads and writes so many bytes of each; elementwise.

    total = launch + the longer of the units' time (rows and their bytes) and DRAM's, with little added (6-norm); where
    rows are reduced, launch + units' time + what DRAM takes longer for the bytes missed.
    Missed: the share of the footprint beyond the cache (of the input, what went through the cache after it was written:
    on average half of the streamed and its own), of aged input what is older than the cache holds, of a further pass
    over a row the share that the rows in flight leave no room for.
    The bare roofline asks DRAM only for what the last-level cache cannot hold, since the previous kernel has just
    written the input. Ignores: arithmetic (far below every device's vector rate), weights of norms.
    Source: measured (Vidur A100, LLMServingSim RTX PRO 6000, LLMCompass A100 and MI210).
    """
    whole, reads, writes = np.broadcast_arrays(np.float64(row), np.float64(read_byte), np.float64(write_byte))
    parts = np.maximum(np.ceil(reads / parameters.block_byte), 1.0)
    rows, reads, writes = whole * parts, reads / parts, writes / parts
    again = (parameters.passes - 1.0) * np.where(reads > parameters.held_byte, reads, 0.0)
    byte = rows * (reads + writes)
    usable_byte = parameters.cache_fraction * chip.cache_byte
    recent = _missed(np.maximum(byte, 0.5 * (loop.streamed_byte + byte)), usable_byte, _SPREAD_STEP)
    aged = _missed(np.asarray(loop.aged_byte, dtype=np.float64), usable_byte, _SAME_AGE_STEP)
    in_flight = np.minimum(rows, chip.unit_count * parameters.resident)
    missed_byte = (reads + writes) * recent + reads * loop.aged_share * (aged - recent)
    missed_byte = missed_byte + again * _missed(in_flight * reads, usable_byte, _SPREAD_STEP)

    waves_s = np.hypot(rows / chip.unit_count, parameters.resident) / chip.clock_hz
    fixed_s = waves_s * parameters.row_clock
    unit_s_per_byte = waves_s / parameters.unit_byte_per_clock
    unit_s = fixed_s + unit_s_per_byte * (reads + writes + again)
    dram_s_per_byte = rows / (parameters.dram_fraction * chip.dram_byte_per_s)
    dram_s = missed_byte * dram_s_per_byte
    longer, shorter = np.maximum(dram_s, unit_s), np.minimum(dram_s, unit_s)
    streamed_s = longer * np.power(1.0 + np.power(shorter / longer, 6.0), 1.0 / 6.0)
    reduced_s = unit_s + missed_byte * np.maximum(dram_s_per_byte - unit_s_per_byte, 0.0)
    moved_s = streamed_s + parameters.reduces * (reduced_s - streamed_s)
    roofline_s = np.maximum(byte - chip.cache_byte, 0.0) / chip.dram_byte_per_s
    model_s = np.maximum(parameters.launch_s + moved_s, loop.launch_floor_s)
    return Time(
        compute_s=fixed_s,
        memory_s=np.maximum(dram_s, moved_s - fixed_s),
        link_s=np.zeros(byte.shape),
        overhead_s=np.full(byte.shape, parameters.launch_s),
        total_s=np.maximum(model_s, roofline_s),
        roofline_s=roofline_s,
    )


def _missed(byte: Array, usable_byte: Number, step: float) -> Array:
    """Share of so many bytes that comes from DRAM: a smooth step where they outgrow the usable cache."""
    return np.asarray(1.0 / (1.0 + np.power(usable_byte / np.maximum(byte, 1.0), step)))
