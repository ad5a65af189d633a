"""How long kernels take on a processor: a library call, work that is rounded up, and the memory level that feeds it.

A call costs a fixed time. Small dimensions waste part of the micro-kernel's registers: work grows as (size + half),
after Hockney and Jesshope's n-1/2 (Parallel Computers, 1981). BLAS libraries first pack the weights, except where one
row makes a matrix-vector product or the product is small (Goto and van de Geijn, ACM TOMS 34(3), 2008); columns beyond
what the TLB reaches cost a page walk each (same source, section 4.2). What the next cache holds comes from there, what
outgrows it from the one behind, and cold weights from DRAM.
"""

from dataclasses import dataclass

import numpy as np

from ..device import Device
from ..errors import RooflineError
from ..kernels.attention import causal_pair_count, key_count
from ..structs import FLOP_PER_FMA, Array, Dtype, Number
from .blocks import fourth_power_norm
from .loop import MODEL_STEP, BenchmarkLoop
from .parameter import parameter
from .time import Time

STEEPNESS = 6.0
"""Power of the smooth steps between two ways of working: half of the change lies within 20 % of the middle."""


ONE_CORE_FMA = 460_800.0
"""Matrix-vector products smaller than this are left to one core: 115200 x 4 in OpenBLAS (interface/gemv.c)."""


def _call() -> float:
    return parameter(2e-6, low=1e-8, high=1e-3, ideal=0.0, unit="s", meaning="fixed time of one call")  # type: ignore[no-any-return]


def _fraction(prior: float, of: str) -> float:
    return parameter(prior, low=0.005, high=1.0, ideal=1.0, unit="1", meaning=f"fraction reached of the {of}")  # type: ignore[no-any-return]


def _half(what: str) -> float:
    meaning = f"{what} at which half of the rate is reached"
    return parameter(4.0, low=0.01, high=1e3, ideal=0.0, unit="1", meaning=meaning)  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class CpuGemmParameters:
    """What datasheets do not say about a BLAS library's products: linear layers, scores, and values of attention.

    `single_rows`: up to so many rows the library makes a matrix-vector product of each, one after the other.
    `unpacked_value`: results of more values than this are products of packed weights however few FMA they take.
    `one_core_fma`: products smaller than this are left to one core, as are those of weights that are not packed.
    """

    single_rows: float = 1.0
    unpacked_value: float = np.inf
    one_core_fma: float = 0.0
    call_s: float = _call()
    product_s: float = parameter(
        5e-7, low=1e-9, high=1e-3, ideal=0.0, unit="s", meaning="fixed time of each product of a batch"
    )
    matrix_fraction: float = _fraction(0.8, "peak by large products")
    half_row: float = _half("rows")
    half_column: float = _half("columns")
    half_depth: float = _half("inner dimension")
    stream_depth: float = parameter(
        300.0, low=0.1, high=5e3, ideal=0.0, unit="1", meaning="inner dimension at which weights stream at half rate"
    )
    pack_flop_per_byte: float = parameter(
        20.0, low=0.1, high=500.0, ideal=0.0, unit="FLOP/byte", meaning="packing of a weight, in FLOP of the peak"
    )
    small_fma: float = parameter(
        1e5, low=1e2, high=1e7, ideal=np.inf, unit="FMA", meaning="largest product that is not packed"
    )
    wide_column: float = parameter(
        1e5, low=1e3, high=1e7, ideal=np.inf, unit="1", meaning="columns at which packing takes half as long again"
    )
    one_core_share: float = parameter(
        0.8, low=0.02, high=1.0, ideal=1.0, unit="1", meaning="one core's share of the bandwidth that all reach"
    )
    one_core_rate: float = parameter(
        0.5, low=0.005, high=1.0, ideal=1.0, unit="1", meaning="one core's share of the rate that all reach"
    )
    dram_fraction: float = _fraction(0.6, "DRAM bandwidth")
    cache_fraction: float = _fraction(0.5, "last-level cache's bandwidth")


@dataclass(frozen=True, slots=True)
class CpuRowParameters:
    """What datasheets do not say about a library's row-wise kernels, all passes and temporary arrays together.

    `grain_byte`: what writes more than this is divided among the cores; `grain_row`: a kernel with two vectors of
    parameters (a fused layer norm) is so from more rows than this on.
    """

    grain_byte: float = np.inf
    grain_row: float = np.inf
    call_s: float = _call()
    row_s: float = parameter(2e-8, low=1e-11, high=1e-3, ideal=0.0, unit="s", meaning="fixed time of one row")
    read_flop_per_byte: float = parameter(
        5.0, low=0.01, high=1e3, ideal=0.0, unit="FLOP/byte", meaning="passes over a byte read, in FLOP of the peak"
    )
    write_flop_per_byte: float = parameter(
        5.0, low=0.01, high=1e3, ideal=0.0, unit="FLOP/byte", meaning="passes over a byte written, in FLOP of the peak"
    )
    second_vector: float = parameter(
        1.2, low=0.1, high=10.0, ideal=1.0, unit="1", meaning="passes with two vectors of parameters to those with one"
    )
    second_call: float = parameter(
        1.2, low=0.1, high=10.0, ideal=1.0, unit="1", meaning="a call's time with two vectors to that with one"
    )
    join_s: float = parameter(
        3e-6, low=1e-8, high=1e-3, ideal=0.0, unit="s", meaning="fixed time of dividing a kernel among the cores"
    )
    one_core_rate: float = parameter(
        0.5, low=0.005, high=1.0, ideal=1.0, unit="1", meaning="one core's share of the rate that all reach"
    )
    near_share: float = parameter(
        0.5, low=0.02, high=4.0, ideal=1.0, unit="1", meaning="share of the cache before the last that keeps operands"
    )
    cache_fraction: float = _fraction(0.3, "last-level cache's bandwidth")
    dram_fraction: float = _fraction(0.4, "DRAM bandwidth")


@dataclass(frozen=True, slots=True)
class CpuAttentionParameters:
    """What datasheets do not say about a library's fused attention."""

    call_s: float = _call()
    head_s: float = parameter(
        1e-6, low=1e-9, high=1e-3, ideal=0.0, unit="s", meaning="fixed time of one sequence and head"
    )
    matrix_fraction: float = _fraction(0.4, "peak by the two products")
    half_row: float = _half("new tokens")
    score_flop: float = parameter(
        100.0, low=1.0, high=5e3, ideal=0.0, unit="FLOP", meaning="softmax of one score, in FLOP of the peak"
    )
    masked_share: float = parameter(
        0.5, low=0.01, high=1.0, ideal=0.0, unit="1", meaning="share of the masked pairs that is computed all the same"
    )
    repeat_fraction: float = _fraction(0.1, "last-level cache's bandwidth by copies of keys and values for each query")
    dram_fraction: float = _fraction(0.4, "DRAM bandwidth")


CpuParameters = CpuGemmParameters | CpuRowParameters | CpuAttentionParameters


@dataclass(frozen=True, slots=True)
class Processor:
    """A CPU seen from inside, for one arithmetic format: peak, DRAM, last-level cache, and the cache before it."""

    flop_per_s: float
    dram_byte_per_s: float
    cache_byte_per_s: float
    cache_byte: float
    near_byte: float


def processor_of(device: Device, dtype: Dtype) -> Processor:
    """The Processor of `device` for operands in `dtype`, upcast where the device does so.

    Errors: RooflineError where the profile lacks a bandwidth or a format.
    """
    dram, cache = device.dram.bandwidth_byte_per_s, device.last_level_cache
    if dram is None or cache is None or cache.bandwidth_byte_per_s is None:
        field = "memory.dram" if dram is None else "memory.last_level_cache"
        raise RooflineError(f"{field}.bandwidth: {device.name} states none. Measure it: roofline measure host.")
    near = device.on_chip or cache
    rate = device.matrix_flop_per_s[device.arithmetic(dtype)]
    return Processor(rate, dram, cache.bandwidth_byte_per_s, cache.capacity_byte, near.capacity_byte)


def _beyond(byte: Number, capacity_byte: Number) -> Array:
    """Share of accesses that miss a cache: a smooth step where the working set outgrows it."""
    return np.asarray(1.0 / (1.0 + (capacity_byte / np.maximum(byte, 1.0)) ** STEEPNESS))


def _from_dram(operand_byte: Number, processor: Processor, loop: BenchmarkLoop) -> tuple[Array, Array]:
    """Bytes of cold operands that come from DRAM as predicted, and the fewest that must."""
    copies = np.asarray(loop.operand_copies, dtype=np.float64)
    cold = np.isinf(copies)
    every = np.where(cold, 1.0, copies) * operand_byte
    missed = np.where(cold, 1.0, _beyond(every, processor.cache_byte)) * operand_byte
    surplus = np.maximum(every - processor.cache_byte, 0.0) / np.where(cold, 1.0, copies)
    return missed, np.where(cold, operand_byte, surplus)


def _time(compute_s: Array, memory_s: Array, busy_s: Array, overhead_s: Array, limits_s: tuple[Array, Array]) -> Time:
    """`busy_s`: compute and memory, overlapping as they do; the fixed part does not. Never below the bare roofline."""
    roofline_s = np.maximum(*limits_s)
    total_s = np.maximum(busy_s + overhead_s, roofline_s)
    return Time(compute_s, memory_s, np.zeros(total_s.shape), overhead_s, total_s, roofline_s)


def cpu_gemm_time(
    m: Number,
    n: Number,
    k: Number,
    copies: Number,
    *,
    weight_byte: float,
    value_byte: float,
    processor: Processor,
    parameters: CpuGemmParameters,
    loop: BenchmarkLoop = MODEL_STEP,
) -> Time:
    """Seconds of `copies` products C[m,n] = A[m,k] · W[k,n]; elementwise. `weight_byte`, `value_byte`: per value of W
    and of A and C.

    Counts the FLOP of rounded-up products, packing of W, W from DRAM (from the cache where the loop keeps it there), A
    and C, which the kernels around it touch too, from the last-level cache or DRAM as they fit. Ignores biases.
    What is paid per weight, however many rows use it, is its memory's: it arrives, is packed, and is loaded into
    registers, which takes `half_row` rows' time. `compute_s` is what grows with the rows: the longest part turns from
    memory to compute where floor and slope of the time meet.
    """
    m, n, k, copies = (np.asarray(size, dtype=np.float64) for size in (m, n, k, copies))
    fma = m * n * k
    small = np.where(m * n > parameters.unpacked_value, 0.0, 1.0 - _beyond(fma, parameters.small_fma))
    alone = np.maximum(small, np.where(fma < parameters.one_core_fma, 1.0, 0.0))  # on one core
    several = np.clip(m - parameters.single_rows, 0.0, 1.0)  # matrix-vector products: nothing is packed or rounded up
    row_s = FLOP_PER_FMA * copies * (n + parameters.half_column) * (k + parameters.half_depth)
    slower = 1.0 + alone * (1.0 / parameters.one_core_rate - 1.0)
    row_s = row_s * slower / (parameters.matrix_fraction * processor.flop_per_s)
    weight, other = copies * n * k * weight_byte, copies * (m * k + m * n) * value_byte
    packed = several * (1.0 - small) * weight * slower
    pack_s = packed * (1.0 + n / (n + parameters.wide_column)) * parameters.pack_flop_per_byte / processor.flop_per_s
    feed_s = several * parameters.half_row * row_s + pack_s
    compute_s = m * row_s
    cold, least = _from_dram(weight, processor, loop)
    spilled = _beyond(other, processor.cache_byte) * other
    started = 1.0 + parameters.stream_depth / k  # prefetchers start anew with every column of W
    again = (1.0 - several) * (m - np.minimum(m, 1.0))  # reads of W after the first: row by row
    repeated = again * _beyond(n * k * weight_byte, processor.near_byte)  # else they are still near
    alone = several * alone + (1.0 - several) * (1.0 - _beyond(n * k, ONE_CORE_FMA))
    longer = 1.0 + alone * (1.0 / parameters.one_core_share - 1.0)
    dram_s = longer * (cold * (1.0 + repeated) * started + spilled)
    dram_s = dram_s / (parameters.dram_fraction * processor.dram_byte_per_s)
    cache_s = longer * (weight * (1.0 + again) * started + other)
    cache_s = cache_s / (parameters.cache_fraction * processor.cache_byte_per_s)
    memory_s = fourth_power_norm(dram_s, cache_s)  # what comes from DRAM passes the cache as it arrives
    least = least + np.maximum(other - processor.cache_byte, 0.0)
    overhead_s = parameters.call_s + parameters.product_s * copies + np.zeros(compute_s.shape)
    limits = FLOP_PER_FMA * copies * fma / processor.flop_per_s, least / processor.dram_byte_per_s
    busy_s = fourth_power_norm(compute_s + feed_s, memory_s)  # the cores pack, then multiply, while operands arrive
    return _time(compute_s, fourth_power_norm(memory_s, feed_s), busy_s, overhead_s, limits)


def cpu_row_time(
    row: Number,
    read_byte: Number,
    write_byte: Number,
    weight_byte: Number = 0.0,
    *,
    processor: Processor,
    parameters: CpuRowParameters,
) -> Time:
    """Seconds of a kernel over `row` rows that reads and writes so many bytes of each; elementwise. `weight_byte`:
    parameters that are applied to every row. A layer norm has twice those of an RMS norm, and is another kernel: more
    passes where both are made of the same calls, one fused call where the library has it for only one of them.

    Counts arithmetic, exp and passes in proportion to bytes. What exceeds a cache comes from the next one.
    """
    rows, reads, writes = np.broadcast_arrays(np.float64(row), np.float64(read_byte), np.float64(write_byte))
    byte = rows * (reads + writes)
    passes = reads * parameters.read_flop_per_byte + writes * parameters.write_flop_per_byte
    vectors = np.clip(weight_byte / np.maximum(writes, 1.0), 1.0, 2.0)
    divided = np.where(rows * writes > parameters.grain_byte, 1.0, 0.0)
    divided = np.where((vectors > 1.0) & (rows > parameters.grain_row), 1.0, divided)
    slower = np.where(np.isinf(parameters.grain_byte), 1.0, divided + (1.0 - divided) / parameters.one_core_rate)
    compute_s = parameters.second_vector ** (vectors - 1.0) * rows * slower
    compute_s = compute_s * (parameters.row_s + passes / processor.flop_per_s)
    far = byte * _beyond(byte, parameters.near_share * processor.near_byte)
    dram = byte * _beyond(byte, processor.cache_byte)
    memory_s = far / (parameters.cache_fraction * processor.cache_byte_per_s)
    memory_s = memory_s + dram / (parameters.dram_fraction * processor.dram_byte_per_s)
    overhead_s = parameters.second_call ** (vectors - 1.0) * parameters.call_s + divided * parameters.join_s
    least = np.maximum(byte - processor.cache_byte, 0.0) / processor.dram_byte_per_s
    busy_s = fourth_power_norm(compute_s, memory_s)
    return _time(compute_s, memory_s, busy_s, overhead_s, (np.zeros(byte.shape), least))


def cpu_attention_time(
    sequences: Number,
    new_token: Number,
    context: Number,
    heads: Number,
    kv_heads: Number,
    head_dim: Number,
    window: Number,
    *,
    kv_byte: float,
    processor: Processor,
    parameters: CpuAttentionParameters,
    causal: bool = True,
    loop: BenchmarkLoop = MODEL_STEP,
) -> Time:
    """Seconds of fused attention of `new_token` queries behind `context` cached tokens; elementwise.

    Counts both products and the softmax over the pairs that see each other and a share of the masked ones, keys and
    values from DRAM (from the cache where the loop keeps them there), and their copies where queries share them.
    """
    keys = key_count(new_token, context, window)
    rectangle = np.asarray(new_token * keys, dtype=np.float64)
    seen = causal_pair_count(new_token, context, window) if causal else rectangle
    pairs = seen + parameters.masked_share * (rectangle - seen)
    groups = np.asarray(sequences * heads, dtype=np.float64)
    padded = 1.0 + parameters.half_row / new_token
    flop = 2.0 * FLOP_PER_FMA * head_dim * padded / parameters.matrix_fraction + parameters.score_flop
    cached = 2.0 * sequences * keys * kv_heads * head_dim * kv_byte
    repeats = heads / kv_heads
    copied = cached * repeats * np.minimum(repeats - 1.0, 1.0)
    compute_s = groups * pairs * flop / processor.flop_per_s
    compute_s = compute_s + copied / (parameters.repeat_fraction * processor.cache_byte_per_s)
    cold, least = _from_dram(cached, processor, loop)
    memory_s = cold / (parameters.dram_fraction * processor.dram_byte_per_s)
    overhead_s = parameters.call_s + parameters.head_s * groups
    useful = groups * seen * 2.0 * FLOP_PER_FMA * head_dim / processor.flop_per_s
    compute_s, memory_s, overhead_s, useful, least = np.broadcast_arrays(compute_s, memory_s, overhead_s, useful, least)
    limits = useful, least / processor.dram_byte_per_s
    return _time(compute_s, memory_s, compute_s + memory_s, overhead_s, limits)  # keys are waited for, block by block
