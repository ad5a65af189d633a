"""How long one launch takes that holds a chunk of prefill and many decodes: tiles of both kinds share the units.

With any prefill in the batch, a decode runs as a prefill of one row: a whole tile per query head, keys not split.
"""

from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from ..kernels.attention import causal_pair_count, key_count
from ..structs import FLOP_PER_FMA, NO_WINDOW, Array, Number
from .attention_common import EXPONENTIAL_PER_CLOCK, Tile, cached_fraction, power_norm, second_per_byte, throttled
from .blocks import timed_in_blocks
from .chip import Chip
from .loop import MODEL_STEP, BenchmarkLoop, must_come_from_dram_byte
from .parameter import parameter
from .prefill_attention import key_blocks
from .time import Time

OVERLAP = 3.0
"""Exponent of the norm of compute and memory time."""

VALUE_BYTE = 2.0
"""Bytes of one query or output value."""


class MixedKernel(Enum):
    """Kernels for mixed batches by name: the tile that both kinds of tokens run as."""

    FLASH_ATTENTION_2 = Tile(np.inf, 64, 128)


@dataclass(frozen=True, slots=True)
class MixedAttentionParameters:
    """What datasheets do not say about mixed batches on a device. Cycles are of one compute unit at boost clock."""

    launch_s: float = parameter(6e-6, low=5e-7, high=4e-5, ideal=0.0, unit="s", meaning="start and end of the op")
    token_s: float = parameter(1e-8, low=1e-10, high=1e-6, ideal=0.0, unit="s", meaning="extra per token of the batch")
    matrix_fraction: float = parameter(
        0.8, low=0.2, high=1.0, ideal=1.0, unit="1", meaning="fraction of the dense peak inside a block of prefill"
    )
    exponential_exposed: float = parameter(
        0.4, low=0.01, high=3.0, ideal=0.0, unit="1", meaning="share of softmax time that products do not hide"
    )
    tile_cycle: float = parameter(
        3000.0, low=1.0, high=1e5, ideal=0.0, unit="cycle", meaning="start and end of one tile of prefill"
    )
    decode_tile_cycle: float = parameter(
        6000.0, low=1.0, high=1e5, ideal=0.0, unit="cycle", meaning="start and end of one tile of decode"
    )
    decode_block_cycle: float = parameter(
        5000.0, low=10.0, high=1e5, ideal=0.0, unit="cycle", meaning="one block of keys of a tile of decode"
    )
    balance: float = parameter(
        2.2, low=1.0, high=8.0, ideal=8.0, unit="1", meaning="norm of mean load and longest tile: 8 balances them well"
    )
    dram_fraction: float = parameter(
        0.9, low=0.3, high=1.0, ideal=1.0, unit="1", meaning="fraction of the DRAM bandwidth that tiles reach"
    )
    cache_fraction: float = parameter(
        0.5, low=0.1, high=2.0, ideal=1.0, unit="1", meaning="share of the cache that keeps keys between launches"
    )
    shared_fraction: float = parameter(
        0.8, low=0.1, high=4.0, ideal=1.0, unit="1", meaning="share of it that keeps keys for other heads of a group"
    )
    cache_byte_per_clock: float = parameter(
        15.0, low=2.0, high=200.0, ideal=np.inf, unit="byte/cycle", meaning="last-level cache to one compute unit"
    )
    kernel: MixedKernel = field(default=MixedKernel.FLASH_ATTENTION_2)


def mixed_attention_time(
    new_token: Number,
    context: Number,
    decode_sequences: Number,
    decode_context: Number,
    heads: Number,
    kv_heads: Number,
    head_dim: Number,
    *,
    prompts: Number = 1.0,
    window: Number = NO_WINDOW,
    kv_byte: Number = 2.0,
    chip: Chip,
    parameters: MixedAttentionParameters,
    loop: BenchmarkLoop = MODEL_STEP,
) -> Time:
    """Seconds of a chunk of `new_token` on `context` of each of `prompts` sequences, beside `decode_sequences` decodes.

    Elementwise. Each decode reads `decode_context` cached keys and its own, within the window. Counts a tile of 64 rows
    per decode and query head, causal blocks of the chunks, and keys of decodes read again by other heads of their group
    once they run too far apart to meet in the cache. Ignores splits of keys.
    """
    shape = (new_token, context, decode_sequences, decode_context, heads, kv_heads, head_dim, prompts, window, kv_byte)
    return timed_in_blocks(_Formula(chip, parameters), *shape, loop.operand_copies, loop.launch_floor_s)


@dataclass(frozen=True, slots=True)
class _Formula:
    """The model of mixed batches for one-dimensional blocks of shapes."""

    chip: Chip
    parameters: MixedAttentionParameters

    def __call__(
        self,
        new_token: Array,
        context: Array,
        decode_sequences: Array,
        decode_context: Array,
        heads: Array,
        kv_heads: Array,
        head_dim: Array,
        prompts: Array,
        window: Array,
        kv_byte: Array,
        copies: Array,
        launch_floor_s: Array,
    ) -> Time:
        chip, fitted, tile = self.chip, self.parameters, self.parameters.kernel.value
        decode_key = key_count(1.0, decode_context, window)
        product = FLOP_PER_FMA * 2.0 * head_dim / (chip.flop_per_clock * fitted.matrix_fraction)
        block_cycle = tile.row * tile.column * (product + fitted.exponential_exposed / EXPONENTIAL_PER_CLOCK)
        step = np.full(heads.shape, tile.row)
        grid = np.full(heads.shape, np.gcd(int(tile.row), int(tile.column)), dtype=np.float64)
        blocks = key_blocks(new_token, context, window, step, grid, np.full(heads.shape, tile.column))
        prefill_cycle = fitted.tile_cycle + blocks.mean * block_cycle
        longest_prefill = fitted.tile_cycle + blocks.longest * block_cycle
        decode_cycle = fitted.decode_tile_cycle + np.ceil(decode_key / tile.column) * fitted.decode_block_cycle
        decode_cycle = decode_cycle * (decode_sequences > 0.0)
        work_cycle = heads * (prompts * np.ceil(new_token / tile.row) * prefill_cycle + decode_sequences * decode_cycle)
        longest_cycle = np.maximum(longest_prefill, decode_cycle)
        cycle = power_norm(fitted.balance, work_cycle / chip.unit_count, longest_cycle)
        compute_s = throttled(cycle / chip.clock_hz)

        key_byte = 2.0 * kv_heads * head_dim * kv_byte
        decode_byte = decode_sequences * decode_key * key_byte
        chunk_byte = prompts * key_count(new_token, context, window) * key_byte
        query_byte = 2.0 * (prompts * new_token + decode_sequences) * heads * head_dim * VALUE_BYTE
        group = heads / kv_heads
        rounds = np.clip(group * decode_sequences / chip.unit_count, 1.0, group)
        met = cached_fraction(decode_byte / kv_heads, fitted.shared_fraction * chip.cache_byte)
        moved_byte = chunk_byte + query_byte + decode_byte * (1.0 + (rounds - 1.0) * (1.0 - met))
        memory_s = moved_byte * second_per_byte(decode_byte + chunk_byte, query_byte, copies, fitted, chip)

        pairs = prompts * causal_pair_count(new_token, context, window) + decode_sequences * decode_key
        flop = FLOP_PER_FMA * 2.0 * heads * head_dim * pairs
        dram = must_come_from_dram_byte(decode_byte + chunk_byte, query_byte, chip.cache_byte, BenchmarkLoop(copies))
        roofline_s = np.maximum(flop / chip.flop_per_s, dram / chip.dram_byte_per_s)
        launch_s = fitted.launch_s + fitted.token_s * (prompts * new_token + decode_sequences)
        total_s = launch_s + power_norm(OVERLAP, compute_s, memory_s)
        total_s = np.maximum(np.maximum(total_s, roofline_s), launch_floor_s)
        overhead_s = np.maximum(launch_s, launch_floor_s)
        return Time(compute_s, memory_s, np.zeros(total_s.shape), overhead_s, total_s, roofline_s)
