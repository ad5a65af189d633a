"""A difference of products or sums as parts that add up to it exactly. Arithmetic on finished figures, no physics.

A product a = x·y·z changes by L(a', a)·(ln x'/x + ln y'/y + ln z'/z), with the logarithmic mean L: exact, symmetric and
without a remainder. Source: Ang, "Decomposition analysis for policymaking in energy" (Energy Policy 32, 2004), LMDI-I.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CAUSES = ("count", "work", "datasheet_rate", "efficiency", "overhead", "bound", "appears", "disappears")
"""Why a kernel's time differs; see KernelChange."""

WORK = {"compute": ("flop",), "memory": ("read_byte", "write_byte"), "link": ("link_byte",)}
"""The fields of a kernel that say how much the binding resource does; a kernel bound by overhead is taken by bytes."""

TINY = 1e-30
"""Seconds, FLOP or bytes below which a ratio says nothing."""

BOUNDS = ("compute", "memory", "link", "overhead")
"""What can bind a kernel."""

NUMBERS = ("count", "flop", "read_byte", "write_byte", "link_byte", "overhead_s", "total_s", "roofline_s")
"""The numbers of a kernel row that are compared."""

Kernel = Mapping[str, Any]
"""A kernel row of a prediction record."""


def logarithmic_mean(before: float, after: float) -> float:
    """(after - before) / ln(after / before), and its limit where they are equal. Both positive."""
    if math.isclose(before, after, rel_tol=1e-12):
        return before
    return (after - before) / math.log(after / before)


def of_product(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """The parts of the difference of two products, by factor. All factors positive; the parts sum to it."""
    whole = logarithmic_mean(math.prod(before.values()), math.prod(after.values()))
    return {name: whole * math.log(after[name] / value) for name, value in before.items()}


@dataclass(frozen=True, slots=True)
class KernelChange:
    """One kernel on both sides, seconds per step; None where a side does not have it. `causes` sum to the difference:

    `count`: executions per step. `work`: FLOP or bytes of the binding resource. `datasheet_rate`: its peak rate.
    `efficiency`: how far it stays behind the bare roofline (calibration and shape). `overhead`: launch and latency.
    `bound`: the binding resource is another one. `appears`, `disappears`: only one side has the kernel.
    """

    name: str
    kind: str
    before_s: float | None
    after_s: float | None
    before_bound: str | None
    after_bound: str | None
    causes: Mapping[str, float]

    @property
    def difference_s(self) -> float:
        """Seconds per step more than before."""
        return (self.after_s or 0.0) - (self.before_s or 0.0)


def kernel_changes(before: Sequence[Kernel], after: Sequence[Kernel]) -> list[KernelChange]:
    """Every kernel of two phases, matched by name (and place among those of one name), the largest change first."""
    sides = _named(before), _named(after)
    found = [_changed(sides[0].get(key), sides[1].get(key)) for key in dict.fromkeys((*sides[0], *sides[1]))]
    return sorted(found, key=lambda change: -abs(change.difference_s))


def _named(kernels: Sequence[Kernel]) -> dict[tuple[str, int], Kernel]:
    seen: dict[str, int] = {}
    found = {}
    for kernel in kernels:
        name = str(kernel["name"])
        found[name, seen.setdefault(name, 0)] = kernel
        seen[name] += 1
    return found


def step_s(kernel: Kernel) -> float:
    """Seconds that all executions of a kernel take in a step."""
    return float(kernel["count"]) * float(kernel["total_s"])


def _changed(before: Kernel | None, after: Kernel | None) -> KernelChange:
    kernel = before or after
    assert kernel is not None
    before_s, after_s = (None if side is None else step_s(side) for side in (before, after))
    bounds = [None if side is None else str(side["bound"]) for side in (before, after)]
    causes = dict.fromkeys(CAUSES, 0.0)
    if before is None or after is None:
        causes["appears" if before is None else "disappears"] = (after_s or 0.0) - (before_s or 0.0)
    else:
        _add(causes, _fixed(before, after))
        _add(causes, _busy(before, after))
    return KernelChange(str(kernel["name"]), str(kernel["kind"]), before_s, after_s, bounds[0], bounds[1], causes)


def _add(causes: dict[str, float], parts: Mapping[str, float]) -> None:
    for name, part in parts.items():
        causes[name] += part


def _overhead_s(kernel: Kernel) -> float:
    return min(float(kernel["overhead_s"]), float(kernel["total_s"]))


def _fixed(before: Kernel, after: Kernel) -> dict[str, float]:
    """The difference of count · overhead."""
    return _by_factors(before, after, "overhead", _overhead_s(before), _overhead_s(after), {})


def _busy(before: Kernel, after: Kernel) -> dict[str, float]:
    """The difference of count · (total - overhead): work, datasheet rate and efficiency while the bound is the same."""
    before_s, after_s = (float(side["total_s"]) - _overhead_s(side) for side in (before, after))
    if before["bound"] != after["bound"]:
        return _by_factors(before, after, "bound", before_s, after_s, {})
    fields = WORK.get(str(before["bound"]), WORK["memory"])
    work = [sum(float(side[field]) for field in fields) for side in (before, after)]
    limit = [float(side["roofline_s"]) for side in (before, after)]
    factors = {"work": (work[0], work[1])} if min(*work, *limit) > TINY else {}
    if factors:
        factors["datasheet_rate"] = (limit[0] / work[0], limit[1] / work[1])
    return _by_factors(before, after, "efficiency", before_s, after_s, factors)


def _by_factors(
    before: Kernel,
    after: Kernel,
    rest: str,
    before_s: float,
    after_s: float,
    factors: Mapping[str, tuple[float, float]],
) -> dict[str, float]:
    """The difference of count · seconds by count, the `factors` of the seconds, and `rest`: what they leave.

    Where one of the sides is 0 (or TINY) there are no ratios: all of it is `rest`.
    """
    counts = float(before["count"]), float(after["count"])
    if min(before_s, after_s, *counts) <= TINY:
        return {rest: counts[1] * after_s - counts[0] * before_s}
    sides = []
    for i, seconds in enumerate((before_s, after_s)):
        known = {"count": counts[i]} | {name: pair[i] for name, pair in factors.items()}
        sides.append(known | {rest: counts[i] * seconds / math.prod(known.values())})
    return of_product(sides[0], sides[1])
