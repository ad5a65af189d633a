"""What a simulation comes to: spreads of times, throughput, how busy the replicas were, and how full their caches."""

from dataclasses import dataclass

import numpy as np

from ..structs import Array
from .simulation import Simulation
from .spread import PERCENTILES, Spread

BINS = 120
"""Intervals of a timeline."""


@dataclass(frozen=True, slots=True, eq=False)
class Figures:
    """Figures of a simulation over all its requests, from the first arrival to the last token.

    `tpot_s` and `itl_s` are over requests and over gaps between tokens; None where every request has a single token.
    `utilisation`: share of the time in which the replicas run a step. `decodes`, `running`, `waiting`: means over time
    of sequences that generate, are admitted, and wait, on all replicas. `kv_peak`: largest share of a replica's KV
    blocks in use. `mixed_share`: share of the steps that hold prompts.
    """

    ttft_s: Spread
    tpot_s: Spread | None
    itl_s: Spread | None
    queue_s: Spread
    e2e_s: Spread
    makespan_s: float
    request_per_s: float
    input_token_per_s: float
    output_token_per_s: float
    utilisation: float
    decodes: float
    running: float
    waiting: float
    waiting_peak: float
    kv_peak: float
    preempted_requests: int
    preemptions: int
    steps: int
    mixed_share: float
    step_s: float


def spread_of(values: Array, count: Array | None = None) -> Spread | None:
    """The Spread of observed `values`, each seen `count` times (once); NaN are left out. None where nothing is left.

    Percentiles are the smallest value that at least that share does not exceed.
    """
    count = np.ones(values.shape) if count is None else count
    known = np.isfinite(values)
    values, count = values[known], count[known]
    if values.size == 0:
        return None
    order = np.argsort(values)
    reached = np.cumsum(count[order])
    at = np.searchsorted(reached, np.array(PERCENTILES) * reached[-1] * (1.0 - 1e-12))
    mean = np.asarray(np.sum(values * count) / np.sum(count))
    return Spread(mean, *(np.asarray(value) for value in values[order][at]))


def _some(spread: Spread | None) -> Spread:
    assert spread is not None, "every request has a first token"
    return spread


def figures_of(run: Simulation) -> Figures:
    """The Figures of `run`."""
    steps, makespan_s = run.steps, run.makespan_s
    waiting = in_system(np.sort(run.arrival_s), np.sort(run.scheduled_s), np.sort(run.arrival_s))
    return Figures(
        ttft_s=_some(spread_of(run.ttft_s)),
        tpot_s=spread_of(run.tpot_s),
        itl_s=spread_of(run.gap_s, run.gap_count),
        queue_s=_some(spread_of(run.queue_s)),
        e2e_s=_some(spread_of(run.last_token_s - run.arrival_s)),
        makespan_s=makespan_s,
        request_per_s=run.arrival_s.size / makespan_s,
        input_token_per_s=float(run.input_token.sum()) / makespan_s,
        output_token_per_s=float(run.output_token.sum()) / makespan_s,
        utilisation=float(steps.duration_s.sum()) / (makespan_s * run.replicas),
        decodes=float(np.sum(steps.duration_s * steps.decodes)) / makespan_s,
        running=float(np.sum(run.last_token_s - run.scheduled_s)) / makespan_s,
        waiting=float(np.sum(run.queue_s)) / makespan_s,
        waiting_peak=float(waiting.max()),
        kv_peak=float(steps.block.max()) / run.rules.blocks,
        preempted_requests=int(np.sum(run.preempted > 0.0)),
        preemptions=int(run.preempted.sum()),
        steps=int(steps.start_s.size),
        mixed_share=float(np.mean(steps.prompts > 0.0)),
        step_s=float(steps.duration_s.mean()),
    )


def in_system(entered: Array, left: Array, at: Array) -> Array:
    """How many have entered and not left at each time of `at`; the first two sorted."""
    inside = np.searchsorted(entered, at, side="right") - np.searchsorted(left, at, side="right")
    return np.asarray(inside, dtype=np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """BINS equal intervals of a simulation: their ends, and in each the tokens generated per second, prompt tokens
    computed per second, requests running and waiting at its end, and the share of KV blocks in use at its end.
    """

    end_s: Array
    output_token_per_s: Array
    prompt_token_per_s: Array
    running: Array
    waiting: Array
    kv_share: Array


def timeline_of(run: Simulation, bins: int = BINS) -> Timeline:
    """The Timeline of `run`."""
    steps, edges = run.steps, np.linspace(0.0, run.makespan_s, bins + 1)
    ends, width_s = edges[1:], run.makespan_s / bins
    finish_s = steps.start_s + steps.duration_s
    first = np.histogram(run.first_token_s, edges)[0]
    decoded = np.histogram(finish_s, edges, weights=steps.decodes)[0]
    prompt = np.histogram(finish_s, edges, weights=steps.prompt_token)[0]
    arrived, scheduled, last = (np.sort(times) for times in (run.arrival_s, run.scheduled_s, run.last_token_s))
    held = np.zeros(bins)
    for replica in range(run.replicas):
        own = steps.replica == replica
        order = np.searchsorted(finish_s[own], ends, side="right") - 1
        held += np.where(order >= 0, steps.block[own][np.maximum(order, 0)], 0.0) if own.any() else 0.0
    return Timeline(
        end_s=ends,
        output_token_per_s=(first + decoded) / width_s,
        prompt_token_per_s=prompt / width_s,
        running=in_system(scheduled, last, ends),
        waiting=in_system(arrived, scheduled, ends),
        kv_share=held / (run.rules.blocks * run.replicas),
    )
