"""The steady state of candidates: one pool of replicas, or prefill and decode apart with the cache sent between."""

from dataclasses import replace

import numpy as np

from ..device import Device, Link
from ..serving.disaggregated import Pools as ServingPools
from ..serving.disaggregated import disaggregated_state
from ..serving.engine import Limits
from ..serving.steady import SteadyState, steady_state
from ..serving.step import ServedModel
from ..serving.traffic import OpenLoop
from ..structs import Array
from .curve import CurvedModel, Curves, curved
from .request import PlanRequest, Pools
from .space import Grid, Structure, between


def limits_of(request: PlanRequest, candidates: Grid) -> Limits:
    """The engine limits of each candidate."""
    limits = request.engine.limits
    return replace(limits, max_batch_token=candidates.max_batch_token, max_sequence=candidates.max_sequence)


def steady(
    structure: Structure, candidates: Grid, request: PlanRequest, served: ServedModel, made: Curves, byte: Array
) -> SteadyState:
    """The SteadyState of each candidate, told of one replica (of the decode pool where there are two).

    `byte`: bytes for the KV cache, shape (candidates, stages).
    """
    match structure.pools:
        case Pools.AGGREGATED:
            traffic = OpenLoop(candidates.request_per_s / candidates.replicas, request.arrival_cv2)
            return steady_state(_model(candidates, request, served, made, byte), traffic, request.lengths)
        case Pools.DISAGGREGATED:
            return _two_pools(structure, candidates, request, served, made, byte)


def _model(candidates: Grid, request: PlanRequest, served: ServedModel, made: Curves, byte: Array) -> CurvedModel:
    """A replica of each candidate."""
    budgets = np.array(request.max_batch_tokens, dtype=np.float64)
    budget = np.searchsorted(budgets, candidates.max_batch_token)
    return curved(served, made, limits_of(request, candidates), replace(served.memory, byte=byte), budget)


def _two_pools(
    structure: Structure, candidates: Grid, request: PlanRequest, served: ServedModel, made: Curves, byte: Array
) -> SteadyState:
    """Prefill replicas make the first token, the cache is sent, decode replicas make the others: as `roofline predict
    --disaggregated` has it (serving.disaggregated). Told of one decode replica, as the loads of its pool are.
    """
    device = structure.offer.device
    pools = ServingPools(
        candidates.prefill_replicas,
        candidates.replicas,
        joining(device, candidates.pooled * structure.size),
        device.efficiency.link,
    )
    traffic = OpenLoop(candidates.request_per_s, request.arrival_cv2)
    state = disaggregated_state(_model(candidates, request, served, made, byte), pools, traffic, request.lengths)
    each = candidates.replicas
    return replace(state, **{name: getattr(state, name) / each for name in SHARED})


SHARED = (
    "request_per_s",
    "output_token_per_s",
    "input_token_per_s",
    "batch",
    "running",
    "saturation_request_per_s",
    "slots",
)
"""Figures of a SteadyState that count all replicas of a pool."""


def joining(device: Device, device_count: Array) -> Link:
    """The link over which the devices of both pools hand over: inside the node where all of them fit into one."""
    inside, outside = device.intra_node, between(device)
    assert outside is not None  # structures without a link between replicas are refused
    if inside is None:
        return outside
    within = device_count <= np.max(inside.domain_size)
    return Link(
        np.where(within, inside.bandwidth_byte_per_s, outside.bandwidth_byte_per_s),  # type: ignore[arg-type]
        outside.domain_size,
        np.where(within, inside.latency_s, outside.latency_s),  # type: ignore[arg-type]
    )
