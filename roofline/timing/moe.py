"""How long the routed experts of a mixture-of-experts layer take: grouped GEMMs over the experts that tokens touch."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from ..structs import FLOP_PER_FMA, STORED_BYTE, Array, Dtype, Number
from .blocks import timed_in_blocks
from .chip import Chip
from .loop import MODEL_STEP, BenchmarkLoop, missed_fraction, must_come_from_dram_byte
from .parameter import parameter
from .routing import ExpertRows, Remainder, Routing, busiest_rank
from .tiles import TileKernel
from .time import Time

K_STEP_BYTE = 128.0
"""Bytes along K of one step of the main loop."""

WAVE_ROUNDING = 0.3
"""Share of a last, partly filled wave that is lost: tiles of an expert layer differ, so that units end at other times.
Fits to A100 and H100 cannot tell it from 0.1."""

BLOCK_ROWS = 512
"""Scenarios per block: each has its own axis of expert loads."""


@dataclass(frozen=True, slots=True)
class GroupedSet:
    """Tiles of a grouped-GEMM kernel. `shipped_for`: (local experts, intermediate) with a tuned configuration.

    Other shapes run the `default` tiles; None: all shapes are tuned. A default tile is used between `above_m` and
    `up_to_m` tokens per local expert.
    """

    tuned: tuple[TileKernel, ...]
    default: tuple[TileKernel, ...] = ()
    shipped_for: tuple[tuple[float, float], ...] | None = None


_TRITON = tuple(
    TileKernel(m, n)
    for m, n in (
        (16, 32),
        (16, 64),
        (16, 128),
        (32, 64),
        (32, 128),
        (64, 64),
        (64, 128),
        (128, 64),
        (128, 128),
        (128, 256),
    )
)


Choices = tuple[tuple[TileKernel, float, NDArray[np.bool_]], ...]
"""Tiles, the share of the tuned matrix rate that each reaches, and where in a block it may be used."""


class GroupedLibrary(Enum):
    """Grouped-GEMM kernels by name, as a calibration declares them."""

    TRITON = GroupedSet(_TRITON)
    TRITON_SHIPPED_A100 = GroupedSet(
        tuned=_TRITON,
        default=(TileKernel(16, 32, up_to_m=1), TileKernel(64, 64, above_m=1)),
        shipped_for=((1, 14336), (8, 7168), (8, 4096), (8, 3584), (8, 2048), (8, 1792), (16, 2688), (128, 192)),
    )


@dataclass(frozen=True, slots=True)
class MoeParameters:
    """What datasheets do not say about a fused MoE kernel; rates of a compute unit are per FLOP of its peak."""

    launch_s: float = parameter(
        1.8e-5, low=2e-6, high=2e-4, ideal=0.0, unit="s", meaning="start and end of all kernels of the layer"
    )
    expert_sort_s: float = parameter(
        1.5e-6, low=1e-8, high=2e-5, ideal=0.0, unit="s", meaning="grouping rows by expert, per doubling of experts"
    )
    matrix_fraction: float = parameter(
        0.6, low=0.1, high=1.0, ideal=1.0, unit="1", meaning="fraction of the dense peak that a full tile reaches"
    )
    dram_fraction: float = parameter(
        0.88, low=0.2, high=1.0, ideal=1.0, unit="1", meaning="fraction of the DRAM bandwidth that weights stream at"
    )
    feed_byte_per_flop: float = parameter(
        0.0075, low=0.001, high=0.1, ideal=np.inf, unit="byte/FLOP", meaning="operands from L2 per peak FLOP of a unit"
    )
    store_byte_per_flop: float = parameter(
        0.0025, low=0.0003, high=0.1, ideal=np.inf, unit="byte/FLOP", meaning="write-back of a tile, not overlapped"
    )
    stream_byte_per_clock: float = parameter(
        12.0,
        low=2.0,
        high=64.0,
        ideal=np.inf,
        unit="byte/clock",
        meaning="activation and summing of expert outputs, per compute unit",
    )
    misalignment: float = parameter(
        4.0,
        low=0.01,
        high=10.0,
        ideal=0.0,
        unit="1",
        meaning="slowdown per halving of the alignment of rows of K below 16 elements",
    )
    cache_fraction: float = parameter(
        0.4, low=0.1, high=2.0, ideal=1.0, unit="1", meaning="share of the last-level cache that keeps weights"
    )
    untuned_fraction: float = parameter(
        0.6,
        low=0.2,
        high=1.0,
        ideal=1.0,
        unit="1",
        meaning="share of the matrix rate of tuned tiles that the default tiles reach (libraries that have both)",
    )
    cold_feed: float = parameter(
        0.7,
        low=0.2,
        high=1.0,
        ideal=1.0,
        unit="1",
        meaning="share of the feed from L2 that is left where the rows to multiply do not fit in it",
    )
    overlap: float = parameter(
        2.0,
        low=1.0,
        high=8.0,
        ideal=np.inf,
        unit="1",
        meaning="exponent of the norm of compute and DRAM time: 1 is one after the other",
    )
    library: GroupedLibrary = field(default=GroupedLibrary.TRITON)
    remainder: Remainder = field(default=Remainder.SPREAD)
    """How the generator of the measured rows dealt with rows left by rounding; of no matter to a model's step."""


def moe_time(
    token: Number,
    hidden: Number,
    intermediate: Number,
    per_token: Number,
    experts: Number,
    *,
    ranks: Number = 1.0,
    chip: Chip,
    parameters: MoeParameters,
    routing: Routing,
    activation: Dtype = Dtype.BF16,
    weight: Dtype = Dtype.BF16,
    loop: BenchmarkLoop = MODEL_STEP,
) -> Time:
    """Seconds of one gated expert layer, routing weights given, on the busiest of `ranks` ranks; elementwise.

    `token` tokens, each to `per_token` of `experts`, which are spread over `ranks`; `intermediate` is this device's
    share of an expert's width (tensor parallelism divides it); `routing` says how unevenly experts are picked.
    Counts grouping of rows, gate-and-up and down products with each expert's rows padded to a tile, the activation
    between them and the weighted sum over all rows. The roofline counts the FLOP of the rank's expected rows and its
    touched experts' weights once. Ignores the router, shared experts and communication between ranks.
    """
    formula = _Formula(chip, parameters, routing, STORED_BYTE[activation], STORED_BYTE[weight])
    operands = (token, hidden, intermediate, per_token, experts, ranks, loop.operand_copies, loop.launch_floor_s)
    return timed_in_blocks(formula, *operands, block_size=BLOCK_ROWS)


@dataclass(frozen=True, slots=True)
class _Formula:
    """The MoE model for one-dimensional blocks."""

    chip: Chip
    parameters: MoeParameters
    routing: Routing
    activation_byte: float
    weight_byte: float

    def __call__(
        self,
        token: Array,
        hidden: Array,
        intermediate: Array,
        per_token: Array,
        experts: Array,
        ranks: Array,
        copies: Array,
        launch_floor_s: Array,
    ) -> Time:
        chip, fitted = self.chip, self.parameters
        load = busiest_rank(self.routing, token, per_token, experts, ranks)
        touched = load.touched_experts
        weight_byte = 3.0 * touched * hidden * intermediate * self.weight_byte
        missed = missed_fraction(copies * weight_byte, fitted.cache_fraction * chip.cache_byte)
        choices = self.choices(token, intermediate, load.local_experts)
        products = (
            self.product(load, np.minimum(token, load.rows), touched, missed, 2.0 * intermediate, hidden, choices),
            self.product(load, load.rows, touched, missed, hidden, intermediate, choices),
        )
        compute_s = products[0][0] + products[1][0]
        memory_s = products[0][1] + products[1][1]
        product_s = products[0][2] + products[1][2]

        all_rows = token * per_token
        stream_byte = 2.0 * (all_rows * (3.0 * intermediate + hidden) + token * hidden)
        stream_byte += 2.0 * (all_rows - load.rows) * (hidden + 2.0 * intermediate)
        unit_byte_per_s = fitted.stream_byte_per_clock * chip.unit_count * chip.clock_hz
        stream_s = stream_byte / np.minimum(unit_byte_per_s, 0.95 * chip.dram_byte_per_s)
        overhead_s = fitted.launch_s + fitted.expert_sort_s * np.log2(1.0 + np.minimum(experts, all_rows))

        flop = FLOP_PER_FMA * 3.0 * load.rows * hidden * intermediate
        other_byte = 2.0 * token * hidden * 2.0
        dram = must_come_from_dram_byte(weight_byte, other_byte, chip.cache_byte, BenchmarkLoop(copies))
        roofline_s = np.maximum(flop / chip.flop_per_s, dram / chip.dram_byte_per_s)
        total_s = np.maximum(np.maximum(overhead_s + product_s + stream_s, roofline_s), launch_floor_s)
        overhead_s = np.maximum(overhead_s, launch_floor_s)
        return Time(compute_s, memory_s + stream_s, np.zeros(token.shape), overhead_s, total_s, roofline_s)

    def choices(self, token: Array, intermediate: Array, local_experts: Array) -> Choices:
        """Each tile of the library and where it may be used."""
        library = self.parameters.library.value
        if library.shipped_for is None:
            return tuple((kernel, 1.0, np.ones(token.shape, dtype=bool)) for kernel in library.tuned)
        tuned = np.zeros(token.shape, dtype=bool)
        for shipped_experts, shipped_intermediate in library.shipped_for:
            tuned |= (local_experts == shipped_experts) & (intermediate == shipped_intermediate)
        crowd = token / local_experts
        in_range = {kernel: (crowd > kernel.above_m) & (crowd <= kernel.up_to_m) for kernel in library.default}
        default = ((kernel, self.parameters.untuned_fraction, ~tuned & usable) for kernel, usable in in_range.items())
        return (*((kernel, 1.0, tuned) for kernel in library.tuned), *default)

    def product(
        self, load: ExpertRows, inputs: Array, touched: Array, missed: Array, n: Array, k: Array, choices: Choices
    ) -> tuple[Array, Array, Array]:
        """Seconds in the compute units, in DRAM, and of both together, of one grouped product."""
        chip, fitted = self.chip, self.parameters
        once_byte = missed * touched * n * k * self.weight_byte + load.rows * (n + k) * 2.0
        dram_s = once_byte / (fitted.dram_fraction * chip.dram_byte_per_s)
        best_s = np.full(n.shape, np.inf)
        compute_s = np.zeros(n.shape)
        overlap = fitted.overlap
        for candidate_s, usable in self.candidates(load, inputs, n, k, choices):
            both_s = np.power(np.power(candidate_s, overlap) + np.power(dram_s, overlap), 1.0 / overlap)
            faster = usable & (both_s < best_s)
            np.copyto(best_s, both_s, where=faster)
            np.copyto(compute_s, candidate_s, where=faster)
        return compute_s, dram_s, best_s

    def candidates(
        self, load: ExpertRows, inputs: Array, n: Array, k: Array, choices: Choices
    ) -> Iterator[tuple[Array, NDArray[np.bool_]]]:
        """Seconds in the compute units, and where the tile may be used, of every tile.

        Tiles of all columns of an expert read its rows again: from L2 where the `inputs` rows that are multiplied fit
        there. vLLM 0.14 on A100 makes 110 to 133 TFLOP/s up to 4,096 tokens of 8 kB, and 80 to 91 from 12,288 on.
        """
        chip, fitted = self.chip, self.parameters
        unit_flop_per_s = chip.flop_per_s / chip.unit_count
        depth = K_STEP_BYTE / self.activation_byte
        aligned = np.gcd(k.astype(np.int64), 16).astype(np.float64)
        slowdown = 1.0 + fitted.misalignment * np.log2(16.0 / aligned)
        steps = np.ceil(k / depth)
        cold = missed_fraction(inputs * k * self.activation_byte, fitted.cache_fraction * chip.cache_byte)
        feed_byte_per_flop = fitted.feed_byte_per_flop * (1.0 - (1.0 - fitted.cold_feed) * cold)
        blocks_of = {m: load.blocks(m) for m in {kernel.m for kernel, _, _ in choices}}
        for kernel, fraction, usable in choices:
            blocks = blocks_of[kernel.m]
            used_m = np.minimum(load.rows / np.maximum(blocks, 1e-9), kernel.m)
            waves = blocks * np.ceil(n / kernel.n) / chip.unit_count
            paid_waves = np.where(waves > 1.0, waves + WAVE_ROUNDING * (np.ceil(waves) - waves), 1.0)
            matrix_flop = FLOP_PER_FMA * kernel.m * kernel.n * depth / (fitted.matrix_fraction * fraction)
            operand_byte = (used_m * self.activation_byte + kernel.n * self.weight_byte) * depth
            step_flop = np.maximum(matrix_flop, operand_byte / feed_byte_per_flop)
            store_flop = used_m * kernel.n * 2.0 / fitted.store_byte_per_flop
            compute_s = paid_waves * (steps * step_flop * slowdown + store_flop) / unit_flop_per_s
            yield compute_s, usable
