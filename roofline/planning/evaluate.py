"""Steady state, money and energy of every candidate of a structure, and the verdict on them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..economics import device_power_w, usd_per_device_hour
from ..footprint import kv_byte_per_sequence
from ..serving.lengths import normal_quantile
from ..serving.memory import KvMemory
from ..serving.spread import PERCENTILES, Spread
from ..serving.steady import SteadyState
from ..structs import Array, Number
from .pools import steady
from .replica import Replica
from .request import PlanRequest, Reason
from .rows import Rows, joined
from .space import Grid, Structure, grid
from .verdict import Miss, Verdict, first, met, metric, verdict

BLOCK = 8192
"""Candidates evaluated at a time: their arrays stay in cache, and memory bounded."""


def judge(structure: Structure, position: int, request: PlanRequest, replica: Replica) -> Verdict:
    """The Verdict on all candidates of `structure`, the `position`-th of its search, made of `replica`.

    Candidates that a bound rules out are counted and not evaluated: a replica that holds no request, and service levels
    or rates beyond the bare roofline.
    """
    everything = grid(structure, request)
    memory = replica.memory(everything)
    ratios: dict[Reason, Number] = {Reason.MEMORY: _fullness(structure, memory, request)}
    if np.min(ratios[Reason.MEMORY]) <= 1.0:
        floor, level = replica.floor, request.level
        ratios[Reason.TTFT_FLOOR] = floor.ttft_s / level.ttft_s
        ratios[Reason.TPOT_FLOOR] = floor.tpot_s / level.tpot_s
        ratios[Reason.RATE_FLOOR] = everything.request_per_s / everything.pooled * floor.request_s
    sieve = _sieve(ratios, position, everything.size)
    left = everything.take(sieve.left)
    rows = evaluate(structure, position, left, request, replica, memory.byte[sieve.left])
    tp = float(structure.split.tp)
    found = verdict(rows, request, tp, sieve.counts, sieve.misses)
    return found if request.sure or not found.best.size else replace(found, sure=_sure(found, rows, structure, replica))


def _sure(found: Verdict, rows: Rows, structure: Structure, replica: Replica) -> Rows:
    """The best of `rows` that meets the level at the slow end of its band; none where no point of `found` does.

    Points first: they have the most headroom for their devices, so that where none of them holds, hardly anything does.
    Where one holds, it bounds what is left to look at: only what ranks before it.
    """
    request, tp = replica.request, float(structure.split.tp)

    def holding(tried: Rows) -> Rows:
        candidates = grid_of(tried)
        slow = at_slow_end(tried, structure, candidates, request, replica, replica.memory(candidates).byte)
        return tried.take(met(slow, request.level))

    known = first(holding(joined([found.best, found.points.take(met(found.points, request.level))])), request, tp)
    if not known.size:
        return known
    fine = rows.take(met(rows, request.level))
    return first(joined([known, holding(fine.take(metric(fine, request) <= metric(known, request)))]), request, tp)


def grid_of(rows: Rows) -> Grid:
    """The numbers of evaluated candidates."""
    return Grid(rows.replicas, rows.prefill_replicas, rows.max_sequence, rows.max_batch_token, rows.request_per_s)


def at_slow_end(
    rows: Rows, structure: Structure, candidates: Grid, request: PlanRequest, replica: Replica, byte: Array
) -> Rows:
    """`rows` of `candidates`, with what is held against the service level taken at the slow end of their bands: the
    steady state with every step as slow as its band allows, and TTFT at least as slow as served rows were.
    """
    state = steady(structure, candidates, request, replica.served, replica.ends[1], byte)
    percentile, widest = request.level.percentile, float(request.engine.ttft_band.high)
    load = candidates.request_per_s / candidates.replicas / np.maximum(state.saturation_request_per_s, 1e-30)
    return replace(
        rows,
        held_ttft_s=np.maximum(at_percentile(state.ttft_s, percentile), rows.ttft_s * widest),
        held_tpot_s=at_percentile(state.tpot_s, percentile),
        held_load=load,
    )


class Sieve(NamedTuple):
    """What bounds leave: a mask over the candidates; how many each reason ruled out, and by how little at least."""

    left: NDArray[np.bool_]
    counts: dict[Reason, int]
    misses: dict[Reason, Miss]


def _sieve(ratios: Mapping[Reason, Number], position: int, size: int) -> Sieve:
    """Candidates whose ratios are all at most 1; each of the others goes to the first reason that it exceeds."""
    left, counts, misses = np.ones(size, dtype=bool), {}, {}
    for reason, ratio in ratios.items():
        out = left & (ratio > 1.0)
        if out.any():
            counts[reason] = int(out.sum())
            misses[reason] = Miss(float(np.min(np.broadcast_to(ratio, size)[out])), position, None)
            left = left & ~out
    return Sieve(left, counts, misses)


def _fullness(structure: Structure, memory: KvMemory, request: PlanRequest) -> Array:
    """Memory that weights, activations, reserve and one request need over the memory there is. Shape (candidates,)."""
    length = np.float64(request.lengths.prompt.mean) + request.lengths.output.mean
    held = kv_byte_per_sequence(request.model, length, structure.precision, structure.split)
    usable = request.engine.limits.memory_fraction * structure.offer.device.dram.capacity_byte
    return np.asarray(np.max(1.0 + (held - memory.byte) / usable, axis=-1))


def evaluate(
    structure: Structure, position: int, candidates: Grid, request: PlanRequest, replica: Replica, byte: Array
) -> Rows:
    """The Rows of `candidates` of `structure`. `byte`: for the KV cache, shape (candidates, stages)."""
    found = []
    for start in range(0, candidates.size, BLOCK):
        block = slice(start, start + BLOCK)
        part = candidates.take(block)
        state = steady(structure, part, request, replica.served, replica.curves, byte[block])
        rows = rows_of(structure, position, part, request, state)
        if request.sure:
            rows = at_slow_end(rows, structure, part, request, replica, byte[block])
        found.append(rows)
    return joined(found)


def rows_of(structure: Structure, position: int, candidates: Grid, request: PlanRequest, state: SteadyState) -> Rows:
    """The Rows of candidates whose replicas are each in `state`."""
    offer, percentile = structure.offer, request.level.percentile
    load = candidates.request_per_s / candidates.replicas / np.maximum(state.saturation_request_per_s, 1e-30)
    n_devices = candidates.pooled * structure.size
    power_w = device_power_w(offer.device, np.minimum(load, 1.0))
    usd = np.nan if offer.site.tariff is None else usd_per_device_hour(offer.site.tariff, power_w, offer.site.pue)
    token_per_s = candidates.request_per_s * request.lengths.output.mean
    ttft_s, tpot_s = at_percentile(state.ttft_s, percentile), at_percentile(state.tpot_s, percentile)
    return Rows(
        structure=np.full(candidates.size, float(position)),
        n_devices=n_devices,
        replicas=candidates.replicas,
        prefill_replicas=candidates.prefill_replicas,
        max_sequence=candidates.max_sequence,
        max_batch_token=candidates.max_batch_token,
        request_per_s=candidates.request_per_s,
        ttft_s=ttft_s,
        tpot_s=tpot_s,
        mean_ttft_s=state.ttft_s.mean,
        mean_tpot_s=state.tpot_s.mean,
        load=load,
        usd_per_hour=n_devices * usd,
        joule_per_token=n_devices * power_w * offer.site.pue / token_per_s,
        held_ttft_s=ttft_s,
        held_tpot_s=tpot_s,
        held_load=load,
    )


NORMAL = normal_quantile(np.array(PERCENTILES))
"""Standard normal quantiles of the percentiles that a Spread holds."""


def at_percentile(spread: Spread, percentile: float) -> Array:
    """The time that `percentile` of 100 requests stay below: between the percentiles that are known, straight on normal
    paper (time against the normal quantile), and beyond them too. Elementwise.
    """
    known = np.stack(np.broadcast_arrays(*(spread.at(round(100.0 * share)) for share in PERCENTILES)))
    wanted = normal_quantile(percentile / 100.0)
    below = int(np.clip(np.searchsorted(NORMAL, wanted, side="right") - 1, 0, NORMAL.size - 2))
    share = float((wanted - NORMAL[below]) / (NORMAL[below + 1] - NORMAL[below]))
    with np.errstate(invalid="ignore"):
        found = known[below] * (1.0 - share) + known[below + 1] * share
    return np.where(np.isfinite(known[-1]), found, np.inf)
