"""The steady state of candidates: one pool of replicas, or prefill and decode apart with the cache sent between."""

from dataclasses import replace

import numpy as np

from ..footprint import kv_byte_per_sequence
from ..serving.engine import Limits
from ..serving.lengths import Fixed, Lengths
from ..serving.spread import Spread
from ..serving.steady import SteadyState, steady_state
from ..serving.step import ServedModel
from ..serving.traffic import OpenLoop
from ..structs import Array
from .curve import Curves, curved
from .request import PlanRequest, Pools
from .rows import Index
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
            return _pool(candidates, candidates.replicas, request, served, made, byte, request.lengths, 0.0)
        case Pools.DISAGGREGATED:
            return _two_pools(structure, candidates, request, served, made, byte)


def _pool(
    candidates: Grid,
    replicas: Array,
    request: PlanRequest,
    served: ServedModel,
    made: Curves,
    byte: Array,
    lengths: Lengths,
    cached: float,
) -> SteadyState:
    """One pool that the rate is spread over. `cached`: share of the prompts that another pool has prefilled."""
    budgets = np.array(request.max_batch_tokens, dtype=np.float64)
    budget = np.searchsorted(budgets, candidates.max_batch_token)
    model = curved(served, made, limits_of(request, candidates), replace(served.memory, byte=byte), budget)
    traffic = OpenLoop(candidates.request_per_s / replicas, request.arrival_cv2)
    return steady_state(model, traffic, lengths, prefix_hit=cached)


def _two_pools(
    structure: Structure, candidates: Grid, request: PlanRequest, served: ServedModel, made: Curves, byte: Array
) -> SteadyState:
    """Prefill replicas make the first token, the cache is sent, decode replicas make the others.

    TTFT adds up what the prefill pool gives, the sending, and the wait for a slot to decode in; its percentiles are
    added too, which is an upper bound. TPOT is that of decode steps without prompts in them. Each pool is computed once
    for what it depends on: the prefill pool not on max_sequence, the decode pool not on the token budget.
    """
    first = _distinct(candidates.prefill_replicas, candidates.max_batch_token, candidates.request_per_s)
    later = _distinct(candidates.replicas, candidates.max_sequence, candidates.request_per_s)
    prompt = request.lengths.prompt
    alone = candidates.take(first[0])
    prefill = _taken(
        _pool(alone, alone.prefill_replicas, request, served, made, byte[first[0]], Lengths(prompt, Fixed(1.0)), 0.0),
        first[1],
    )
    nothing = replace(made, added_s=0.0 * made.added_s, alone_s=np.full(made.alone_s.size, made.decode_s[0]))
    cached = 1.0 - 1.0 / max(float(prompt.mean), 1.0)
    after = candidates.take(later[0])
    decode = _taken(
        _pool(after, after.replicas, request, served, nothing, byte[later[0]], request.lengths, cached), later[1]
    )
    sending_s = transfer_s(structure, request)
    prefilled = prefill.saturation_request_per_s * candidates.prefill_replicas / candidates.replicas
    return replace(
        decode,
        ttft_s=_added(prefill.ttft_s, decode.queue_s).plus(sending_s),
        queue_s=_added(prefill.queue_s, decode.queue_s),
        prefill_s=prefill.prefill_s + sending_s,
        interference_s=prefill.interference_s,
        saturation_request_per_s=np.minimum(decode.saturation_request_per_s, prefilled),
    )


def transfer_s(structure: Structure, request: PlanRequest) -> float:
    """Seconds to send the cache of a mean prompt from one replica to another: every device sends its own share over the
    link between nodes (inside the node where there is no other).
    """
    link = between(structure.offer.device)
    assert link is not None  # structures without a link between replicas are refused
    token = np.float64(request.lengths.prompt.mean)
    byte = kv_byte_per_sequence(request.model, token, structure.precision, structure.split).max()
    efficiency = structure.offer.device.efficiency.link
    return float(link.latency_s + byte / (link.bandwidth_byte_per_s * efficiency))


def _distinct(*columns: Array) -> tuple[Index, Index]:
    """Positions of the distinct rows, and for every row the number of its own."""
    _, position, inverse = np.unique(np.stack(columns, axis=-1), axis=0, return_index=True, return_inverse=True)
    return position, inverse.ravel()


def _added(one: Spread, other: Spread) -> Spread:
    return Spread(*(getattr(one, name) + getattr(other, name) for name in Spread.__slots__))


def _taken(state: SteadyState, index: Index) -> SteadyState:
    """The state of the candidates at `index`."""

    def taken(value: Array | Spread) -> Array | Spread:
        match value:
            case Spread():
                return Spread(*(np.asarray(getattr(value, name))[index] for name in Spread.__slots__))
            case _:
                return np.asarray(np.broadcast_to(value, (int(index.max()) + 1,))[index])

    return SteadyState(**{name: taken(getattr(state, name)) for name in SteadyState.__slots__})  # type: ignore[arg-type]
