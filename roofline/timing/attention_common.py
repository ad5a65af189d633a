"""What the attention timing models share: waves of tiles, cache residency, and the tiles kernels were compiled with."""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..structs import Array, Number
from .chip import Chip

WAVE_ROUNDING = 0.7
"""Share of a last, partly filled wave that is lost; the rest is won back because units finish at different times."""

MATRIX_ROW = 64.0
"""Rows of one matrix instruction of a group of warps: fewer queries are padded to it."""

EXPONENTIAL_PER_CLOCK = 16.0
"""Exponentials of one compute unit per clock (special function units, since NVIDIA Volta; CUDA C Programming Guide,
arithmetic throughput table)."""

SOFTMAX_FLOP = 10.0
"""Vector work per score beside its exponential, five instructions of an FMA's cost: scale and subtract the maximum,
find the maximum, add up, narrow to 16 bit, and rescale the outputs (head dimension / columns of a tile: about one).
Counted in FlashAttention-2's inner loop (arXiv 2307.08691, algorithm 1)."""

LONG_KERNEL_S = 4e-3
"""Beyond this time the power limit lowers the clock."""

THROTTLED = 0.05
"""Slow-down of the longest kernels by the power limit."""


@dataclass(frozen=True, slots=True)
class Tile:
    """Queries (rows) and keys (columns) of the score block that one compute unit works on, for a range of head
    dimensions. `short_*` replaces it where a head has at most `short_up_to_row` rows; `short_start`: the share of a
    tile's start-up that a short one has (fewer groups of warps). `window_column`: columns where a window hides keys
    (0: the same); `slow_window_group`: most query heads per KV head with which a window costs extra.
    """

    up_to_head_dim: float
    row: float
    column: float
    short_up_to_row: float = 0.0
    short_row: float = MATRIX_ROW
    short_column: float = 128.0
    short_start: float = 1.0
    window_column: float = 0.0
    slow_window_group: float = float("inf")


class CacheParameters(Protocol):
    """What the attention models' parameters say of the last-level cache and of DRAM."""

    @property
    def dram_fraction(self) -> float:
        """Fraction of the DRAM bandwidth that streaming reaches."""

    @property
    def cache_fraction(self) -> float:
        """Share of the last-level cache that keeps operands."""

    @property
    def cache_byte_per_clock(self) -> float:
        """Rate of that cache, bytes per compute unit and clock."""


Tiles = tuple[Tile, ...]

_SMALLEST = float(np.finfo(np.float64).tiny)
"""Divides a norm of nothing and nothing."""


class TileSizes(NamedTuple):
    """A tile for each shape: `start` is its share of the start-up; the other fields as in Tile."""

    row: Array
    column: Array
    start: Array
    slow_window_group: Array


def tile_sizes(tiles: Tiles, head_dim: Array, rows: Array, windowed: NDArray[np.bool_]) -> TileSizes:
    """The tile for each head dimension and number of rows (the last one serves all larger ones); `windowed`: where a
    window hides keys.
    """
    up_to_head_dim, short_up_to_row, variants = _tile_table(tiles)
    tile = up_to_head_dim.searchsorted(head_dim)
    return TileSizes(*variants[:, 4 * tile + _SHORT * (rows <= short_up_to_row[tile]) + windowed])


_SHORT = np.intp(2)
"""Steps from a tile to its short variant (a NumPy integer: a NumPy truth times a Python one is ten times slower)."""


@lru_cache(maxsize=64)
def _tile_table(tiles: Tiles) -> tuple[Array, Array, Array]:
    """Where one tile ends and the next begins; the most rows of each one's short variant; and the four variants of each
    (neither short nor windowed, windowed, short, both) with the fields of TileSizes, shape (fields, variants). Pure, so
    remembered.
    """
    variants = [
        (row, tile.window_column if windowed and tile.window_column else column, start, tile.slow_window_group)
        for tile in tiles
        for row, column, start in (
            (tile.row, tile.column, 1.0),
            (tile.short_row, tile.short_column, tile.short_start),
        )
        for windowed in (False, True)
    ]
    up_to_head_dim, short_up_to_row = zip(*((tile.up_to_head_dim, tile.short_up_to_row) for tile in tiles), strict=True)
    return np.array(up_to_head_dim[:-1]), np.array(short_up_to_row), np.array(variants).T


def rounded_waves(load: Array) -> Array:
    """Turns that `load` tiles per place take; at least one. Dimensionless, elementwise."""
    return WAVE_ROUNDING * np.ceil(load) + (1.0 - WAVE_ROUNDING) * np.maximum(load, 1.0)


def softmax_cycle(chip: Chip) -> float:
    """Cycles of one compute unit for the softmax of one score: its exponential and the vector work around it."""
    return 1.0 / EXPONENTIAL_PER_CLOCK + SOFTMAX_FLOP / chip.vector_flop_per_clock


def power_norm(exponent: float, left: Array, right: Array) -> Array:
    """(leftᵖ + rightᵖ)^¹ᐟᵖ: the sum for p = 1, towards the maximum for large p. Unit of its arguments."""
    larger = np.maximum(np.maximum(left, right), _SMALLEST)
    norm: Array = larger * np.power(
        np.power(left / larger, exponent) + np.power(right / larger, exponent), 1.0 / exponent
    )
    return norm


def throttled(time_s: Array) -> Array:
    """`time_s` of compute at the boost clock, with the clock lowered in long kernels. Seconds."""
    square = np.square(time_s)
    return time_s * (1.0 + THROTTLED * square / (square + LONG_KERNEL_S**2))


def cached_fraction(working_set_byte: Number, usable_cache_byte: float) -> Array:
    """Share of a working set that the last-level cache serves: nearly all while it fits, nearly none at twice that."""
    share: Array = 1.0 / (1.0 + np.power(working_set_byte / max(usable_cache_byte, 1.0), 3.0))
    return share


def second_per_byte(
    operand_byte: Array, other_byte: Number, copies: Array, fitted: CacheParameters, chip: Chip
) -> Array:
    """Seconds per byte of a working set of `copies` of the large operand (keys and values) and `other_byte`.

    The share that the last-level cache keeps between executions comes at its rate, the rest at DRAM's, which
    is no higher: what DRAM delivers passes the cache.
    """
    kept = cached_fraction(copies * operand_byte + other_byte, fitted.cache_fraction * chip.cache_byte)
    dram_s = 1.0 / (fitted.dram_fraction * chip.dram_byte_per_s)
    cache_s = min(1.0 / (fitted.cache_byte_per_clock * chip.unit_count * chip.clock_hz), dram_s)
    return (1.0 - kept) * dram_s + kept * cache_s
