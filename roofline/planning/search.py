"""The search: structures are judged one by one, here, in processes, or on a Dask cluster; the results are the same."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..errors import RooflineError
from .evaluate import judge
from .replica import replica_of
from .request import PlanRequest, Reason, check_request
from .space import Refused, Structure, grid_size, structures
from .verdict import Verdict

LARGEST = 5_000_000
"""Most candidates that one machine is asked for: about two minutes on two cores."""

LARGEST_CLUSTER = 1_000_000_000
"""Most candidates that a cluster is asked for."""

TASK = 20_000
"""Candidates of one task: a tenth of a second and up, so that handing it over costs little."""

ALONE = 60_000
"""Searches below this many candidates are done in this process: starting others takes longer."""

Progress = Callable[[int, int], None]
"""Called with candidates done and candidates in all."""


@dataclass(frozen=True, slots=True)
class Search:
    """What a search found: one Verdict for each of `structures`, in their order; what could not be built beside it."""

    request: PlanRequest
    structures: tuple[Structure, ...]
    verdicts: tuple[Verdict, ...]
    refused: tuple[Refused, ...]

    @property
    def evaluated(self) -> int:
        """Candidates whose steady state was computed."""
        return sum(verdict.evaluated for verdict in self.verdicts)

    @property
    def pruned(self) -> int:
        """Candidates that a proven bound ruled out, not evaluated."""
        return sum(verdict.pruned for verdict in self.verdicts)


Task = tuple[int, tuple[Structure, ...]]
"""Structures to judge, and the position of the first."""


def run_task(request: PlanRequest, task: Task) -> list[Verdict]:
    """The Verdicts on a task's structures. What every worker runs."""
    first, members = task
    replica, judged = None, []
    for i, structure in enumerate(members):
        replica = replica_of(structure, request, replica)
        judged.append(judge(structure, first + i, request, replica))
    return judged


def tasks(members: Sequence[Structure], request: PlanRequest) -> Iterator[Task]:
    """The structures in batches of about TASK candidates, in order."""
    start, held = 0, 0
    for i, structure in enumerate(members):
        held += grid_size(structure, request)
        if held >= TASK or i == len(members) - 1:
            yield start, tuple(members[start : i + 1])
            start, held = i + 1, 0


def search(
    request: PlanRequest, *, cluster: str | None = None, progress: Progress = lambda done, total: None
) -> Search:
    """The Search over everything that `request` allows.

    `cluster`: address of a Dask scheduler whose workers have this package; None: this machine.
    Errors: RooflineError for numbers that mean nothing, and where there are more candidates than can be searched.
    """
    check_request(request)
    members, refused = structures(request)
    sizes = {id(structure): grid_size(structure, request) for structure in members}
    total = sum(sizes.values())
    most = LARGEST if cluster is None else LARGEST_CLUSTER
    if total > most:
        where = "one machine" if cluster is None else "a cluster"
        raise RooflineError(
            f"candidates: {total:,} are more than the {most:,} that {where} searches. "
            "Name fewer devices (--devices), fewer of them (--max-devices), or fewer limits "
            "(--max-sequences, --max-batch-tokens)" + (", or give --cluster ADDRESS." if cluster is None else ".")
        )
    batches = list(tasks(members, request))
    done, verdicts = 0, []
    for batch, judged in zip(batches, _results(request, batches, total, cluster), strict=True):
        verdicts += judged
        done += sum(sizes[id(structure)] for structure in batch[1])
        progress(done, total)
    return Search(request, members, tuple(verdicts), refused)


def candidates(request: PlanRequest) -> int:
    """Candidates of all structures of `request`."""
    return sum(grid_size(structure, request) for structure in structures(request)[0])


def _results(request: PlanRequest, batches: Sequence[Task], total: int, cluster: str | None) -> Iterable[list[Verdict]]:
    """The Verdicts of each batch, in order, computed where it pays."""
    if cluster is not None:
        from .cluster import run_on_cluster

        return run_on_cluster(request, batches, cluster)
    cores = os.cpu_count() or 1
    if total < ALONE or cores < 2 or len(batches) < 2:
        return (run_task(request, batch) for batch in batches)
    from .worker import run_in_processes

    return run_in_processes(request, batches, min(cores, len(batches)))


def counts(found: Search) -> dict[Reason, int]:
    """Candidates that fell out, by reason; those that cannot be built included."""
    total: dict[Reason, int] = {}
    for refused in found.refused:
        total[refused.reason] = total.get(refused.reason, 0) + grid_size(refused.structure, found.request)
    for verdict in found.verdicts:
        for reason, count in verdict.counts.items():
            total[reason] = total.get(reason, 0) + count
    return dict(sorted(total.items(), key=lambda entry: -entry[1]))
