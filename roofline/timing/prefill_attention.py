"""How long fused attention over many new tokens takes: tiles of queries that each walk over their blocks of keys."""

from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from ..kernels.attention import causal_pair_count, key_count
from ..structs import FLOP_PER_FMA, Array, Number
from .attention_common import (
    WAVE_ROUNDING,
    Tile,
    Tiles,
    power_norm,
    second_per_byte,
    softmax_cycle,
    throttled,
    tile_sizes,
)
from .blocks import timed_in_blocks
from .chip import Chip
from .loop import MODEL_STEP, BenchmarkLoop, must_come_from_dram_byte
from .parameter import Scaling, parameter
from .time import Time

_ANY = float("inf")

LONGEST_FIRST = 8.0
"""Exponent of the norm of mean load and longest tile where the longest start first: nearly the larger of the two."""

LONGEST_LAST = 1.0
"""The same where tiles start as they are numbered, under a causal mask the longest last: it adds to the mean load."""

OUTPUT_BYTE = 2.0
"""Bytes of one output value: bf16 or fp16, also where queries are fp8."""

APPEND_HEAD_VALUES = 512.0
"""Values of one token that the kernel which writes the KV cache handles at once; more run beside each other."""


@dataclass(frozen=True, slots=True)
class PrefillFacts:
    """How a kernel was compiled. `packs_heads`: the query heads of a KV head share a tile, row by row.
    `compiled_groups`: numbers of query heads per KV head with a kernel of their own. `places`: tiles that one unit
    holds at a time, so that one starts while another computes. `takes_turns`: two groups of warps share a tile, and
    one's softmax runs beside the other's products. `longest_first`: tiles start in the order of their length.
    """

    tiles: Tiles
    packs_heads: bool = False
    compiled_groups: tuple[float, ...] = ()
    places: float = 1.0
    takes_turns: bool = False
    longest_first: bool = False

    @property
    def softmax_share(self) -> float:
        """Share of the softmax time that the products do not hide by design: half of it with two groups of warps."""
        return 0.5 if self.takes_turns else 1.0

    @property
    def balance(self) -> float:
        """Exponent of the norm of mean load and longest tile."""
        return LONGEST_FIRST if self.longest_first else LONGEST_LAST


_COMPILED = (4.0, 8.0, 16.0)
_FLASH_3 = (
    Tile(64, 192, 128, short_up_to_row=64, slow_window_group=5.0),
    Tile(_ANY, 128, 128, short_up_to_row=64, short_start=0.65, slow_window_group=0.0),
)


class PrefillKernel(Enum):
    """Prefill kernels by name, as a calibration declares them.

    Tiles are what these libraries are compiled with (hopper/tile_size.h of FlashAttention-3), or what rows used for
    fitting selected (aiconfigurator, A100 and H100): short rows, tiles of windows, order, TensorRT-LLM.
    """

    FLASH_ATTENTION_2 = PrefillFacts((Tile(_ANY, 64, 128),), places=2.0)
    FLASH_ATTENTION_2_LONGEST_FIRST = PrefillFacts((Tile(_ANY, 64, 128),), places=2.0, longest_first=True)
    FLASH_ATTENTION_3 = PrefillFacts(
        _FLASH_3, packs_heads=True, compiled_groups=_COMPILED, takes_turns=True, longest_first=True
    )
    FLASH_ATTENTION_3_IN_ORDER = PrefillFacts(_FLASH_3, packs_heads=True, compiled_groups=_COMPILED, takes_turns=True)
    FLASH_ATTENTION_3_FP8 = PrefillFacts(
        (
            Tile(64, 192, 160, short_up_to_row=64, short_column=160, slow_window_group=0.0),
            Tile(
                _ANY,
                128,
                160,
                short_up_to_row=64,
                short_column=160,
                short_start=0.5,
                window_column=64,
                slow_window_group=1.0,
            ),
        ),
        packs_heads=True,
        compiled_groups=_COMPILED,
        takes_turns=True,
        longest_first=True,
    )
    TENSORRT_AMPERE = PrefillFacts((Tile(_ANY, 64, 128, 32, 64, 64),))
    TENSORRT_HOPPER = PrefillFacts((Tile(64, 64, 256), Tile(_ANY, 64, 128)), takes_turns=True)
    TENSORRT_HOPPER_FP8 = PrefillFacts((Tile(64, 128, 256, 64, 64, 256), Tile(_ANY, 128, 128, 32)), takes_turns=True)


@dataclass(frozen=True, slots=True)
class PrefillAttentionParameters:
    """What datasheets do not say about a prefill kernel on a device. Cycles are of one compute unit at boost clock.

    `tile_cycle` grows with the arithmetic rate: A100 to H100 it tripled, with equal tiles (deeper pipelines, and the
    same latencies last more cycles).
    """

    launch_s: float = parameter(7e-6, low=1e-6, high=4e-5, ideal=0.0, unit="s", meaning="start and end of the op")
    matrix_fraction: float = parameter(
        0.9, low=0.2, high=1.0, ideal=1.0, unit="1", meaning="fraction of the dense peak inside a block"
    )
    softmax_exposed: float = parameter(
        1.0, low=0.02, high=4.0, ideal=0.0, unit="1", meaning="softmax time beside the products, over softmax_share"
    )
    tile_cycle: float = parameter(
        6000.0,
        low=1.0,
        high=3e4,
        ideal=0.0,
        unit="cycle",
        meaning="start, first loads and end of one tile",
        scaling=Scaling.WITH_FLOP_PER_CLOCK,
    )
    window_cycle: float = parameter(
        100.0, low=1.0, high=3e4, ideal=0.0, unit="cycle", meaning="extra per tile whose window hides the first keys"
    )
    group_saving: float = parameter(
        0.15, low=1e-3, high=0.9, ideal=1.0, unit="1", meaning="share of tile_cycle saved by compiled_groups"
    )
    token_cycle: float = parameter(
        1200.0, low=0.1, high=2e4, ideal=0.0, unit="cycle", meaning="writing one token to the KV cache, where in the op"
    )
    dram_fraction: float = parameter(
        0.9, low=0.3, high=1.0, ideal=1.0, unit="1", meaning="fraction of the DRAM bandwidth that tiles reach"
    )
    cache_fraction: float = parameter(
        0.4, low=0.1, high=2.0, ideal=1.0, unit="1", meaning="share of the last-level cache that keeps operands"
    )
    cache_byte_per_clock: float = parameter(
        30.0, low=4.0, high=300.0, ideal=np.inf, unit="byte/cycle", meaning="last-level cache to one compute unit"
    )
    overlap: float = parameter(
        1.2, low=1.0, high=8.0, ideal=8.0, unit="1", meaning="norm of compute and memory: 1 adds them, 8 overlaps"
    )
    writes_cache: bool = False
    """Whether the op as measured includes the kernel that writes the new keys and values to the cache."""
    kernel: PrefillKernel = field(default=PrefillKernel.FLASH_ATTENTION_3)


def prefill_attention_time(
    sequences: Number,
    new_token: Number,
    context: Number,
    heads: Number,
    kv_heads: Number,
    head_dim: Number,
    window: Number,
    *,
    query_byte: Number = 2.0,
    kv_byte: Number = 2.0,
    causal: bool = True,
    chip: Chip,
    parameters: PrefillAttentionParameters,
    loop: BenchmarkLoop = MODEL_STEP,
) -> Time:
    """Seconds of attention of `sequences` x `new_token` queries on `context` earlier and their own keys; elementwise.

    `window`: keys that a query sees, itself included (NO_WINDOW: all). `query_byte`, `kv_byte`: of one stored value.
    `chip` is that of the arithmetic format. Counts whole blocks at the diagonal and at the window's edge, the longest
    tile, softmax beside the products, each key and value once from DRAM. Ignores keys re-read by query tiles (cached).
    Tiles as in Dao, FlashAttention-2 (arXiv 2307.08691) and Shah et al., FlashAttention-3 (arXiv 2407.08608).
    """
    formula = _Formula(chip, parameters, causal)
    shape = (sequences, new_token, context, heads, kv_heads, head_dim, window, query_byte, kv_byte)
    return timed_in_blocks(formula, *shape, loop.operand_copies, loop.launch_floor_s)


@dataclass(frozen=True, slots=True)
class KeyBlocks:
    """Blocks of keys that tiles walk over: the mean and the longest tile, and the share of tiles that skip keys."""

    mean: Array
    longest: Array
    windowed: Array


def key_blocks(new_token: Array, context: Array, window: Array, step: Array, grid: Array, column: Array) -> KeyBlocks:
    """Mean and largest number of `column`-wide key blocks under a causal mask, for tiles of `step` queries each.

    `grid`: the offset of every tile in a block is a multiple of it. A tile ends with the block of its last query and
    starts with the block of its first query's first visible key; rounding to blocks adds (column - grid)/2 on average.
    """
    tiles = np.ceil(new_token / step)
    whole = np.ceil((context + new_token) / column)
    rounding = (column - grid) / (2.0 * column)
    mean_end = context + np.minimum(step * (tiles + 1.0) / 2.0, new_token) - (tiles * step - new_token) / tiles
    first_end = np.ceil((context + np.minimum(step, new_token)) / column)
    end = np.clip(mean_end / column + rounding, first_end, whole)
    seen = np.minimum(window, context + new_token)
    first_windowed = np.clip(np.ceil((seen - context) / step), 0.0, tiles)
    windowed = (tiles - first_windowed) / tiles
    mean_start = context - seen + 1.0 + step * (first_windowed + tiles - 1.0) / 2.0
    skipped = np.maximum(windowed * ((mean_start - 1.0) / column - rounding), 0.0)
    longest = np.minimum(whole, (seen + step) / column + 2.0 * rounding)
    return KeyBlocks(end - skipped, longest, windowed)


@dataclass(frozen=True, slots=True)
class _Formula:
    """The prefill model for one-dimensional blocks of shapes."""

    chip: Chip
    parameters: PrefillAttentionParameters
    causal: bool

    def __call__(
        self,
        sequences: Array,
        new_token: Array,
        context: Array,
        heads: Array,
        kv_heads: Array,
        head_dim: Array,
        window: Array,
        query_byte: Array,
        kv_byte: Array,
        copies: Array,
        launch_floor_s: Array,
    ) -> Time:
        chip, fitted, facts = self.chip, self.parameters, self.parameters.kernel.value
        group = heads / kv_heads
        packed = group if facts.packs_heads else np.ones(group.shape)
        rows = new_token * packed
        tile = tile_sizes(facts.tiles, head_dim, rows, window < context + new_token)
        row, column = tile.row, tile.column
        tiles = np.ceil(rows / row)
        if self.causal:
            grid = np.gcd(np.rint(row).astype(np.int64), np.rint(column * packed).astype(np.int64)) / packed
            blocks = key_blocks(new_token, context, window, row / packed, grid, column)
            pairs = causal_pair_count(new_token, context, window)
        else:
            every = np.ceil(key_count(new_token, context, window) / column)
            blocks = KeyBlocks(every, every, np.zeros(group.shape))
            pairs = new_token * key_count(new_token, context, window)

        product = FLOP_PER_FMA * 2.0 * head_dim / (chip.flop_per_clock * fitted.matrix_fraction)
        block_cycle = row * column * (product + fitted.softmax_exposed * facts.softmax_share * softmax_cycle(chip))
        compiled = np.isin(group, facts.compiled_groups)
        tile_cycle = fitted.tile_cycle * tile.start / facts.places * (1.0 - fitted.group_saving * compiled)
        tile_cycle += fitted.window_cycle * blocks.windowed * (group <= tile.slow_window_group)
        load = tiles * sequences * heads / packed / chip.unit_count
        waves = WAVE_ROUNDING * np.ceil(load) + (1.0 - WAVE_ROUNDING) * load
        mean_cycle = waves * (tile_cycle + blocks.mean * block_cycle)
        longest_cycle = tile_cycle + blocks.longest * block_cycle
        compute_s = throttled(power_norm(facts.balance, mean_cycle, longest_cycle) / chip.clock_hz)

        key_values = 2.0 * sequences * kv_heads * head_dim * key_count(new_token, context, window)
        queries = sequences * new_token * heads * head_dim
        kv_moved_byte, other_byte = key_values * kv_byte, queries * (OUTPUT_BYTE + query_byte)
        byte_s = second_per_byte(kv_moved_byte, other_byte, copies, fitted, chip)
        memory_s = (kv_moved_byte + other_byte) * byte_s

        values = kv_heads * head_dim
        append_byte = 2.0 * sequences * new_token * values * (OUTPUT_BYTE + kv_byte)
        occupied = np.minimum(values, APPEND_HEAD_VALUES) / APPEND_HEAD_VALUES
        token_s = fitted.token_cycle * sequences * new_token * occupied / (chip.unit_count * chip.clock_hz)
        append_s = (append_byte * byte_s + token_s) * fitted.writes_cache

        head_flop = FLOP_PER_FMA * 2.0 * pairs * head_dim
        dram = must_come_from_dram_byte(kv_moved_byte, other_byte, chip.cache_byte, BenchmarkLoop(copies))
        roofline_s = np.maximum(sequences * heads * head_flop / chip.flop_per_s, dram / chip.dram_byte_per_s)
        total_s = fitted.launch_s + power_norm(fitted.overlap, compute_s, memory_s) + append_s
        overhead_s = np.maximum(fitted.launch_s + append_s, launch_floor_s)
        total_s = np.maximum(np.maximum(total_s, roofline_s), launch_floor_s)
        return Time(compute_s, memory_s, np.zeros(total_s.shape), overhead_s, total_s, roofline_s)
