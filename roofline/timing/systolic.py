"""How long matrix products, attention and gathers take on a systolic array (TPU): compiled programs, no launches.

The measured layers (TPU v6e) show no steps of the array's 128 or 256 rows and columns, no split, no waves: a product
streams its weights once and is bound by DRAM or by the array. Attention is far from both: its time is that of the
copies that bring pages of keys and values to the array. A gather of rows (the embedding) is padded to blocks, and the
padding costs more than the rows: all of it reads one row.
"""

from dataclasses import dataclass

import numpy as np

from ..kernels.attention import causal_pair_count, key_count
from ..structs import FLOP_PER_FMA, NO_WINDOW, Array, Number
from .chip import Chip
from .loop import MODEL_STEP, BenchmarkLoop, missed_fraction, must_come_from_dram_byte
from .parameter import parameter
from .time import Time

_OVERLAP = 12.0
"""Norm that joins array and DRAM time: both run at once, nearly without disturbing each other."""


@dataclass(frozen=True, slots=True)
class SystolicGemmParameters:
    """What datasheets do not say about a compiled matrix product."""

    matrix_fraction: float = parameter(
        0.86, low=0.3, high=1.0, ideal=1.0, unit="1", meaning="fraction of the dense peak that the array reaches"
    )
    dram_fraction: float = parameter(
        0.92, low=0.3, high=1.0, ideal=1.0, unit="1", meaning="fraction of the DRAM bandwidth that weights stream at"
    )
    input_passes: float = parameter(
        0.5, low=1e-3, high=4.0, ideal=1e-3, unit="1", meaning="passes over the input that nothing hides"
    )
    load_row: float = parameter(
        128.0, low=1.0, high=1024.0, ideal=1.0, unit="row", meaning="rows that take as long as loading their weights"
    )


@dataclass(frozen=True, slots=True)
class SystolicGatherParameters:
    """What datasheets do not say about a compiled gather of rows.

    Kernel facts: rows come in blocks of `block_row`, fewer in blocks of the next power of two, of `least_row` at least.
    """

    launch_s: float = parameter(1.6e-6, low=1e-7, high=3e-5, ideal=0.0, unit="s", meaning="fixed time of one gather")
    dram_fraction: float = parameter(
        0.9, low=0.05, high=1.0, ideal=1.0, unit="1", meaning="fraction of the DRAM bandwidth that rows are copied at"
    )
    padding_fraction: float = parameter(
        0.25,
        low=0.02,
        high=1.0,
        ideal=1.0,
        unit="1",
        meaning="the same of padding, which reads one row again and again",
    )
    least_row: float = 8.0
    block_row: float = 256.0


@dataclass(frozen=True, slots=True)
class SystolicAttentionParameters:
    """What datasheets do not say about compiled attention over pages of keys and values.

    Kernel facts: `query_block` tokens of a prefill share one stream of keys and values; a decode batch of more than
    `batch_token` cached tokens runs with larger blocks.
    """

    launch_s: float = parameter(3e-6, low=1e-7, high=3e-5, ideal=0.0, unit="s", meaning="fixed time of one call")
    prefill_launch_s: float = parameter(5e-6, low=1e-7, high=3e-5, ideal=0.0, unit="s", meaning="the same of a prefill")
    query_fraction: float = parameter(
        0.14, low=0.01, high=1.0, ideal=1.0, unit="1", meaning="fraction of DRAM bandwidth, queries and outputs"
    )
    prefill_fraction: float = parameter(
        0.25, low=0.02, high=1.0, ideal=1.0, unit="1", meaning="fraction of DRAM bandwidth, keys of a prefill block"
    )
    causal_share: float = parameter(
        0.35, low=0.05, high=1.0, ideal=0.5, unit="1", meaning="share of the chunk's own keys that a block reads"
    )
    block_token: float = parameter(
        32.0, low=0.1, high=512.0, ideal=0.1, unit="token", meaning="keys that a block reads beyond those it needs"
    )
    sequence_s: float = parameter(2.3e-6, low=1e-8, high=3e-5, ideal=0.0, unit="s", meaning="each decoded sequence")
    decode_fraction: float = parameter(
        0.18, low=0.02, high=1.0, ideal=1.0, unit="1", meaning="fraction of DRAM bandwidth, small decode batches"
    )
    batch_launch_s: float = parameter(
        5.6e-6, low=1e-7, high=1e-4, ideal=0.0, unit="s", meaning="fixed time of a large decode batch"
    )
    batch_sequence_s: float = parameter(
        2.3e-6, low=1e-8, high=3e-5, ideal=0.0, unit="s", meaning="each sequence of a large decode batch"
    )
    batch_fraction: float = parameter(
        0.29, low=0.02, high=1.0, ideal=1.0, unit="1", meaning="fraction of DRAM bandwidth, large decode batches"
    )
    query_block: float = 32.0
    batch_token: float = 6144.0


def systolic_gemm_time(
    m: Number,
    n: Number,
    k: Number,
    value_byte: float,
    chip: Chip,
    parameters: SystolicGemmParameters,
    products: Number = 1.0,
    weight_byte: float | None = None,
    loop: BenchmarkLoop = MODEL_STEP,
) -> Time:
    """Seconds of C[m, n] = A[m, k] · W[k, n] with `value_byte` per value; elementwise.

    Weights come from DRAM, or where `loop` has brought them there before, from the chip's memory. `weight_byte`: per
    value of W, where it is stored in another format (widened on the way into the array).
    `products`: independent ones of one call, each with operands of its own.
    total = 12-norm of array and DRAM time, plus `input_passes` over A. The array takes the time of its rows and of
    loading the weights (quadratic sum). Ignores: padding to the array (the measured rows show none), the compiler's
    choice of programs, which changes with m and layer (two passes over weights, the array at 55 to 90 % of its peak).
    Source: measured (LLMServingSim, Llama-3.1-8B on one TPU v6e).
    """
    rows, columns, depth, calls = np.broadcast_arrays(*(np.float64(size) for size in (m, n, k, products)))
    flop_per_row = FLOP_PER_FMA * calls * columns * depth
    weights_byte = calls * columns * depth * (value_byte if weight_byte is None else weight_byte)
    other_byte = value_byte * calls * rows * (depth + columns)
    missed = missed_fraction(loop.operand_copies * weights_byte + other_byte, chip.cache_byte)
    rate = parameters.dram_fraction * chip.dram_byte_per_s
    compute_s = np.hypot(rows, parameters.load_row) * flop_per_row / (parameters.matrix_fraction * chip.flop_per_s)
    memory_s = (missed * weights_byte + other_byte) / rate
    longer, shorter = np.maximum(compute_s, memory_s), np.minimum(compute_s, memory_s)
    joined_s = longer * np.power(1.0 + np.power(shorter / longer, _OVERLAP), 1.0 / _OVERLAP)
    overhead_s = parameters.input_passes * value_byte * calls * rows * depth / rate
    needed_byte = must_come_from_dram_byte(weights_byte, other_byte, chip.cache_byte, loop)
    roofline_s = np.maximum(rows * flop_per_row / chip.flop_per_s, needed_byte / chip.dram_byte_per_s)
    return _time(compute_s, memory_s, overhead_s, joined_s + overhead_s, roofline_s)


def systolic_gather_time(
    row: Number, read_byte: Number, write_byte: Number, chip: Chip, parameters: SystolicGatherParameters
) -> Time:
    """Seconds to copy `row` rows, found by index, of so many bytes read and written; elementwise.

    total = launch + rows + padding, each at its fraction of the DRAM bandwidth. Ignores: that the compiler takes
    another program for some numbers of rows (the measured ones from 897 to 992 and from 1921 on are padded to one more
    block, and take up to 45 % longer).
    Source: measured (as above).
    """
    rows, byte = np.broadcast_arrays(np.float64(row), np.float64(read_byte) + np.float64(write_byte))
    power = np.exp2(np.ceil(np.log2(np.maximum(rows, parameters.least_row))))
    block = np.minimum(power, parameters.block_row)
    padding = np.ceil(rows / block) * block - rows
    row_s = rows * byte / (parameters.dram_fraction * chip.dram_byte_per_s)
    padding_s = padding * byte / (parameters.padding_fraction * chip.dram_byte_per_s)
    overhead_s = parameters.launch_s + padding_s
    roofline_s = rows * byte / chip.dram_byte_per_s
    return _time(np.zeros(rows.shape), row_s, overhead_s, row_s + overhead_s, roofline_s)


def systolic_prefill_time(
    sequences: Number,
    new_token: Number,
    context: Number,
    query_byte: Number,
    cache_byte: Number,
    chip: Chip,
    parameters: SystolicAttentionParameters,
    *,
    pair_flop: Number,
    window: Number = NO_WINDOW,
) -> Time:
    """Seconds of causal attention of a prefill chunk on `context` cached tokens; elementwise.

    `query_byte`: queries and outputs of one token; `cache_byte`: keys and values of one token; `pair_flop`: FLOP of one
    query-key pair over all heads; `window`: keys that a query sees. Every block of `query_block` queries streams the
    keys before it anew, as far as its window reaches, the chunk's own in part. The array's time only bounds it from
    below (6 % of its peak is used where it was measured).
    Source: measured (as above).
    """
    batch, new, old = np.broadcast_arrays(np.float64(sequences), np.float64(new_token), np.float64(context))
    blocks = np.ceil(new / parameters.query_block)
    keys = np.minimum(old + parameters.causal_share * new, window - 1.0 + parameters.query_block)
    keys = keys + parameters.block_token
    query_s = batch * new * query_byte / (parameters.query_fraction * chip.dram_byte_per_s)
    key_s = batch * blocks * keys * cache_byte / (parameters.prefill_fraction * chip.dram_byte_per_s)
    fixed_s = np.full(batch.shape, parameters.prefill_launch_s)
    needed = batch * (new * query_byte + key_count(new, old, window) * cache_byte)
    memory_s = query_s + key_s
    bare_s = batch * causal_pair_count(new, old, np.float64(window)) * pair_flop / chip.flop_per_s
    roofline_s = np.maximum(bare_s, needed / chip.dram_byte_per_s)
    return _time(bare_s, memory_s, fixed_s, fixed_s + memory_s, roofline_s)


def systolic_decode_time(
    sequences: Number,
    context: Number,
    query_byte: Number,
    cache_byte: Number,
    chip: Chip,
    parameters: SystolicAttentionParameters,
    *,
    pair_flop: Number,
    window: Number = NO_WINDOW,
) -> Time:
    """Seconds of attention of one new token per sequence on `context` cached tokens each; elementwise.

    Each sequence costs a fixed time and the stream of its keys and values; batches of more than `batch_token` cached
    tokens run with their own three numbers. Arguments as in systolic_prefill_time. Source: measured (as above).
    """
    batch, old = np.broadcast_arrays(np.float64(sequences), np.minimum(np.float64(context), window - 1.0))
    large = batch * old > parameters.batch_token
    fixed_s = np.where(
        large,
        parameters.batch_launch_s + batch * parameters.batch_sequence_s,
        parameters.launch_s + batch * parameters.sequence_s,
    )
    rate = np.where(large, parameters.batch_fraction, parameters.decode_fraction) * chip.dram_byte_per_s
    memory_s = batch * old * cache_byte / rate
    needed = batch * (query_byte + (old + 1.0) * cache_byte)
    bare_s = batch * (old + 1.0) * pair_flop / chip.flop_per_s
    roofline_s = np.maximum(bare_s, needed / chip.dram_byte_per_s)
    return _time(bare_s, memory_s, fixed_s, fixed_s + memory_s, roofline_s)


def _time(compute_s: Array, memory_s: Array, overhead_s: Array, model_s: Array, roofline_s: Array) -> Time:
    return Time(
        compute_s=compute_s,
        memory_s=memory_s,
        link_s=np.zeros(model_s.shape),
        overhead_s=overhead_s,
        total_s=np.maximum(model_s, roofline_s),
        roofline_s=roofline_s,
    )
