"""Which input moved a figure: every changed input's share, without an order among them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from math import comb

from ..errors import RooflineError
from ..outcome import Case
from ..sensitivity.figures import STATIC, static_figures

MOST = 7
"""Changed inputs up to which all their combinations are predicted (2^7 predictions)."""


@dataclass(frozen=True, slots=True)
class Input:
    """A part of a case that can be taken from either side. `taken`: the first case with that part of the second."""

    name: str
    differs: Callable[[Case, Case], bool]
    taken: Callable[[Case, Case], Case]


def _field(name: str) -> Input:
    """A field of the case itself."""
    return Input(
        name,
        lambda a, b: getattr(a, name) != getattr(b, name),
        lambda a, b: replace(a, **{name: getattr(b, name)}),
    )


def _asked(name: str, *fields: str) -> Input:
    """Fields of the scenario."""
    return Input(
        name,
        lambda a, b: any(getattr(a.scenario, field) != getattr(b.scenario, field) for field in fields),
        lambda a, b: replace(
            a, scenario=replace(a.scenario, **{field: getattr(b.scenario, field) for field in fields})
        ),
    )


def _format(name: str, *fields: str) -> Input:
    """Fields of the precision."""

    def taken(a: Case, b: Case) -> Case:
        precision = replace(a.scenario.precision, **{field: getattr(b.scenario.precision, field) for field in fields})
        return replace(a, scenario=replace(a.scenario, precision=precision))

    return Input(
        name,
        lambda a, b: any(getattr(a.scenario.precision, f) != getattr(b.scenario.precision, f) for f in fields),
        taken,
    )


INPUTS = (
    _field("model"),
    Input("device", lambda a, b: a.device.digest != b.device.digest, lambda a, b: replace(a, device=b.device)),
    _field("calibration"),
    _asked("batch", "batch"),
    _asked("input", "input_token"),
    _asked("output", "output_token"),
    _format("weights", "weights", "experts", "activations", "floor"),
    _format("kv", "kv"),
    _asked("parallelism", "parallelism"),
    _asked("attention", "attention"),
    Input("price", lambda a, b: a.site != b.site, lambda a, b: replace(a, site=b.site)),
)
"""What a case is made of. A device of another structure brings its calibration along: fits are of its own kind."""


def changed_inputs(before: Case, after: Case) -> tuple[Input, ...]:
    """The inputs that differ."""
    found = [entry for entry in INPUTS if entry.differs(before, after)]
    if type(before.device.structure) is not type(after.device.structure):
        both = Input(
            "device",
            lambda a, b: True,
            lambda a, b: replace(a, device=b.device, calibration=b.calibration),
        )
        found = [both, *(entry for entry in found if entry.name not in ("device", "calibration"))]
    return tuple(found)


def drivers(before: Case, after: Case) -> dict[str, dict[str, float]]:
    """For every figure of a static batch, the share of each changed input in its difference; the shares sum to it.

    The Shapley value: an input's effect, averaged over all orders in which the inputs could be changed (Shapley, 1953).
    Figures that a side does not have are left out. Errors: RooflineError where a mixture of both sides cannot be
    predicted, or more than MOST inputs changed.
    """
    inputs = changed_inputs(before, after)
    if len(inputs) > MOST:
        names = ", ".join(entry.name for entry in inputs)
        raise RooflineError(f"{len(inputs)} inputs differ ({names}): more than the {MOST} that are told apart.")
    values = {chosen: _figures(_mixed(before, after, inputs, chosen)) for chosen in _subsets(len(inputs))}
    whole = frozenset(range(len(inputs)))
    keys = [
        figure.key
        for figure in STATIC
        if all(found[figure.key] is not None for found in (values[frozenset()], values[whole]))
    ]
    return {key: {entry.name: _share(i, key, values) for i, entry in enumerate(inputs)} for key in keys}


def _subsets(count: int) -> Iterator[frozenset[int]]:
    for size in range(count + 1):
        yield from map(frozenset, combinations(range(count), size))


def _mixed(before: Case, after: Case, inputs: tuple[Input, ...], chosen: frozenset[int]) -> Case:
    """`before` with the chosen inputs of `after`."""
    case = before
    for i in sorted(chosen):
        case = inputs[i].taken(case, after)
    return case


def _figures(case: Case) -> Mapping[str, float | None]:
    return {key: None if value is None else float(value) for key, value in static_figures(case).figures.items()}


def _share(which: int, key: str, values: Mapping[frozenset[int], Mapping[str, float | None]]) -> float:
    count = len(max(values, key=len))
    total = 0.0
    for chosen in values:
        if which not in chosen:
            step = (values[chosen | {which}][key] or 0.0) - (values[chosen][key] or 0.0)
            total += step / (count * comb(count - 1, len(chosen)))
    return total
