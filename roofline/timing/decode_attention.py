"""How long attention of one new token per sequence takes: keys are split over units, queries of a group share a tile.

A backend may have two kernels behind one op: a grouped one (queries that share a KV head share a tile of the matrix
unit) and a vector one (a block of threads per query head, no matrix unit), with a rule that picks.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..kernels.attention import key_count
from ..structs import FLOP_PER_FMA, Array, Number
from .attention_common import (
    MATRIX_ROW,
    WAVE_ROUNDING,
    power_norm,
    rounded_waves,
    second_per_byte,
    softmax_cycle,
    tile_sizes,
)
from .blocks import timed_in_blocks, where
from .chip import Chip
from .decode_kernels import Auxiliary, DecodeKernel, VectorKernel
from .loop import MODEL_STEP, BenchmarkLoop, must_come_from_dram_byte
from .parameter import Scaling, facts_of, parameter
from .split_rules import chosen_splits
from .time import Time

OVERLAP = 2.5
"""Exponent of the norm of compute and memory time of the pass over the keys."""

QUERY_BYTE = 2.0
"""Bytes of one query or output value."""

PARTIAL_BYTE = 4.0
"""Bytes of one value of a partial result of split keys (fp32)."""

MASK_AREA = 128.0 * 128.0
"""Scores of the tile that `window_cycle` is stated for."""

SCHEDULER_SEQUENCES = 31.0
"""Sequences that one step of the tile scheduler of FlashAttention-3 handles (a warp less one lane)."""

SCHEDULER_LIMIT = 992.0
"""Most sequences that this scheduler plans; its kernel passes larger batches on."""


CONTIGUOUS_COPY = 0.5
"""A copy of contiguous data, in further small kernels."""


@dataclass(frozen=True, slots=True)
class DecodeAttentionParameters:
    """What datasheets do not say about decode kernels on a device. Cycles are of one compute unit at boost clock."""

    launch_s: float = parameter(6e-6, low=1e-6, high=4e-5, ideal=0.0, unit="s", meaning="start and end of the op")
    kernel_s: float = parameter(
        3e-6, low=1e-7, high=2e-5, ideal=0.0, unit="s", meaning="each further small kernel that waits for the last one"
    )
    tile_cycle: float = parameter(
        2500.0,
        low=1.0,
        high=1e5,
        ideal=0.0,
        unit="cycle",
        meaning="start, first loads and end of one grouped tile",
        scaling=Scaling.WITH_CLOCK,
    )
    row_cycle: float = parameter(
        30.0, low=0.1, high=300.0, ideal=0.0, unit="cycle", meaning="extra per query head of a group"
    )
    feed_byte_per_clock: float = parameter(
        25.0,
        low=1.0,
        high=500.0,
        ideal=np.inf,
        unit="byte/cycle",
        meaning="keys and values one unit works through",
    )
    window_cycle: float = parameter(
        3000.0, low=1.0, high=3e4, ideal=0.0, unit="cycle", meaning="masking 128 x 128 scores where a window hides some"
    )
    token_cycle: float = parameter(
        1200.0, low=0.1, high=1e5, ideal=0.0, unit="cycle", meaning="writing one token to the KV cache, where in the op"
    )
    dram_fraction: float = parameter(
        0.9, low=0.3, high=1.0, ideal=1.0, unit="1", meaning="fraction of the DRAM bandwidth that reading keys reaches"
    )
    cache_fraction: float = parameter(
        0.4, low=0.1, high=2.0, ideal=1.0, unit="1", meaning="share of the last-level cache that keeps keys and values"
    )
    cache_byte_per_clock: float = parameter(
        30.0, low=4.0, high=300.0, ideal=np.inf, unit="byte/cycle", meaning="last-level cache to one compute unit"
    )
    combine_s: float = parameter(
        1.5e-6, low=1e-8, high=2e-5, ideal=0.0, unit="s", meaning="adding up the parts of split keys"
    )
    split_s: float = parameter(1e-7, low=1e-9, high=2e-6, ideal=0.0, unit="s", meaning="extra of that per split")
    schedule_s: float = parameter(
        5e-7, low=1e-8, high=2e-5, ideal=0.0, unit="s", meaning="one step of the planning kernel (SEQUENCE_SCHEDULER)"
    )
    vector_cycle: float = parameter(
        8000.0, low=10.0, high=1e5, ideal=0.0, unit="cycle", meaning="start and end of one block of the vector kernel"
    )
    ramp_cycle: float = parameter(
        2000.0, low=1.0, high=5e4, ideal=0.0, unit="cycle", meaning="its first pass with all threads at work"
    )
    writes_cache: bool = False
    """Whether the op as measured includes the kernel that writes the new key and value to the cache."""
    kernel: DecodeKernel = field(default=DecodeKernel.FLASH_ATTENTION_3)

    def fitted(self) -> tuple[str, ...]:
        """The parameters (at most 12) that this kernel has and a fit may change."""
        facts = self.kernel.value
        unused = {"vector_cycle", "ramp_cycle"} if facts.vector is None else set()
        if facts.adds_in_passing:
            unused.add("split_s")
        if facts.auxiliary is not Auxiliary.SEQUENCE_SCHEDULER:
            unused.add("schedule_s")
        if not self.writes_cache or facts.writes_in_passing:
            unused.add("token_cycle")
        tells_kernels = facts.vector is not None and self.writes_cache and not facts.appends_itself
        if facts.auxiliary is not Auxiliary.LAYOUT_COPIES and not tells_kernels:
            unused.add("kernel_s")  # nothing tells it from launch_s
        return tuple(name for name in facts_of(type(self)) if name not in unused)


def decode_attention_time(
    sequences: Number,
    context: Number,
    heads: Number,
    kv_heads: Number,
    head_dim: Number,
    window: Number,
    *,
    kv_byte: Number = 2.0,
    chip: Chip,
    parameters: DecodeAttentionParameters,
    loop: BenchmarkLoop = MODEL_STEP,
) -> Time:
    """Seconds of attention of one new token per sequence on `context` cached tokens and itself; elementwise.

    `window`: keys that a query sees, itself included. `kv_byte`: of one cached value; `chip` is that of the arithmetic
    format. Counts blocks of keys, waves of tiles x splits, the combine pass, queries and outputs, each key and value
    once from DRAM. Ignores differences in length between sequences and how pages are laid out.
    Source: Dao et al., Flash-Decoding (2023), https://crfm.stanford.edu/2023/10/12/flashdecoding.html
    """
    shape = (sequences, context, heads, kv_heads, head_dim, window, kv_byte)
    return timed_in_blocks(_Formula(chip, parameters), *shape, loop.operand_copies, loop.launch_floor_s)


class _Pass(NamedTuple):
    """One kernel's walk over the keys: turns that each place takes (a fraction), seconds of a unit in each, splits, and
    what combining and starting them adds.
    """

    waves: Array
    wave_s: Array
    split: Array
    partial_byte: Array
    extra_s: Array


@dataclass(frozen=True, slots=True)
class _Formula:
    """The decode model for one-dimensional blocks of shapes."""

    chip: Chip
    parameters: DecodeAttentionParameters

    def __call__(
        self,
        sequences: Array,
        context: Array,
        heads: Array,
        kv_heads: Array,
        head_dim: Array,
        window: Array,
        kv_byte: Array,
        copies: Array,
        launch_floor_s: Array,
    ) -> Time:
        chip, fitted, facts = self.chip, self.parameters, self.parameters.kernel.value
        seen: Array = key_count(1.0, context, window)  # type: ignore[assignment]
        shape = _Shape(sequences, context + 1.0, seen, heads, kv_heads, head_dim, window, kv_byte)
        walk = self.grouped(shape)
        if facts.vector is not None:
            group = heads / kv_heads
            blocks = np.maximum(np.floor(shape.key / facts.split.key), 1.0)
            busy = facts.vector_factor * sequences * kv_heads * blocks >= chip.unit_count
            grouped = busy & (group > 1.0) & (group <= facts.largest_group)
            walk = _either(grouped, walk, self.vector(shape, facts.vector))

        kv_moved_byte = 2.0 * sequences * kv_heads * shape.seen * head_dim * kv_byte
        query_byte = 2.0 * QUERY_BYTE * sequences * heads * head_dim
        byte_s = second_per_byte(kv_moved_byte, 0.0, copies, fitted, chip)
        waits = 0.0 if facts.combines_early else fitted.kernel_s
        each_s = 0.0 if facts.adds_in_passing else fitted.split_s
        combine_s = (walk.split > 1.0) * (waits + fitted.combine_s + each_s * walk.split + walk.partial_byte * byte_s)
        compute_s, memory_s = rounded_waves(walk.waves) * walk.wave_s, kv_moved_byte * byte_s
        overhead_s = fitted.launch_s + query_byte * byte_s + combine_s + walk.extra_s

        flop = FLOP_PER_FMA * 2.0 * sequences * heads * shape.seen * head_dim
        dram = must_come_from_dram_byte(kv_moved_byte, query_byte, chip.cache_byte, BenchmarkLoop(copies))
        roofline_s = np.maximum(flop / chip.flop_per_s, dram / chip.dram_byte_per_s)
        both_s = _wave_by_wave(walk, memory_s) if facts.waves_apart else power_norm(OVERLAP, compute_s, memory_s)
        total_s = np.maximum(overhead_s + both_s, roofline_s)
        total_s = np.maximum(total_s, launch_floor_s)
        overhead_s = np.maximum(overhead_s, launch_floor_s)
        return Time(compute_s, memory_s, np.zeros(total_s.shape), overhead_s, total_s, roofline_s)

    def grouped(self, shape: "_Shape") -> _Pass:
        """Query heads of one KV head share a tile of matrix rows."""
        chip, fitted, facts = self.chip, self.parameters, self.parameters.kernel.value
        group = shape.heads / shape.kv_heads
        hidden = shape.window < shape.key
        tile = tile_sizes(facts.tiles, shape.head_dim, group, hidden)
        row, column = tile.row, tile.column
        tiles = shape.sequences * shape.kv_heads * np.ceil(group / MATRIX_ROW)
        length = shape.key if facts.splits_whole_context else shape.seen
        split = chosen_splits(facts.split, tiles, shape.sequences, length, column, group, chip.unit_count)
        blocks = np.ceil(np.minimum(length / split, shape.seen) / column)
        share = facts.tile_head_dim_share
        cycle = fitted.tile_cycle * (1.0 - share + share * shape.head_dim / 128.0)
        padded = np.ceil(group / facts.row_multiple) * facts.row_multiple
        cycle += fitted.row_cycle * np.minimum(padded, MATRIX_ROW)
        cycle += fitted.window_cycle * row * column / MASK_AREA * hidden
        product = FLOP_PER_FMA * 2.0 * shape.head_dim / chip.flop_per_clock
        scores = blocks * column * facts.feed_limited
        rows = np.minimum(np.ceil(group / facts.product_multiple) * facts.product_multiple, MATRIX_ROW)
        cycle += facts.computes_apart * scores * rows * (product + softmax_cycle(chip))
        cycle += facts.places * scores * shape.key_byte / fitted.feed_byte_per_clock
        waves = tiles * split / (chip.unit_count * facts.places)
        shown = fitted.writes_cache and not facts.writes_in_passing
        written = shown * shape.sequences * shape.kv_heads * shape.head_dim / 128.0 / chip.unit_count
        own_append = fitted.writes_cache and not facts.appends_itself
        extra_s = fitted.token_cycle * written / chip.clock_hz + own_append * fitted.kernel_s
        extra_s += self.auxiliary_s(shape, group)
        partial_byte = PARTIAL_BYTE * split * shape.sequences * shape.heads * shape.head_dim
        return _Pass(waves, cycle / chip.clock_hz, split, partial_byte, extra_s)

    def auxiliary_s(self, shape: "_Shape", group: Array) -> Array:
        """Seconds of the small kernels around the grouped kernel."""
        kernel_s = np.float64(self.parameters.kernel_s)
        match self.parameters.kernel.value.auxiliary:
            case Auxiliary.NONE:
                return np.zeros(group.shape)
            case Auxiliary.LAYOUT_COPIES:
                grouped = group > 1.0
                copied = grouped & (shape.kv_heads > 1.0) & (shape.sequences > 1.0)
                return 2.0 * (kernel_s * copied) + CONTIGUOUS_COPY * (kernel_s * grouped)
            case Auxiliary.SEQUENCE_SCHEDULER:
                steps = np.ceil(shape.sequences / SCHEDULER_SEQUENCES) * (shape.sequences <= SCHEDULER_LIMIT)
                return kernel_s + self.parameters.schedule_s * steps

    def vector(self, shape: "_Shape", facts: VectorKernel) -> _Pass:
        """One block of threads per query head."""
        chip, fitted = self.chip, self.parameters
        size = shape.head_dim / 128.0
        tiles = shape.sequences * shape.heads
        room = np.clip(np.ceil(facts.places * chip.unit_count / tiles), 1.0, facts.places)
        places = facts.places / np.exp2(np.floor(np.log2(room)))
        wanted = np.floor(shape.seen * size / facts.split_key) + 1.0
        split = np.minimum(wanted, np.ceil(chip.unit_count / tiles))
        keys = shape.seen / split * places
        passes = np.ceil(keys * shape.key_byte / facts.pass_byte)
        share = self.parameters.kernel.value.tile_head_dim_share
        cycle = fitted.vector_cycle * (1.0 - share + share * size)
        cycle += fitted.ramp_cycle * size * np.minimum(keys / facts.ramp_key, 1.0)
        cycle += (passes - 1.0) * facts.pass_byte / fitted.feed_byte_per_clock
        cycle += fitted.window_cycle * (shape.window < shape.key)
        waves = tiles * split / (chip.unit_count * places)
        none = np.zeros(tiles.shape)
        return _Pass(waves, cycle / chip.clock_hz, split, none, none)


class _Shape(NamedTuple):
    """The dimensions of a block. `key`: cached keys and the new one; `seen`: those in the window."""

    sequences: Array
    key: Array
    seen: Array
    heads: Array
    kv_heads: Array
    head_dim: Array
    window: Array
    kv_byte: Array

    @property
    def key_byte(self) -> Array:
        """Bytes of one key and its value."""
        return 2.0 * self.head_dim * self.kv_byte


def _wave_by_wave(walk: _Pass, memory_s: Array) -> Array:
    """Seconds of waves one after another, each as long as its units and its share of `memory_s` take together."""
    full = np.floor(walk.waves)
    rest = walk.waves - full
    lost = where(full > 0.0, WAVE_ROUNDING + (1.0 - WAVE_ROUNDING) * rest, 1.0) * (rest > 0.0)
    share_s = memory_s / walk.waves
    time_s: Array = full * power_norm(OVERLAP, walk.wave_s, share_s)
    return time_s + power_norm(OVERLAP, lost * walk.wave_s, rest * share_s)


def _either(condition: NDArray[np.bool_], left: _Pass, right: _Pass) -> _Pass:
    """`left` where `condition` holds, else `right`."""
    return _Pass(*(where(condition, yes, no) for yes, no in zip(left, right, strict=True)))
