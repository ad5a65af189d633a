"""Steady state, money and energy of every candidate of a structure, and the verdict on them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..economics import device_power_w, usd_per_device_hour
from ..footprint import kv_byte_per_sequence
from ..serving.engine import Limits
from ..serving.lengths import normal_quantile
from ..serving.memory import KvMemory, kv_memory
from ..serving.spread import PERCENTILES, Spread
from ..serving.steady import SteadyState, steady_state
from ..serving.step import ServedModel, served_model
from ..serving.traffic import OpenLoop
from ..structs import Array, Number
from ..workload import AttentionKind, Scenario
from .curve import Curves, LineTimes, curved, curves, line_times
from .floor import floor_of
from .request import PlanRequest, Reason
from .rows import Rows, joined
from .space import Grid, Structure, grid
from .verdict import Miss, Verdict, verdict

BLOCK = 8192
"""Candidates evaluated at a time: their arrays stay in cache, and memory bounded."""


def judge(structure: Structure, position: int, request: PlanRequest) -> Verdict:
    """The Verdict on all candidates of `structure`, the `position`-th of its search.

    Candidates that a bound rules out are counted and not evaluated: a replica that holds no request, and service levels
    or rates beyond the bare roofline.
    """
    everything = grid(structure, request)
    served = served_of(structure, request)
    memory = memory_of(structure, served, everything, request)
    ratios: dict[Reason, Number] = {Reason.MEMORY: _fullness(structure, memory, request)}
    rows = joined([])
    if np.min(ratios[Reason.MEMORY]) <= 1.0:
        lines = lines_of(served, request)
        floor, level = floor_of(lines, request, served.replicas), request.level
        ratios[Reason.TTFT_FLOOR] = floor.ttft_s / level.ttft_s
        ratios[Reason.TPOT_FLOOR] = floor.tpot_s / level.tpot_s
        ratios[Reason.RATE_FLOOR] = everything.request_per_s / everything.replicas * floor.request_s
        sieve = _sieve(ratios, position, everything.size)
        left = everything.take(sieve.left)
        rows = evaluate(structure, position, left, request, replace(served, times=lines), memory.byte[sieve.left])
    else:
        sieve = _sieve(ratios, position, everything.size)
    return verdict(rows, request, float(structure.split.tp), sieve.counts, sieve.misses)


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


def served_of(structure: Structure, request: PlanRequest) -> ServedModel:
    """One replica of `structure` under the engine that is asked for."""
    scenario = Scenario(1.0, 1.0, 1.0, structure.precision, structure.split, AttentionKind.FUSED)
    offer = structure.offer
    return served_model(request.model, offer.device, offer.calibration, scenario, request.engine)


def memory_of(structure: Structure, served: ServedModel, candidates: Grid, request: PlanRequest) -> KvMemory:
    """The KvMemory of each candidate."""
    limits = limits_of(request, candidates)
    return kv_memory(request.model, structure.offer.device, served.memory.scenario, limits)


def limits_of(request: PlanRequest, candidates: Grid) -> Limits:
    """The engine limits of each candidate."""
    limits = request.engine.limits
    return replace(limits, max_batch_token=candidates.max_batch_token, max_sequence=candidates.max_sequence)


def _fullness(structure: Structure, memory: KvMemory, request: PlanRequest) -> Array:
    """Memory that weights, activations, reserve and one request need over the memory there is. Shape (candidates,)."""
    length = np.float64(request.lengths.prompt.mean) + request.lengths.output.mean
    held = kv_byte_per_sequence(request.model, length, structure.precision, structure.split)
    usable = request.engine.limits.memory_fraction * structure.offer.device.dram.capacity_byte
    return np.asarray(np.max(1.0 + (held - memory.byte) / usable, axis=-1))


def workload(request: PlanRequest) -> tuple[float, float, Array]:
    """Mean prompt, mean cached tokens while generating, and the token budgets to try."""
    prompt, output = float(request.lengths.prompt.mean), float(request.lengths.output.mean)
    return prompt, prompt + output / 2.0, np.array(request.max_batch_tokens, dtype=np.float64)


def lines_of(served: ServedModel, request: PlanRequest) -> LineTimes:
    """The LineTimes of a replica for the request's workload."""
    prompt, context, budgets = workload(request)
    largest = float(max(request.max_sequences))
    most = max(float(budgets.max()), min(prompt, float(budgets.max()))) + largest * 2.0
    return line_times(served.times, most, largest, prompt, context)


def evaluate(
    structure: Structure, position: int, candidates: Grid, request: PlanRequest, served: ServedModel, byte: Array
) -> Rows:
    """The Rows of `candidates` of `structure`. `byte`: for the KV cache, shape (candidates, stages)."""
    if not candidates.size:
        return joined([])
    prompt, context, budgets = workload(request)
    made = curves(served, budgets, float(max(request.max_sequences)), prompt, context)
    found = []
    for start in range(0, candidates.size, BLOCK):
        block = slice(start, start + BLOCK)
        part = candidates.take(block)
        state = steady(part, request, served, made, byte[block])
        found.append(rows_of(structure, position, part, request, state))
    return joined(found)


def steady(candidates: Grid, request: PlanRequest, served: ServedModel, made: Curves, byte: Array) -> SteadyState:
    """The SteadyState of one deployment of each candidate: one of its replicas."""
    budget = np.searchsorted(workload(request)[2], candidates.max_batch_token)
    model = curved(served, made, limits_of(request, candidates), replace(served.memory, byte=byte), budget)
    rate = candidates.request_per_s / candidates.replicas
    return steady_state(model, OpenLoop(rate, request.arrival_cv2), request.lengths)


def rows_of(structure: Structure, position: int, candidates: Grid, request: PlanRequest, state: SteadyState) -> Rows:
    """The Rows of candidates whose replicas are each in `state`."""
    offer, percentile = structure.offer, request.level.percentile
    load = candidates.request_per_s / candidates.replicas / np.maximum(state.saturation_request_per_s, 1e-30)
    n_devices = (candidates.replicas + candidates.prefill_replicas) * structure.size
    power_w = device_power_w(offer.device, np.minimum(load, 1.0))
    usd = np.nan if offer.site.tariff is None else usd_per_device_hour(offer.site.tariff, power_w, offer.site.pue)
    token_per_s = candidates.request_per_s * request.lengths.output.mean
    return Rows(
        structure=np.full(candidates.size, float(position)),
        n_devices=n_devices,
        replicas=candidates.replicas,
        prefill_replicas=candidates.prefill_replicas,
        max_sequence=candidates.max_sequence,
        max_batch_token=candidates.max_batch_token,
        request_per_s=candidates.request_per_s,
        ttft_s=at_percentile(state.ttft_s, percentile),
        tpot_s=at_percentile(state.tpot_s, percentile),
        mean_ttft_s=state.ttft_s.mean,
        mean_tpot_s=state.tpot_s.mean,
        load=load,
        usd_per_hour=n_devices * usd,
        joule_per_token=n_devices * power_w * offer.site.pue / token_per_s,
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
