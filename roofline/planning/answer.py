"""The whole answer to a request: the ranked plans, or why there is none and what would change that."""

from collections.abc import Callable
from dataclasses import dataclass

from .detail import Plan, detailed
from .floor import Floor
from .relax import Relaxation, best_plans, binding, relaxations, sure_plans
from .replica import replica_of
from .request import PlanRequest, Reason
from .rows import Rows, joined
from .search import Progress, Search, search
from .verdict import Miss

Say = Callable[[str], None]
"""Called with what is being done."""


@dataclass(frozen=True, slots=True, eq=False)
class Lowest:
    """The floor of a service level over everything that may be bought: no plan can be below it."""

    ttft_s: float
    tpot_s: float
    ttft_of: int
    tpot_of: int


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """`plans`: best first, at most request.top, one of each structure. Without any: `reason` is what binds, `lowest`
    the floors, `changes` what would make one feasible, smallest first (each with the Plan it leads to). `sure`: where
    the first of the plans does not hold at the slow end of its band, the best found that does (None: none found).
    """

    found: Search
    plans: tuple[Plan, ...]
    reason: Reason | None
    lowest: Lowest | None
    changes: tuple[tuple[Relaxation, Plan], ...]
    sure: Plan | None = None


def answer(
    request: PlanRequest,
    everything: PlanRequest | None = None,
    *,
    cluster: str | None = None,
    progress: Progress = lambda done, total: None,
    say: Say = lambda text: None,
) -> Answer:
    """The Answer to `request`. `everything`: the same request with all formats, tried where nothing is feasible (None:
    it has them).

    Errors: as search.search.
    """
    found = search(request, cluster=cluster, progress=progress)
    rows = best_plans(found)
    plans = tuple(_plan(found, rows.row(i)) for i in range(min(rows.size, request.top)))
    if plans:
        sure = joined([]) if plans[0].robust else sure_plans(found)
        return Answer(found, plans, None, None, (), _plan(found, sure.row(0)) if sure.size else None)
    say("nothing meets it; looking for the smallest change that would")
    changes = relaxations(request, everything, lambda wider: search(wider, cluster=cluster, progress=progress))
    told = tuple((change, _plan(change.best.search, change.best.row)) for change in changes)
    return Answer(found, (), binding(found, changes), lowest(found), told)


def _plan(found: Search, row: Rows) -> Plan:
    return detailed(found.structures[int(row.structure[0])], row, found.request)


def lowest(found: Search) -> Lowest | None:
    """The Lowest of the structures that fit into memory; None where none does."""
    floors: dict[int, Floor] = {}
    for i, (structure, judged) in enumerate(zip(found.structures, found.verdicts, strict=True)):
        if judged.counts.get(Reason.MEMORY, 0) < judged.evaluated + judged.pruned:
            floors[i] = replica_of(structure, found.request).floor
    if not floors:
        return None
    ttft_of = min(floors, key=lambda i: floors[i].ttft_s)
    tpot_of = min(floors, key=lambda i: floors[i].tpot_s)
    return Lowest(floors[ttft_of].ttft_s, floors[tpot_of].tpot_s, ttft_of, tpot_of)


def nearest(found: Search, reason: Reason) -> Miss | None:
    """The candidate that missed by least for `reason`."""
    misses = [verdict.misses[reason] for verdict in found.verdicts if reason in verdict.misses]
    return min(misses, key=lambda miss: miss.ratio) if misses else None
