"""What can be built: every split, format and engine limit that model, devices and links allow, before any is timed."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from ..device import Device
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

    def take(self, index: NDArray[np.bool_] | slice) -> "Grid":
        """Those candidates that `index` picks."""
        return Grid(*(getattr(self, name)[index] for name in Grid.__slots__))


@dataclass(frozen=True, slots=True)
class Refused:
    """Structures that cannot be built, with the reason and the candidates that they would have had."""

    structure: Structure
    reason: Reason
    text: str


def grid(structure: Structure, request: PlanRequest) -> Grid:
    """Every candidate of `structure`: replicas that the devices allow, times the engine limits and rates asked for."""
    replicas, prefill = _replicas(structure, request)
    axes = (
        np.arange(replicas.size),
        np.array(request.max_sequences, dtype=np.float64),
        np.array(request.max_batch_tokens, dtype=np.float64),
        np.array(request.rates),
    )
    which, sequence, budget, rate = (axis.ravel() for axis in np.meshgrid(*axes, indexing="ij"))
    return Grid(replicas[which], prefill[which], sequence, budget, rate)


def _replicas(structure: Structure, request: PlanRequest) -> tuple[Array, Array]:
    """Replicas of the pool (or of the decode pool), and of a prefill pool beside it, for every number of devices."""
    most = request.max_devices // structure.size
    least = most if request.fill else -(-request.least_devices // structure.size)
    counts = np.arange(1.0, most + 1.0)
    match structure.pools:
        case Pools.AGGREGATED:
            kept = counts[counts >= least]
            return kept, np.zeros(kept.size)
        case Pools.DISAGGREGATED:
            decode, prefill = (side.ravel() for side in np.meshgrid(counts, counts, indexing="ij"))
            within = (decode + prefill <= most) & (decode + prefill >= least)
            return decode[within], prefill[within]


def grid_size(structure: Structure, request: PlanRequest) -> int:
    """Candidates of `structure`."""
    limits = len(request.max_sequences) * len(request.max_batch_tokens) * len(request.rates)
    return int(_replicas(structure, request)[0].size) * limits


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
    if not reached(device, structure.split):
        return Reason.LINK, f"link: no links join {structure.size} x {device.name} for this split."
    try:
        for dtype in {precision.weights, precision.experts, precision.activations, precision.kv}:
            device.arithmetic(dtype)
    except RooflineError as error:
        return Reason.FORMAT, str(error)
    return None
