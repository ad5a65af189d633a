"""Numbers as people read them: three significant digits, SI prefixes, money. Text only: no colours, no tables.

Every function takes whatever a record holds: None is "–", NaN and infinity are named, text stays the text it is.
"""

import math
from collections.abc import Iterable

from ..io.units import format_quantity

MISSING = "–"
"""Shown for what a record does not state."""

_STEPS = {
    "s": (("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9)),
    "%": (("%", 0.01),),
    "B": (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1.0)),
    "FLOP": (("TFLOP", 1e12), ("GFLOP", 1e9), ("MFLOP", 1e6), ("kFLOP", 1e3), ("FLOP", 1.0)),
    "FLOP/s": (("TFLOP/s", 1e12), ("GFLOP/s", 1e9), ("MFLOP/s", 1e6), ("kFLOP/s", 1e3), ("FLOP/s", 1.0)),
}
"""The units that a column of a table may be shown in, and their size in SI."""


def finite(value: object) -> float | None:
    """`value` as a float where it is a finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 1e300 else None


def plain(value: object) -> str:
    """What is not a finite number, as text: None is "–", NaN "NaN", infinity "Infinity"."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    return MISSING if value is None else str(value)


def number(value: object, digits: int = 3) -> str:
    """A number without a unit: 0.0123, 8.08, 1,090, 2,350,000; tiny and huge ones as 1.2e-07."""
    found = finite(value)
    if found is None:
        return plain(value)
    rounded = float(f"{found:.{digits}g}")
    if rounded != 0.0 and not 1e-4 <= abs(rounded) < 1e9:
        return f"{rounded:.{digits}g}"
    return f"{rounded:,.0f}" if abs(rounded) >= 10.0 ** (digits - 1) else f"{rounded:.{digits}g}"


def count(value: object) -> str:
    """A whole number with every digit and thousands separators: 41,120. A fraction as `number` shows it."""
    found = finite(value)
    return f"{found:,.0f}" if found is not None and found.is_integer() and abs(found) < 1e15 else number(value)


def quantity(value: object, unit: str) -> str:
    """An SI value with unit and prefix: 3.35e12, "B/s" is "3.35 TB/s"."""
    found = finite(value)
    return plain(value) if found is None else format_quantity(float(f"{found:.3g}"), unit)


def seconds(value: object) -> str:
    """A duration: 312 us, 11.9 ms, 2.62 s, 3,600 s (seconds take no prefix upwards)."""
    found = finite(value)
    return f"{number(found)} s" if found is not None and abs(found) >= 1.0 else quantity(value, "s")


def span(ends: object) -> str:
    """A range of durations: 1.37 s to 1.82 s; without an upper end "1.37 s or more"."""
    low, high = ends if isinstance(ends, list | tuple) and len(ends) == 2 else (ends, ends)
    if low is not None and high is None:
        return f"{seconds(low)} or more"
    return " to ".join(dict.fromkeys((seconds(low), seconds(high))))


def sentence(words: str) -> str:
    """`words` with a capital letter first and one full stop last."""
    return f"{words[:1].upper()}{words[1:].rstrip('.')}." if words else words


def size(value: object) -> str:
    """Bytes in powers of ten: 17.6 GB."""
    return quantity(value, "B")


def percent(value: object) -> str:
    """A fraction as a percentage with one decimal at most: 0.4407 is "44.1 %"; between 0 and 0.1 % "<0.1 %"."""
    found = finite(value)
    if found is None:
        return plain(value)
    return "<0.1 %" if 0.0 < found < 0.001 else f"{f'{100.0 * found:,.1f}'.removesuffix('.0')} %"


def money(value: object) -> str:
    """US dollars, cents where they are readable: $0.61, $1,234, $0.0042."""
    found = finite(value)
    if found is None:
        return plain(value)
    return f"${found:,.2f}" if 0.1 <= abs(found) < 1000.0 else f"${number(found)}"


def clip(text: object, limit: int = 80) -> str:
    """`text` on one line and at most `limit` characters long, cut with an ellipsis."""
    line = " ".join(str(text).split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def column_unit(values: Iterable[object], unit: str) -> tuple[str, float]:
    """The unit in which a whole column reads best, and its size in SI: the one in which its largest value is >= 1."""
    steps = _STEPS.get(unit, ((unit, 1.0),))
    largest = max((abs(found) for value in values if (found := finite(value)) is not None), default=0.0)
    return next((step for step in steps if largest >= step[1]), steps[-1])
