"""Elasticities and effects of every lever, and where the binding resource changes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..crossing import change_beyond, factor_of_change
from ..deployment import decode_times, prefill_times
from ..outcome import Case, bound_index
from ..structs import Array
from ..timing import BOUNDS
from .figures import MAX_BATCH, Figures, Measured, largest_batch_of
from .levers import BATCH, INPUT, Lever, WorkloadLever, levers_of, workload_levers
from .served import ServedCase, measured

FACTORS = (0.5, 0.9, 1.1, 2.0)
"""What a lever is scaled by; the two in the middle give the elasticity."""

Indices = NDArray[np.intp]
"""Kinds as indices."""

LARGEST_BATCH = 65536
"""Batch up to which crossovers are looked for."""

WIDEST = 8.0
"""Factor by which hardware is scaled, up and down, in the search for crossovers."""

Values = Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Step:
    """The figures with a lever at `value`. All None: beyond what the model was made for."""

    factor: float
    value: float | None
    figures: Values


@dataclass(frozen=True, slots=True)
class Row:
    """One lever: the elasticity d ln y / d ln x of every figure between the steps next to the base, and all steps."""

    key: str
    title: str
    kind: str
    unit: str
    value: float | None
    elasticity: Values
    steps: tuple[Step, ...]


def base_figures(case: Case, found: Measured) -> Values:
    """The figures of `case`, measured as `found`, and the largest batch that fits."""
    return _scalars(found.figures) | _room(case, found)


def lever_rows(case: Case, base: Values) -> Iterator[Row]:
    """A Row for every lever of `case`, hardware first."""
    for lever in levers_of(case):
        yield _hardware_row(lever, case, base)
    for number in workload_levers(case):
        yield _workload_row(number, case, base)


def _scalars(figures: Figures) -> dict[str, float | None]:
    """Figures as floats; None where there is none, or where it has no end (above saturation)."""
    found = {key: None if value is None else float(value) for key, value in figures.items()}
    return {key: value if value is not None and np.isfinite(value) else None for key, value in found.items()}


def _room(case: Case, found: Measured) -> dict[str, float | None]:
    """The largest batch, where the figures do not tell it."""
    return {} if MAX_BATCH.key in found.figures else {MAX_BATCH.key: largest_batch_of(case)}


def _hardware_row(lever: Lever, case: Case, base: Values) -> Row:
    value = lever.value(case)

    def step(factor: float) -> Step:
        scaled = lever.scaled(case, factor)
        found = measured(scaled)
        room = _room(scaled, found) if lever.moves_memory else {MAX_BATCH.key: base[MAX_BATCH.key]}
        return Step(factor, None if value is None else value * factor, room | _scalars(found.figures))

    steps = tuple(step(factor) for factor in FACTORS)
    return Row(lever.key, lever.title, "hardware", lever.unit, value, _elasticity(steps), steps)


def _workload_row(lever: WorkloadLever, case: Case, base: Values) -> Row:
    values = lever.around(case, np.array(FACTORS))
    scenario = lever.at(case, values).scenario
    length = np.broadcast_to(scenario.input_token + scenario.output_token * case.model.causal, values.shape)
    allowed = length <= case.model.max_context
    asked = np.where(allowed, values, lever.value(case))
    figures = list(_along_axis(lever, case, asked))

    def step(i: int, value: float) -> Step:
        factor = value / lever.value(case)
        if not allowed[i]:
            return Step(factor, value, dict.fromkeys((*figures[i], MAX_BATCH.key)))
        room = {MAX_BATCH.key: base[MAX_BATCH.key]}
        if lever.moves_memory and MAX_BATCH.key not in figures[i]:
            room = {MAX_BATCH.key: largest_batch_of(lever.at(case, value))}
        return Step(factor, value, room | figures[i])

    steps = tuple(step(i, value) for i, value in enumerate(values.tolist()))
    return Row(lever.key, lever.title, "workload", "", lever.value(case), _elasticity(steps), steps)


def _along_axis(lever: WorkloadLever, case: Case, values: Array) -> Iterator[dict[str, float | None]]:
    """The figures at each of `values`: of a static batch all at once, of a served case one by one (its tables are
    made for one workload).
    """
    match case:
        case ServedCase():
            for value in values.tolist():
                yield _scalars(measured(lever.at(case, value)).figures)
        case _:
            found = measured(lever.at(case, values)).figures
            columns = {key: None if of is None else np.broadcast_to(of, values.shape) for key, of in found.items()}
            for i in range(values.size):
                yield _scalars({key: None if column is None else column[i] for key, column in columns.items()})


def _elasticity(steps: Sequence[Step]) -> Values:
    """The slope d ln y / d ln x of every figure, from the second to the third step; None where one is 0 or missing."""
    low, high = steps[1], steps[2]
    span = np.log(high.factor / low.factor)

    def of(key: str) -> float | None:
        before, after = low.figures[key], high.figures[key]
        return float(np.log(after / before) / span) if before and after else None

    return {key: of(key) for key in low.figures}


@dataclass(frozen=True, slots=True)
class Crossover:
    """Where something changes: at `value` of `quantity` (a whole number, or a rate), `factor` times the base.

    `kind` "bound": `before` and `after` are resources; "format": whether another format is faster there.
    """

    kind: str
    phase: str
    quantity: str
    value: float
    factor: float
    before: str
    after: str


def bound_crossovers(case: Case) -> Iterator[Crossover]:
    """Where the bound of prefill and decode changes, nearest to the base on either side of it.

    Along batch and input in whole numbers, along DRAM bandwidth and FLOP/s up to WIDEST times.
    """
    where = case.deployment
    phases: dict[str, Callable[[Case], Indices]] = {
        "prefill": lambda of: bound_index(prefill_times(where, of.scenario)[0]),
    }
    if case.model.causal:
        phases["decode"] = lambda of: bound_index(decode_times(where, of.scenario)[0])
    for phase, bound_of in phases.items():
        for lever in (BATCH, INPUT):
            yield from _along(lever, phase, case, bound_of)
        yield from _along_hardware(phase, case)


def _along(lever: WorkloadLever, phase: str, case: Case, bound_of: Callable[[Case], Indices]) -> Iterator[Crossover]:
    base = int(lever.value(case))
    lowest, highest = _range(lever, case)
    for limit in (lowest, highest):
        if limit == base:
            continue
        found = change_beyond(lambda values: bound_of(lever.at(case, values)), base, limit)
        if found is not None:
            here = int(bound_of(lever.at(case, float(base))))
            yield Crossover("bound", phase, lever.key, found[0], found[0] / base, BOUNDS[here], BOUNDS[found[1]])


def _range(lever: WorkloadLever, case: Case) -> tuple[int, int]:
    """The least and the largest value of a lever that make sense for the case."""
    scenario = case.scenario
    if lever is BATCH:
        return int(scenario.parallelism.dp), max(LARGEST_BATCH, int(scenario.batch))
    room = case.model.max_context - scenario.output_token * case.model.causal
    return 1, max(int(room), int(lever.value(case)))


def _along_hardware(phase: str, case: Case) -> Iterator[Crossover]:
    for lever in levers_of(case)[:2]:

        def bound_at(factor: float, lever: Lever = lever) -> int:
            scaled = lever.scaled(case, factor)
            times = prefill_times if phase == "prefill" else decode_times
            return int(bound_index(times(scaled.deployment, scaled.scenario)[0]))

        value = lever.value(case)
        for limit in (1.0 / WIDEST, WIDEST):
            found = factor_of_change(bound_at, limit)
            if found is not None and value is not None:
                after = BOUNDS[found[1]]
                before = BOUNDS[bound_at(1.0)]
                yield Crossover("bound", phase, lever.key, value * found[0], found[0], before, after)


def format_crossover(case: Case, other: Case, name: str) -> Crossover | None:
    """The batch nearest to the case's at which decode with `other` (the same case in another format, `name`) changes
    from faster to not faster, or back. None: it does not, up to LARGEST_BATCH, or there is no decode.
    """
    if not case.model.causal:
        return None
    ours, theirs = case.deployment, other.deployment

    def faster(batch: Array) -> Indices:
        times = (decode_times(w, replace(c.scenario, batch=batch))[1] for w, c in ((theirs, other), (ours, case)))
        return (next(times) < next(times)).astype(np.intp)

    base = int(case.scenario.batch)
    here = int(faster(np.array([float(base)]))[0])
    names = (f"no faster with {name}", f"faster with {name}")
    for limit in (LARGEST_BATCH, int(case.scenario.parallelism.dp)):
        found = change_beyond(faster, base, limit) if limit != base else None
        if found is not None:
            return Crossover("format", "decode", "batch", found[0], found[0] / base, names[here], names[found[1]])
    return None
