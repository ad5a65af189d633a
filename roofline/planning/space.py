"""What can be built: every split, format and engine limit that model, devices and links allow, before any is timed."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from ..device import Device, Link
from ..errors import InfeasibleError, RooflineError
from ..model import Model, Moe
from ..structs import Array
from ..transformer import check_parallelism
from ..workload import Parallelism, Precision
from .request import Offer, PlanRequest, Pools, Reason

POWERS = tuple(2**i for i in range(13))
"""Ranks along one axis of a split: engines and model shapes favour powers of two; other splits are not searched."""

DEEPEST = 16
"""Most pipeline stages that are searched."""


@dataclass(frozen=True, slots=True)
class Structure:
    """What decides the kernels of a candidate: everything but its numbers. `split` is that of one replica."""

    offer: Offer
    precision: Precision
    split: Parallelism
    pools: Pools

    @property
    def size(self) -> int:
        """Devices of one replica."""
        return self.split.device_count


@dataclass(frozen=True, slots=True)
class Grid:
    """The numbers of a structure's candidates, flat, one entry a candidate. `replicas`: of the only pool, or of the
    decode pool beside `prefill_replicas` (0 without one). `request_per_s`: the rate that all of them serve together.
    """

    replicas: Array
    prefill_replicas: Array
    max_sequence: Array
    max_batch_token: Array
    request_per_s: Array

    @property
    def size(self) -> int:
        """Candidates."""
        return int(self.replicas.size)

    @property
    def pooled(self) -> Array:
        """Replicas of all pools."""
        return self.replicas + self.prefill_replicas

    def take(self, index: NDArray[np.bool_] | NDArray[np.intp] | slice) -> "Grid":
        """Those candidates that `index` picks."""
        return Grid(*(getattr(self, name)[index] for name in Grid.__slots__))


@dataclass(frozen=True, slots=True)
class Refused:
    """Structures that cannot be built, with the reason and the candidates that they would have had."""

    structure: Structure
    reason: Reason
    text: str


def _limits(structure: Structure, request: PlanRequest) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Sequences and token budgets to try. They trade TTFT against TPOT where prompts and decodes share steps; pools of
    their own have nothing to trade: the largest alone.
    """
    match structure.pools:
        case Pools.AGGREGATED:
            return request.max_sequences, request.max_batch_tokens
        case Pools.DISAGGREGATED:
            return request.max_sequences[-1:], request.max_batch_tokens[-1:]


def _range(structure: Structure, request: PlanRequest) -> tuple[int, int]:
    """Fewest and most replicas of all pools."""
    most = request.max_devices // structure.size
    return max(most if request.fill else -(-request.least_devices // structure.size), 1), most


def grid(structure: Structure, request: PlanRequest) -> Grid:
    """Every candidate of `structure`: replicas that the devices allow, times the engine limits and rates asked for."""
    least, most = _range(structure, request)
    counts = np.arange(1.0, most + 1.0)
    match structure.pools:
        case Pools.AGGREGATED:
            replicas = counts[counts >= least]
            prefill = np.zeros(replicas.size)
        case Pools.DISAGGREGATED:
            replicas, prefill = (side.ravel() for side in np.meshgrid(counts, counts, indexing="ij"))
            within = (replicas + prefill <= most) & (replicas + prefill >= least)
            replicas, prefill = replicas[within], prefill[within]
    sequences, budgets = (np.array(limit, dtype=np.float64) for limit in _limits(structure, request))
    axes = (np.arange(replicas.size), sequences, budgets, np.array(request.rates))
    which, sequence, budget, rate = (axis.ravel() for axis in np.meshgrid(*axes, indexing="ij"))
    return Grid(replicas[which], prefill[which], sequence, budget, rate)


def grid_size(structure: Structure, request: PlanRequest) -> int:
    """Candidates of `structure`, counted without making them."""
    least, most = _range(structure, request)
    sequences, budgets = _limits(structure, request)
    match structure.pools:
        case Pools.AGGREGATED:
            pools = max(most - least + 1, 0)
        case Pools.DISAGGREGATED:
            pools = max(_pairs(most) - _pairs(least - 1), 0)
    return pools * len(sequences) * len(budgets) * len(request.rates)


def _pairs(most: int) -> int:
    """Pairs of whole numbers from 1 on that add up to at most `most`."""
    return max(most * (most - 1) // 2, 0)


def splits(model: Model, most: int) -> Iterator[Parallelism]:
    """Splits of one replica over up to `most` devices. Experts: inside a replica, or over `dp` ranks of attention.

    Dense models and whole experts need no `dp`: more replicas are the same thing.
    """
    mixture = any(isinstance(layer.mlp, Moe) for layer in model.layers)
    ranks = [n for n in POWERS if n <= most]
    for pp, tp in product([n for n in ranks if n <= min(DEEPEST, len(model.layers))], ranks):
        if tp * pp > most:
            continue
        yield Parallelism(tp, pp, 1, 1)
        if mixture and tp > 1:
            yield Parallelism(tp, pp, tp, 1)
        if mixture and pp == 1:
            yield from (Parallelism(tp, 1, tp * dp, dp) for dp in ranks if dp > 1 and tp * dp <= most)


def reached(device: Device, split: Parallelism) -> bool:
    """Whether links join the devices of a replica. TP exchanges every layer: it stays inside a node."""
    inside = 1.0 if device.intra_node is None else device.intra_node.domain_size
    linked = inside if device.inter_node is None else device.inter_node.domain_size
    return bool(split.tp <= inside and split.device_count <= max(inside, linked))


def between(device: Device) -> Link | None:
    """The link over which replicas send to each other: between nodes, else inside one."""
    return device.inter_node or device.intra_node


def structures(request: PlanRequest) -> tuple[tuple[Structure, ...], tuple[Refused, ...]]:
    """The structures that can be built, and those that cannot, with the reason. Memory is not looked at yet."""
    built: list[Structure] = []
    refused: list[Refused] = []
    for offer in request.offers:
        for precision, split, pools in product(
            offer.precisions, splits(request.model, request.max_devices), request.pools
        ):
            structure = Structure(offer, precision, split, pools)
            if grid_size(structure, request):
                problem = _problem(request.model, structure)
                if problem is None:
                    built.append(structure)
                else:
                    refused.append(Refused(structure, *problem))
    return tuple(built), tuple(refused)


def _problem(model: Model, structure: Structure) -> tuple[Reason, str] | None:
    """Why a structure cannot exist, or None."""
    precision, device = structure.precision, structure.offer.device
    try:
        check_parallelism(model, structure.split)
    except InfeasibleError as error:
        return Reason.SHAPE, str(error)
    if not reached(device, structure.split) or (structure.pools is Pools.DISAGGREGATED and between(device) is None):
        return Reason.LINK, f"link: no links join {structure.size} x {device.name} for this split."
    try:
        for dtype in {precision.weights, precision.experts, precision.activations, precision.kv}:
            device.arithmetic(dtype)
    except RooflineError as error:
        return Reason.FORMAT, str(error)
    return None
