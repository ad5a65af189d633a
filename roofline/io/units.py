"""Printed quantities ("989.4 TFLOP/s", "80 GiB", "900 GB/s / 2") to SI numbers and back. Prefixes exist only here."""

import math
import re
from dataclasses import dataclass

from ..errors import RooflineError, clip, nearest
from ..structs import FLOP_PER_FMA

Dimension = tuple[tuple[str, int], ...]
"""Powers of the base quantities flop, byte, s, J, kg and USD, sorted by name; empty for a pure number or a count."""

YEAR_S = 8760.0 * 3600.0
"""A year of 365 days, as prices are quoted (730 hours a month)."""

_BASE: dict[str, tuple[float, dict[str, int]]] = {
    "FLOP": (1.0, {"flop": 1}),
    "OP": (1.0, {"flop": 1}),
    "MAC": (FLOP_PER_FMA, {"flop": 1}),
    "FLOPS": (1.0, {"flop": 1, "s": -1}),
    "OPS": (1.0, {"flop": 1, "s": -1}),
    "B": (1.0, {"byte": 1}),
    "b": (0.125, {"byte": 1}),
    "bps": (0.125, {"byte": 1, "s": -1}),
    "s": (1.0, {"s": 1}),
    "Hz": (1.0, {"s": -1}),
    "W": (1.0, {"J": 1, "s": -1}),
    "J": (1.0, {"J": 1}),
    "Wh": (3600.0, {"J": 1}),
    "g": (1e-3, {"kg": 1}),
    "T": (1.0, {}),  # transfers, as in 4800 MT/s
}
_WHOLE: dict[str, tuple[float, dict[str, int]]] = {
    "min": (60.0, {"s": 1}),
    "h": (3600.0, {"s": 1}),
    "hr": (3600.0, {"s": 1}),
    "month": (YEAR_S / 12.0, {"s": 1}),
    "months": (YEAR_S / 12.0, {"s": 1}),
    "year": (YEAR_S, {"s": 1}),
    "years": (YEAR_S, {"s": 1}),
    "USD": (1.0, {"USD": 1}),
    "%": (0.01, {}),
}
_COUNT = (
    "SM", "CU", "MXU", "MME", "TPC", "DSP", "AIE", "tile", "tiles", "core", "cores", "chip", "chips", "GPU", "GPUs",
    "GCD", "GCDs", "device", "devices", "link", "links", "lane", "lanes", "channel", "channels", "row", "rows",
    "column", "columns", "card", "cards", "NIC", "NICs", "BRAM", "URAM",
)  # fmt: skip
_PREFIX = {
    "n": 1e-9, "u": 1e-6, "µ": 1e-6, "m": 1e-3, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
}  # fmt: skip
_BINARY_PREFIX = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}
_PRICE: Dimension = (("USD", 1), ("s", -1))
_EXAMPLES = "TFLOP/s, TOP/s, GB, GiB, GB/s, Gb/s (bits), MHz, GHz, us, ms, s, W, J, USD/h, %, SM, CU, DSP, cores"
_SUGGEST = (
    "FLOP", "GFLOP", "TFLOP", "PFLOP", "GFLOPS", "TFLOPS", "TOP", "TOPS", "MAC", "Gb", "Gbps", "B", "kB", "MB", "GB",
    "TB", "KiB", "MiB", "GiB", "TiB", "Hz", "MHz", "GHz", "ns", "us", "ms", "s", "min", "h", "W", "kW", "J", "USD",
    "%", "MT", *_COUNT,
)  # fmt: skip
_TOKEN = re.compile(r"\s*(?:(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)|([A-Za-zµ%]+)|([*/+-]))")
_LIMIT = 200


@dataclass(frozen=True, slots=True)
class Quantity:
    """A magnitude in SI units and its dimension."""

    value: float
    dimension: Dimension


def parse_quantity(text: str) -> float:
    """The SI value of printed text: "3350 GB/s" is 3.35e12, "83 %" is 0.83, "900 GB/s / 2" is 4.5e11.

    Terms are a number with or without a unit; `*`, `/`, `+` and `-` join them, `*` and `/` first. 1 MAC is 2 FLOP,
    an OP counts as a FLOP, a bit is 1/8 byte, KiB/MiB/GiB/TiB are powers of two and kB to EB powers of ten. Money per
    time is the one quantity not in SI: it is read, kept and shown in USD/h. The result has 15 significant digits, so
    that decimal text gives the decimal number ("83 %" is 0.83 and not 0.8300000000000001).
    Errors: RooflineError for an unknown unit, a sum of unlike terms, or a result that is negative or not finite.
    """
    return parse_printed(text).value


def parse_printed(text: str) -> Quantity:
    """As `parse_quantity`, with the dimension. Errors: the same."""
    total: Quantity | None = None
    for term in _terms(_tokens(text), text):
        if total is not None and total.dimension != term.dimension:
            raise _bad(text, f"adds {_name(total.dimension)} to {_name(term.dimension)}")
        total = Quantity((total.value if total else 0.0) + term.value, term.dimension)
    if total is None:
        raise _bad(text, "is empty")
    if not math.isfinite(total.value) or total.value < 0.0:
        raise _bad(text, "is negative" if total.value < 0.0 else "is not a finite number")
    hourly = 3600.0 if total.dimension == _PRICE else 1.0
    return Quantity(float(f"{total.value * hourly:.15g}"), total.dimension)


def dimension_of(unit: str) -> Dimension:
    """The dimension of a unit such as "FLOP/s" or "B" ("" is a pure number)."""
    return parse_printed(f"1 {unit}").dimension


def _tokens(text: str) -> list[tuple[str, str]]:
    """(kind, text) pairs; kind is "number", "word" or "operator". A bare `x` multiplies."""
    if len(text) > _LIMIT:
        raise _bad(text, f"has {len(text)} characters; at most {_LIMIT} are read")
    found, position, end = [], 0, len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None:
            raise _bad(text, f"has {text[position:].strip()[:1]!r}, which is neither a number, a unit nor * / + -")
        number, word, operator = match.groups()
        if number:
            found.append(("number", number))
        elif operator or word == "x":
            found.append(("operator", operator or "*"))
        else:
            found.append(("word", word))
        position = match.end()
    return found


def _terms(tokens: list[tuple[str, str]], text: str) -> list[Quantity]:
    """The summands. A unit directly after a number, and `/ unit` after that, bind tighter than any operator."""
    terms: list[Quantity] = []
    operator, position = "+", 0
    while position < len(tokens):
        kind, number = tokens[position]
        if kind != "number":
            raise _bad(text, f"needs a number where it has {number!r}")
        value, position = float(number), position + 1
        powers: dict[str, int] = {}
        while position < len(tokens):
            over = tokens[position] == ("operator", "/") and tokens[position + 1 : position + 2]
            if tokens[position][0] == "word":
                sign, word, position = 1, tokens[position][1], position + 1
            elif over and over[0][0] == "word":
                sign, word, position = -1, over[0][1], position + 2
            else:
                break
            scale, unit = _unit(word)
            value *= scale**sign
            powers = _combine(powers, unit, sign)
        terms = _apply(terms, operator, Quantity(value, _freeze(powers)), text)
        if position == len(tokens):
            return terms
        kind, operator = tokens[position]
        position += 1
        if kind != "operator":
            raise _bad(text, f"needs *, /, + or - before {operator!r}")
        if position == len(tokens):
            raise _bad(text, f"ends with {operator!r}")
    return terms


def _apply(terms: list[Quantity], operator: str, right: Quantity, text: str) -> list[Quantity]:
    if operator in "+-":
        return [*terms, Quantity(right.value if operator == "+" else -right.value, right.dimension)]
    sign = 1 if operator == "*" else -1
    if sign < 0 and right.value == 0.0:
        raise _bad(text, "divides by zero")
    left = terms[-1]
    value = left.value * right.value if sign > 0 else left.value / right.value
    return [*terms[:-1], Quantity(value, _freeze(_combine(dict(left.dimension), dict(right.dimension), sign)))]


def _unit(word: str) -> tuple[float, dict[str, int]]:
    """Scale to SI and powers of one unit word. Errors: RooflineError naming the nearest unit."""
    if word in _WHOLE:
        return _WHOLE[word]
    if word in _COUNT:
        return 1.0, {}
    if word in _BASE:
        return _BASE[word]
    if word[:2] in _BINARY_PREFIX and word[2:] in ("B", "b"):
        scale, powers = _BASE[word[2:]]
        return scale * _BINARY_PREFIX[word[:2]], powers
    if word[0] in _PREFIX and word[1:] in _BASE:
        scale, powers = _BASE[word[1:]]
        return scale * _PREFIX[word[0]], powers
    match = nearest(word, _SUGGEST)
    hint = f" Did you mean {match!r}?" if match else ""
    raise RooflineError(
        f"unit: {clip(word)} is not known.{hint} Accepted: {_EXAMPLES}, with other prefixes too. "
        "Units are case-sensitive: B is bytes, b is bits."
    )


def _combine(left: dict[str, int], right: dict[str, int], sign: int) -> dict[str, int]:
    return {name: left.get(name, 0) + sign * right.get(name, 0) for name in {*left, *right}}


def _freeze(powers: dict[str, int]) -> Dimension:
    return tuple(sorted((name, power) for name, power in powers.items() if power))


def _name(dimension: Dimension) -> str:
    return "·".join(name if power == 1 else f"{name}^{power}" for name, power in dimension) or "a pure number"


def describe(dimension: Dimension) -> str:
    """A dimension in words an error message can use: "flop·s^-1", "a pure number"."""
    return _name(dimension)


def _bad(text: str, what: str) -> RooflineError:
    return RooflineError(
        f"quantity: {clip(text)} {what}. Accepted: numbers with units ({_EXAMPLES}) joined by *, /, + and -, "
        'such as "3350 GB/s" or "132 SM * 4096 FLOP * 1.83 GHz".'
    )


def format_quantity(value: float, unit: str, *, binary: bool = False) -> str:
    """`value` in SI as text with four significant digits and the fitting prefix: 3.35e12, "B/s" gives "3.35 TB/s".

    `binary` counts bytes in powers of 1024 ("80 GiB"). USD, % and pure numbers take no prefix.
    Errors: RooflineError for a value that is not finite.
    """
    if not math.isfinite(value):
        raise RooflineError(f"value: {value!r} {unit} is not a finite number, so it cannot be shown.")
    if unit == "%":
        return f"{100.0 * value:.4g} %"
    if not unit or unit.startswith("USD"):
        return f"{value:.4g} {unit}".rstrip()
    if binary:
        steps = {"": 1.0, **_BINARY_PREFIX}
    else:
        steps = {"": 1.0, **{prefix: size for prefix, size in _PREFIX.items() if prefix not in ("µ", "K")}}
        steps = {prefix: size for prefix, size in steps.items() if size >= 1.0 or unit in ("s", "J", "W")}
    shown = float(f"{abs(value):.4g}")  # round first: 999.96 GB is 1 TB
    prefix = max((name for name, size in steps.items() if size <= shown), key=steps.__getitem__, default=None)
    if prefix is None:
        prefix = "" if value == 0.0 else min(steps, key=steps.__getitem__)
    return f"{float(f'{value:.4g}') / steps[prefix]:.4g} {prefix}{unit}"
