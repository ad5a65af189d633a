"""How long a matrix product takes on a device that runs tiles in waves, and the quantise kernel before it.

The study behind it: a library offers a few tiles and split-K factors and takes about the fastest; tiles are rounded
up, run in waves, are fed from L2, write back their result unoverlapped; DRAM traffic overlaps with all that.
"""

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..structs import FLOP_PER_FMA, STORED_BYTE, Array, Dtype, Number, arithmetic_dtype
from .blocks import fourth_power_norm, timed_in_blocks
from .chip import Chip
from .loop import MODEL_STEP, BenchmarkLoop, missed_fraction, must_come_from_dram_byte
from .parameter import parameter
from .tiles import TileLibrary, TileSet
from .time import Time

BLOCK_CANDIDATES = 32768
"""Candidates timed at a time, of several shapes: 256 KiB a temporary, a few of which fit the second cache."""

PARTIAL_SUM_BYTE = 8.0
"""Split-K writes a partial sum in fp32 to L2 and reads it back: 2 x 4 bytes per output and split."""

FILLED_STEPS = 4.0
"""Steps of the main loop that its pipeline holds; each costs extra time while it fills."""


@dataclass(frozen=True, slots=True)
class GemmParameters:
    """What datasheets do not say about a GEMM library on a device; rates of a compute unit are per FLOP of its peak."""

    launch_s: float = parameter(
        2.8e-6, low=0.5e-6, high=3e-5, ideal=0.0, unit="s", meaning="start and end of one kernel in a graph"
    )
    matrix_fraction: float = parameter(
        0.88, low=0.2, high=1.0, ideal=1.0, unit="1", meaning="fraction of the dense peak that a full tile reaches"
    )
    dram_fraction: float = parameter(
        0.80, low=0.2, high=1.0, ideal=1.0, unit="1", meaning="fraction of the DRAM bandwidth that streaming reaches"
    )
    feed_byte_per_flop: float = parameter(
        0.0165, low=0.003, high=0.1, ideal=np.inf, unit="byte/FLOP", meaning="operands from L2 per peak FLOP of a unit"
    )
    step_flop_per_byte: float = parameter(
        5.5e3, low=3e2, high=3e4, ideal=0.0, unit="FLOP/byte", meaning="shortest step of the main loop, per byte of K"
    )
    fill_flop_per_byte: float = parameter(
        1e3, low=1.0, high=3e4, ideal=0.0, unit="FLOP/byte", meaning="extra of each step that fills the pipeline"
    )
    store_byte_per_flop: float = parameter(
        0.0051, low=0.001, high=0.05, ideal=np.inf, unit="byte/FLOP", meaning="write-back of a tile, not overlapped"
    )
    wave_rounding: float = parameter(
        0.3, low=0.01, high=1.0, ideal=0.0, unit="1", meaning="share of a last, partly filled wave that is lost"
    )
    split_s: float = parameter(
        2.4e-6, low=0.2e-6, high=3e-5, ideal=0.0, unit="s", meaning="second kernel that sums the parts of a split K"
    )
    cache_fraction: float = parameter(
        0.6, low=0.2, high=2.0, ideal=1.0, unit="1", meaning="share of the last-level cache that keeps operands"
    )
    convert_flop_per_value: float = parameter(
        25.0, low=0.5, high=500.0, ideal=0.0, unit="FLOP", meaning="widening one weight in registers (weight-only)"
    )
    library: TileLibrary = field(default=TileLibrary.CUBLAS_HOPPER)


@dataclass(frozen=True, slots=True)
class QuantiseParameters:
    """What datasheets do not say about the kernel that quantises activations before a GEMM."""

    launch_s: float = parameter(
        1.9e-6, low=0.2e-6, high=3e-5, ideal=0.0, unit="s", meaning="start and end of the kernel or kernels"
    )
    dram_fraction: float = parameter(
        0.80, low=0.1, high=1.0, ideal=1.0, unit="1", meaning="fraction of the DRAM bandwidth that it reaches"
    )
    read_passes: float = 1.0
    """Times the input is read: 1 where a scale per row is found on the way, 2 where one per tensor comes first."""


def gemm_time(
    m: Number,
    n: Number,
    k: Number,
    *,
    chip: Chip,
    parameters: GemmParameters,
    activation: Dtype = Dtype.BF16,
    weight: Dtype = Dtype.BF16,
    output: Dtype = Dtype.BF16,
    products: Number = 1.0,
    loop: BenchmarkLoop = MODEL_STEP,
) -> Time:
    """Seconds of C[m,n] = A[m,k] · W[n,k]; elementwise over broadcast m, n, k.

    `products`: independent ones of a batched call, each with its own A, W and C; their tiles share the waves.
    Counts 2·m·n·k FLOP at `chip`'s rate (that of the wider of the two formats), A and W read once from DRAM (W from
    cache where the loop keeps it there) and C written once. Ignores alignment of odd sizes, clock throttling, bias and
    activation in the epilogue; a quantise kernel before it is `quantise_time`. Weights stored narrower than A are
    widened in registers, once per tile of M.
    """
    widened = float(arithmetic_dtype(activation, weight) is not weight)
    formula = _Formula(
        chip,
        parameters,
        loop,
        activation_byte=STORED_BYTE[activation],
        weight_byte=STORED_BYTE[weight],
        output_byte=STORED_BYTE[output],
        convert_flop=parameters.convert_flop_per_value * widened,
    )
    operands = (m, n, k, products, loop.operand_copies, loop.launch_floor_s)
    candidates = sum(len(tile.splits) for tile in parameters.library.value.kernels)
    return timed_in_blocks(formula, *operands, block_size=BLOCK_CANDIDATES // candidates)


def quantise_time(
    row: Number,
    width: Number,
    *,
    chip: Chip,
    parameters: QuantiseParameters,
    target: Dtype = Dtype.FP8,
) -> Time:
    """Seconds to scale and narrow `row` x `width` activations from BF16 to `target`; elementwise.

    Counts the input read `read_passes` times and the result written once, from and to DRAM; ignores scales and
    arithmetic.
    """
    read, written = STORED_BYTE[Dtype.BF16] * row * width, STORED_BYTE[target] * row * width
    memory = (parameters.read_passes * read + written) / (parameters.dram_fraction * chip.dram_byte_per_s)
    zero = np.zeros_like(memory)
    roofline = np.asarray((read + written) / chip.dram_byte_per_s)
    launch = zero + parameters.launch_s
    return Time(zero, np.asarray(memory), zero, launch, np.maximum(memory + launch, roofline), roofline)


@dataclass(frozen=True, slots=True)
class _Formula:
    """The GEMM model for one-dimensional blocks of m, n, k."""

    chip: Chip
    parameters: GemmParameters
    loop: BenchmarkLoop
    activation_byte: float
    weight_byte: float
    output_byte: float
    convert_flop: float

    def __call__(self, m: Array, n: Array, k: Array, products: Array, copies: Array, launch_floor_s: Array) -> Time:
        chip, fitted = self.chip, self.parameters
        weight = products * n * k * self.weight_byte
        other = products * m * (k * self.activation_byte + n * self.output_byte)
        usable_cache = fitted.cache_fraction * chip.cache_byte
        dram_byte = missed_fraction(copies * weight + other, usable_cache) * weight
        dram_byte += missed_fraction(weight + other, usable_cache) * other
        memory_s = dram_byte / (fitted.dram_fraction * chip.dram_byte_per_s)

        busy_s, compute_s, sum_s = self.fastest(m, n, k, products, memory_s)
        dram = must_come_from_dram_byte(weight, other, chip.cache_byte, BenchmarkLoop(copies))
        roofline_s = np.maximum(FLOP_PER_FMA * products * m * n * k / chip.flop_per_s, dram / chip.dram_byte_per_s)
        total_s = np.maximum(np.maximum(fitted.launch_s + busy_s, roofline_s), launch_floor_s)
        overhead_s = np.maximum(fitted.launch_s + sum_s, launch_floor_s)
        return Time(compute_s, memory_s, np.zeros(m.shape), overhead_s, total_s, roofline_s)

    def fastest(self, m: Array, n: Array, k: Array, products: Array, memory_s: Array) -> tuple[Array, Array, Array]:
        """Seconds of the fastest candidate with DRAM at work beside it, in its compute units, and to sum its parts.

        A candidate is a tile with a split of K: all are timed together, along a first axis; those that the library
        considers nowhere in the block are dropped before the larger part of the work.
        """
        chip, fitted, rule = self.chip, self.parameters, self.parameters.library.value
        unit_flop_per_s = chip.flop_per_s / chip.unit_count
        tiles, tile_of, splits = _candidates(rule)
        along = (..., *(None,) * m.ndim)
        tile_m, tile_n, above_m, up_to_m, cluster_m, k_slices = tiles[along]
        depth = rule.k_step_byte / self.activation_byte
        tile_count = np.ceil(m / (tile_m * cluster_m)) * cluster_m * np.ceil(n / tile_n) * products
        could_grow = (tile_m < np.minimum(m, rule.large_side)) | (tile_n < np.minimum(n, rule.large_side))
        could_grow &= 2.0 * tile_m * tile_n <= rule.large_area
        rows = np.maximum(m, 1.0)  # an empty product is launched all the same
        in_range = (rows > above_m) & (rows <= up_to_m)
        most_waves = np.where(in_range, np.where(could_grow, rule.most_small_waves, np.inf), -1.0)

        split, least_steps, most_split_waves = splits[along]
        steps = np.ceil(np.ceil(k / (depth * k_slices))[tile_of] / split)
        waves = tile_count[tile_of] * split / chip.unit_count
        considered = waves <= np.minimum(most_waves[tile_of], most_split_waves)
        considered &= steps >= least_steps
        kept = np.flatnonzero(considered.any(axis=tuple(range(1, considered.ndim))))
        tile_of, split, steps, waves, considered = (
            values[kept] for values in (tile_of, split, steps, waves, considered)
        )

        used_m, used_n = np.minimum(tile_m, m), np.minimum(tile_n, n)
        operand_byte = (used_m * self.activation_byte + used_n * self.weight_byte) * depth
        matrix_flop = FLOP_PER_FMA * tile_m * tile_n * depth / fitted.matrix_fraction
        step_flop = np.maximum(matrix_flop, operand_byte / fitted.feed_byte_per_flop)
        step_flop = k_slices * (step_flop + self.convert_flop * used_n * depth)
        store_flop = used_m * used_n * self.output_byte / fitted.store_byte_per_flop
        floor_flop = fitted.step_flop_per_byte * rule.k_step_byte
        fill_flop = fitted.fill_flop_per_byte * rule.k_step_byte

        whole_waves = np.ceil(waves)
        lost_waves = np.where(waves > 1.0, fitted.wave_rounding, 1.0) * (whole_waves - waves)
        loop_flop = steps * np.maximum((waves + lost_waves) * step_flop[tile_of], whole_waves * floor_flop)
        fill = fill_flop * np.minimum(steps - 1.0, FILLED_STEPS)
        compute_s = (loop_flop + whole_waves * store_flop[tile_of] + fill) / unit_flop_per_s
        summed = split > 1.0
        part_s = PARTIAL_SUM_BYTE * products * m * n / (fitted.feed_byte_per_flop * chip.flop_per_s)
        sum_s = summed * fitted.split_s + (summed * split) * part_s
        busy_s = np.where(considered, fourth_power_norm(compute_s, memory_s) + sum_s, np.inf)
        first = busy_s.argmin(axis=0)[None]
        busy_s, compute_s, sum_s = (
            np.take_along_axis(values, first, axis=0)[0] for values in (busy_s, compute_s, sum_s)
        )
        return busy_s, compute_s, sum_s


@lru_cache(maxsize=64)
def _candidates(rule: TileSet) -> tuple[Array, NDArray[np.intp], Array]:
    """What a library offers: its tiles, shape (facts, tiles); of every candidate its tile, and, shape (facts,
    candidates), its split with the fewest steps and the most waves that it is considered with. Pure, so remembered.
    """
    tiles = [(tile.m, tile.n, tile.above_m, tile.up_to_m, tile.cluster_m, tile.k_slices) for tile in rule.kernels]
    tile_of = [index for index, tile in enumerate(rule.kernels) for _ in tile.splits]
    split = np.array([split for tile in rule.kernels for split in tile.splits])
    least_steps = np.where(split > 1.0, rule.least_split_steps, 0.0)
    most_waves = np.where(split > 1.0, rule.most_split_waves, np.inf)
    return np.array(tiles).T, np.array(tile_of), np.array([split, least_steps, most_waves])
