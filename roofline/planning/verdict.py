"""What one structure's candidates come to: the best, the nearest misses, how many fell out for what."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..structs import Array
from .request import PlanRequest, Rank, Reason, ServiceLevel
from .rows import Rows, empty, front, joined

EQUAL = 1e-9
"""Relative difference below which two values of a ranking are a tie: sums of floats in another order differ by less."""


@dataclass(frozen=True, slots=True)
class Miss:
    """The candidate of a reason that missed by least: `ratio` is what it needs over what is allowed (above 1).

    `row`: the candidate, one entry; None where it was ruled out before it was evaluated.
    """

    ratio: float
    structure: int
    row: Rows | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """All that is kept of one structure. `best`: none or one candidate. `points`: for the Pareto plot, at most two for
    each number of devices, the one that serves a user fastest and the one with most headroom. `sure`: none, or the best
    found that holds at the slow end of its band too.
    """

    evaluated: int
    pruned: int
    counts: Mapping[Reason, int]
    misses: Mapping[Reason, Miss]
    best: Rows
    points: Rows
    sure: Rows


def excess(rows: Rows, level: ServiceLevel) -> Array:
    """The larger of TTFT and TPOT, as held against the level, over what is allowed: at most 1 where it is met. Shape
    (candidates,).
    """
    return np.maximum(rows.held_ttft_s / level.ttft_s, rows.held_tpot_s / level.tpot_s)


def reasons(rows: Rows, level: ServiceLevel) -> dict[Reason, NDArray[np.bool_]]:
    """Which candidates fall out for what; each for one reason."""
    stable = rows.held_load < 1.0
    late, slow = rows.held_ttft_s > level.ttft_s, rows.held_tpot_s > level.tpot_s
    return {
        Reason.RATE: ~stable,
        Reason.TTFT: stable & late & ~slow,
        Reason.TPOT: stable & slow & ~late,
        Reason.BOTH: stable & late & slow,
    }


def metric(rows: Rows, request: PlanRequest) -> Array:
    """What the request ranks by, smaller is better. Shape (candidates,)."""
    match request.rank:
        case Rank.USD:
            return rows.usd_per_hour / rows.request_per_s
        case Rank.DEVICES:
            return rows.n_devices
        case Rank.ENERGY:
            return rows.joule_per_token
        case Rank.LATENCY:
            return rows.mean_ttft_s + (request.lengths.output.mean - 1.0) * rows.mean_tpot_s
        case Rank.TTFT:
            return rows.held_ttft_s
        case Rank.TPOT:
            return rows.held_tpot_s
        case Rank.HEADROOM:
            return excess(rows, request.level)
        case Rank.RATE:
            return 1.0 / rows.request_per_s


def ranking(rows: Rows, request: PlanRequest, tp: Array) -> NDArray[np.intp]:
    """Positions of `rows`, best first. `tp`: tensor-parallel ranks of each.

    Ties, in this order: fewer devices, smaller TP, more headroom (in steps of 1 %), engine limits as the engine is
    shipped, smaller limits, the order in which structures were made.
    """
    value = metric(rows, request)
    smallest = np.min(value, initial=np.inf)
    steps = np.round(np.log(np.maximum(value / smallest, 1.0)) / EQUAL) if np.isfinite(smallest) else value
    limits = request.engine.limits
    changed = (rows.max_sequence != limits.max_sequence) + 0.0 + (rows.max_batch_token != limits.max_batch_token)
    spare = np.round(excess(rows, request.level), 2)
    keys = (steps, rows.n_devices, tp, spare, changed, rows.max_sequence, rows.max_batch_token, rows.structure)
    return np.lexsort(keys[::-1])


def verdict(
    rows: Rows, request: PlanRequest, tp: float, counts: Mapping[Reason, int], ruled_out: Mapping[Reason, Miss]
) -> Verdict:
    """The Verdict on the evaluated candidates of one structure; `counts` and `ruled_out`: those ruled out before."""
    out = reasons(rows, request.level)
    over = np.where(rows.held_load < 1.0, excess(rows, request.level), rows.held_load)
    misses = dict(ruled_out)
    for reason, mask in out.items():
        if mask.any():
            at = np.flatnonzero(mask)
            nearest = int(at[np.argmin(over[at])])
            misses[reason] = Miss(float(over[nearest]), int(rows.structure[nearest]), rows.row(nearest))
    fine = rows.take(~np.logical_or.reduce(list(out.values())))
    found = {reason: int(mask.sum()) for reason, mask in out.items() if mask.any()}
    best = first(fine, request, tp)
    return Verdict(
        evaluated=rows.size,
        pruned=sum(counts.values()),
        counts={**counts, **found},
        misses=misses,
        best=best,
        points=_points(rows, request),
        sure=best if request.sure else empty(),
    )


def first(rows: Rows, request: PlanRequest, tp: float) -> Rows:
    """The best of `rows`, all of one structure with `tp` tensor-parallel ranks; none of none."""
    return rows.take(ranking(rows, request, np.full(rows.size, tp))[:1])


def met(rows: Rows, level: ServiceLevel) -> NDArray[np.bool_]:
    """Which candidates meet the level. Shape (candidates,)."""
    return (rows.held_load < 1.0) & (excess(rows, level) <= 1.0)


def _points(rows: Rows, request: PlanRequest) -> Rows:
    """One stable candidate for each number of devices: the one that serves a user fastest, and the one with most
    headroom (often the same).
    """
    stable = rows.take(rows.load < 1.0)
    kept = []
    for value in (stable.mean_tpot_s, excess(stable, request.level)):
        order = np.lexsort((value, stable.n_devices))
        starts = np.diff(stable.n_devices[order], prepend=-1.0) > 0.0
        kept.append(order[starts])
    return stable.take(np.array(sorted(set(np.concatenate(kept).tolist())), dtype=np.intp))


def pareto(points: Rows, request: PlanRequest) -> NDArray[np.bool_]:
    """Which of `points` are on the front of tokens/s per device against tokens/s per user."""
    per_device = points.request_per_s * request.lengths.output.mean / points.n_devices
    return front(1.0 / points.mean_tpot_s, per_device)


def merged_points(verdicts: Sequence[Verdict]) -> Rows:
    """The points of all structures."""
    return joined([verdict.points for verdict in verdicts])
