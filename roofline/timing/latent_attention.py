"""How long multi-head latent attention takes, with the products that expand or absorb its latent keys and values.

Two forms of the same mathematics (DeepSeek-V2, arXiv 2405.04434, section 2.1): expanded, keys and values of every head
are computed from the latent and attention runs as usual; absorbed, queries are projected into the latent space and all
heads share one key of `kv_rank + rope_dim` values whose first `kv_rank` are its value, too.
"""

from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from ..kernels.attention import causal_pair_count
from ..structs import FLOP_PER_FMA, NO_WINDOW, Array, Number
from .attention_common import EXPONENTIAL_PER_CLOCK, Tile, power_norm, rounded_waves, throttled
from .blocks import fourth_power_norm, timed_in_blocks
from .chip import Chip
from .loop import MODEL_STEP, BenchmarkLoop, must_come_from_dram_byte
from .parameter import parameter
from .prefill_attention import key_blocks
from .time import Time

VALUE_BYTE = 2.0
"""Bytes of one activation or weight."""

PARTIAL_BYTE = 8.0
"""A partial result of split keys is written and read in fp32."""

BALANCE = 1.5
"""Norm of mean load and longest tile of the expanded form."""


@dataclass(frozen=True, slots=True)
class LatentFacts:
    """How a backend runs the two forms.

    Calls of at most `absorbed_up_to` new tokens run absorbed. `absorbed`: rows are query heads x new tokens, columns
    latent keys; `tile_per_token` keeps tokens apart; keys are split `splits` ways (0: to fill the units).
    `pads_value`: expanded values are padded to the head dimension of the keys. `single_head_on_vector`: one head per
    device runs another kernel, without the matrix unit.
    """

    absorbed_up_to: float
    absorbed: Tile
    expanded: Tile
    splits: float = 0.0
    tile_per_token: bool = False
    pads_value: bool = False
    single_head_on_vector: bool = False


class LatentKernel(Enum):
    """MLA backends by name, as a calibration declares them (vLLM 0.14)."""

    TRITON = LatentFacts(
        1.0, Tile(np.inf, 16, 32), Tile(np.inf, 64, 128), splits=4.0, pads_value=True, single_head_on_vector=True
    )
    FLASH_ATTENTION_3 = LatentFacts(512.0, Tile(np.inf, 64, 64), Tile(np.inf, 128, 128))
    FLASH_MLA = LatentFacts(127.0, Tile(np.inf, 128, 64), Tile(np.inf, 128, 128), tile_per_token=True)


@dataclass(frozen=True, slots=True)
class LatentAttentionParameters:
    """What datasheets do not say about an MLA backend on a device. Cycles are of one compute unit at boost clock."""

    launch_s: float = parameter(5e-5, low=1e-6, high=3e-4, ideal=0.0, unit="s", meaning="start and end of all kernels")
    dram_fraction: float = parameter(
        0.85, low=0.3, high=1.0, ideal=1.0, unit="1", meaning="fraction of the DRAM bandwidth that streaming reaches"
    )
    product_fraction: float = parameter(
        0.7, low=0.2, high=1.0, ideal=1.0, unit="1", meaning="fraction of the peak in products that expand or absorb"
    )
    absorbed_fraction: float = parameter(
        0.7, low=0.05, high=1.0, ideal=1.0, unit="1", meaning="fraction of the peak inside a block of the absorbed form"
    )
    absorbed_tile_cycle: float = parameter(
        6000.0, low=10.0, high=1e5, ideal=0.0, unit="cycle", meaning="start and end of one tile of the absorbed form"
    )
    feed_byte_per_clock: float = parameter(
        30.0, low=1.0, high=500.0, ideal=np.inf, unit="byte/cycle", meaning="latent keys that one unit works through"
    )
    vector_slowdown: float = parameter(
        3.0, low=1.0, high=10.0, ideal=1.0, unit="1", meaning="block time of a single head without the matrix unit"
    )
    expanded_fraction: float = parameter(
        0.75, low=0.2, high=1.0, ideal=1.0, unit="1", meaning="fraction of the peak inside a block of the expanded form"
    )
    exponential_exposed: float = parameter(
        0.3, low=0.01, high=3.0, ideal=0.0, unit="1", meaning="share of softmax time that products do not hide"
    )
    expanded_tile_cycle: float = parameter(
        2500.0, low=10.0, high=5e4, ideal=0.0, unit="cycle", meaning="start and end of one tile of the expanded form"
    )
    expanded_passes: float = parameter(
        4.0, low=0.2, high=20.0, ideal=2.0, unit="1", meaning="times that expanded keys and values cross DRAM"
    )
    expanded_host_ratio: float = parameter(
        1.0, low=0.5, high=2.0, ideal=1.0, unit="1", meaning="eager host time, expanded over absorbed form"
    )
    kernel: LatentKernel = field(default=LatentKernel.FLASH_ATTENTION_3)


def latent_attention_time(
    sequences: Number,
    new_token: Number,
    context: Number,
    heads: Number,
    kv_rank: Number,
    rope_dim: Number,
    nope_dim: Number,
    value_dim: Number,
    *,
    kv_byte: Number = 2.0,
    chip: Chip,
    parameters: LatentAttentionParameters,
    loop: BenchmarkLoop = MODEL_STEP,
) -> Time:
    """Seconds of latent attention of `sequences` x `new_token` queries on `context` cached latents and their own.

    Elementwise. Counts the products with W_UK and W_UV (their weights read once), every latent read once, expanded keys
    and values written and read, causal blocks, splits and their combination. Ignores the down-projections, the output
    projection, rope and the cache write: kernels of their own. `loop.launch_floor_s` is that of the absorbed form.
    """
    formula = _Formula(chip, parameters)
    shape = (sequences, new_token, context, heads, kv_rank, rope_dim, nope_dim, value_dim, kv_byte)
    return timed_in_blocks(formula, *shape, loop.operand_copies, loop.launch_floor_s)


@dataclass(frozen=True, slots=True)
class _Shape:
    """The dimensions of a block of calls."""

    sequences: Array
    new_token: Array
    context: Array
    heads: Array
    kv_rank: Array
    rope_dim: Array
    nope_dim: Array
    value_dim: Array
    kv_byte: Array

    @property
    def key(self) -> Array:
        return self.context + self.new_token

    @property
    def query(self) -> Array:
        """Query vectors: one per sequence, new token and head."""
        return self.sequences * self.new_token * self.heads

    @property
    def latent_byte(self) -> Array:
        """Bytes of all cached latents that are read."""
        return np.asarray(self.sequences * self.key * (self.kv_rank + self.rope_dim) * self.kv_byte)

    @property
    def weight_value(self) -> Array:
        """Values of W_UK and W_UV."""
        return self.heads * self.kv_rank * (self.nope_dim + self.value_dim)

    @property
    def pair(self) -> Array:
        """(query, key) pairs of all sequences and heads."""
        pairs = causal_pair_count(self.new_token, self.context, NO_WINDOW)
        return np.asarray(self.sequences * self.heads * pairs)


@dataclass(frozen=True, slots=True)
class _Formula:
    """The model of latent attention for one-dimensional blocks of shapes."""

    chip: Chip
    parameters: LatentAttentionParameters

    def __call__(self, *operands: Array) -> Time:
        *dims, copies, launch_floor_s = operands
        chip, fitted, shape = self.chip, self.parameters, _Shape(*dims)
        absorbed_s, absorbed_compute_s, absorbed_memory_s, absorbed_flop = self.absorbed(shape)
        expanded_compute_s, expanded_memory_s, expanded_flop = self.expanded(shape)
        absorb = shape.new_token <= fitted.kernel.value.absorbed_up_to
        compute_s = np.where(absorb, absorbed_compute_s, expanded_compute_s)
        memory_s = np.where(absorb, absorbed_memory_s, expanded_memory_s)
        busy_s = np.where(absorb, absorbed_s, compute_s + memory_s)

        other_byte = shape.query * (shape.nope_dim + shape.rope_dim + shape.value_dim) * VALUE_BYTE
        other_byte += shape.weight_value * VALUE_BYTE
        dram = must_come_from_dram_byte(shape.latent_byte, other_byte, chip.cache_byte, BenchmarkLoop(copies))
        flop = np.minimum(absorbed_flop, expanded_flop)
        roofline_s = np.maximum(flop / chip.flop_per_s, dram / chip.dram_byte_per_s)
        launch_s = np.full(busy_s.shape, fitted.launch_s)
        launch_floor_s = launch_floor_s * np.where(absorb, 1.0, fitted.expanded_host_ratio)
        total_s = np.maximum(np.maximum(launch_s + busy_s, roofline_s), launch_floor_s)
        overhead_s = np.maximum(launch_s, launch_floor_s)
        return Time(compute_s, memory_s, np.zeros(busy_s.shape), overhead_s, total_s, roofline_s)

    def absorbed(self, shape: _Shape) -> tuple[Array, Array, Array, Array]:
        """Seconds of the absorbed form, of them in the units and of memory, and FLOP.

        Attention overlaps with the latents that it reads; the products around it are kernels of their own.
        """
        chip, fitted, facts = self.chip, self.parameters, self.parameters.kernel.value
        row, column = facts.absorbed.row, facts.absorbed.column
        key_dim = shape.kv_rank + shape.rope_dim
        apart = shape.new_token * np.ceil(shape.heads / row)
        together = np.ceil(shape.new_token * shape.heads / row)
        tiles = shape.sequences * (apart if facts.tile_per_token else together)
        step = np.minimum(np.maximum(row / shape.heads, 1.0), shape.new_token)
        full, width = np.full(step.shape, NO_WINDOW), np.full(step.shape, column)
        blocks = key_blocks(shape.new_token, shape.context, full, step, step, width)
        filling = np.maximum(np.minimum(np.floor(chip.unit_count / tiles), blocks.mean), 1.0)
        split = np.minimum(facts.splits, shape.key) if facts.splits else filling
        walked = np.ceil(blocks.mean / split)
        rows = np.minimum(row, np.maximum(shape.new_token * shape.heads, 1.0))
        flop = FLOP_PER_FMA * (key_dim + shape.kv_rank)
        matrix_cycle = rows * column * flop / (chip.flop_per_clock * fitted.absorbed_fraction)
        block_cycle = np.maximum(matrix_cycle, column * key_dim * shape.kv_byte / fitted.feed_byte_per_clock)
        on_vector = facts.single_head_on_vector * (shape.heads <= 1.0)
        block_cycle = block_cycle * (1.0 + (fitted.vector_slowdown - 1.0) * on_vector)
        cycle = fitted.absorbed_tile_cycle + walked * block_cycle
        attention_s = rounded_waves(tiles * split / chip.unit_count) * cycle / chip.clock_hz

        project_flop = FLOP_PER_FMA * shape.sequences * shape.new_token * shape.weight_value
        projected_s = project_flop / (chip.flop_per_s * fitted.product_fraction)
        moved_byte = 2.0 * shape.query * (key_dim + shape.kv_rank) * VALUE_BYTE
        moved_byte += (split > 1.0) * split * shape.query * shape.kv_rank * PARTIAL_BYTE
        moved_byte += shape.weight_value * VALUE_BYTE
        byte_s = 1.0 / (fitted.dram_fraction * chip.dram_byte_per_s)
        read_s, moved_s = shape.latent_byte * byte_s, moved_byte * byte_s
        total_s = fourth_power_norm(attention_s, read_s) + fourth_power_norm(projected_s, moved_s)
        return total_s, attention_s + projected_s, read_s + moved_s, project_flop + flop * shape.pair

    def expanded(self, shape: _Shape) -> tuple[Array, Array, Array]:
        """Seconds in the units, seconds of memory, and FLOP of the expanded form."""
        chip, fitted, facts = self.chip, self.parameters, self.parameters.kernel.value
        row, column = facts.expanded.row, facts.expanded.column
        key_dim = shape.nope_dim + shape.rope_dim
        computed_dim = key_dim + (key_dim if facts.pads_value else shape.value_dim)
        full = np.full(key_dim.shape, NO_WINDOW)
        step, grid = np.full(key_dim.shape, row), np.asarray(np.gcd(int(row), int(column)), dtype=np.float64)
        blocks = key_blocks(shape.new_token, shape.context, full, step, grid, np.asarray(column))
        product = FLOP_PER_FMA * computed_dim / (chip.flop_per_clock * fitted.expanded_fraction)
        block_cycle = row * column * (product + fitted.exponential_exposed / EXPONENTIAL_PER_CLOCK)
        load = shape.sequences * shape.heads * np.ceil(shape.new_token / row) / chip.unit_count
        mean_cycle = rounded_waves(load) * (fitted.expanded_tile_cycle + blocks.mean * block_cycle)
        longest_cycle = fitted.expanded_tile_cycle + blocks.longest * block_cycle
        attention_s = throttled(power_norm(BALANCE, mean_cycle, longest_cycle) / chip.clock_hz)

        expand_flop = FLOP_PER_FMA * shape.sequences * shape.key * shape.weight_value
        expanded_s = expand_flop / (chip.flop_per_s * fitted.product_fraction)
        key_value_byte = shape.sequences * shape.key * shape.heads * (key_dim + shape.value_dim) * VALUE_BYTE
        query_byte = 2.0 * shape.query * (key_dim + shape.value_dim) * VALUE_BYTE
        moved_byte = fitted.expanded_passes * key_value_byte + query_byte + shape.latent_byte
        memory_s = moved_byte / (fitted.dram_fraction * chip.dram_byte_per_s)
        flop = FLOP_PER_FMA * (key_dim + shape.value_dim) * shape.pair
        return attention_s + expanded_s, memory_s, expand_flop + flop
