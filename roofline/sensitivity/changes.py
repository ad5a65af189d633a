"""The next best change: alternatives to a case, each predicted, ranked by an objective."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..errors import RooflineError
from ..outcome import Case
from .analysis import Values, base_figures
from .figures import Figure
from .served import measured


@dataclass(frozen=True, slots=True, eq=False)
class Alternative:
    """A case that differs from the base in one thing: what, in words and as flags, and the value it takes.

    `case` None: it cannot be, and `refusal` says why.
    """

    kind: str
    value: str
    text: str
    flags: str
    case: Case | None
    refusal: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """An Alternative as predicted. `figures` None: refused. `objective` None: unknown (no price). `gain`: that over the
    base's, less 1. `fits`: memory holds it.
    """

    alternative: Alternative
    figures: Values | None
    fits: bool
    objective: float | None
    gain: float | None
    bound: str
    usd_per_hour: float | None
    refusal: str


def evaluated(alternatives: Iterable[Alternative], objective: str, base: Values) -> list[Change]:
    """Every alternative predicted, in the order given. `objective`: the key that is compared with the base's."""
    return [_evaluated(alternative, objective, base) for alternative in alternatives]


def _evaluated(alternative: Alternative, objective: str, base: Values) -> Change:
    case = alternative.case
    if case is None:
        return _refused(alternative, alternative.refusal)
    try:
        found = measured(case)
        figures = base_figures(case, found)
    except RooflineError as error:
        return _refused(alternative, str(error))
    value, before = figures[objective], base[objective]
    return Change(
        alternative=alternative,
        figures=figures,
        fits=bool(found.fits),
        objective=value,
        gain=None if value is None or not before else value / before - 1.0,
        bound=found.bound_name,
        usd_per_hour=None if found.usd_per_hour is None else float(found.usd_per_hour),
        refusal="",
    )


def _refused(alternative: Alternative, why: str) -> Change:
    return Change(alternative, None, False, None, None, "", None, why)


def ranked(changes: Sequence[Change], objective: Figure) -> list[Change]:
    """The changes that can be: those that fit, best first, then those without a price, then those that do not fit."""
    sign = 1.0 if objective.less_is_better else -1.0

    def order(change: Change) -> tuple[bool, bool, float]:
        return not change.fits, change.objective is None, sign * (change.objective or 0.0)

    return sorted((change for change in changes if change.figures is not None), key=order)
