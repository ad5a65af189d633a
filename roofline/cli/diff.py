"""`roofline diff`: what changed between two predictions or plans, and why."""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Annotated, Any

import typer

from ..api import case_of
from ..difference.drivers import drivers
from ..difference.record import difference_record
from ..errors import RooflineError, unknown
from ..errors import clip as quoted
from ..outcome import Case
from ..prediction import predict_case
from ..report.format import clip, number, quantity, seconds
from ..report.record import prediction_record
from .output import called, check_files, name_files, print_json
from .scenario import NAMES, NUMBERS, request, single
from .screen import WIDTH, rendered

Record = Mapping[str, Any]

TOP = 6
"""Kernels of a phase on the screen."""

SMALL = 0.01
"""Share of a difference below which a part is not worth a word."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two: its record, and the case where it was made here."""

    label: str
    record: Record
    case: Case | None


def diff_command(
    a: Annotated[str, typer.Argument(help="A record (.json), or 'MODEL DEVICE [batch=64 kv=fp8 ..]' in quotes.")],
    b: Annotated[str, typer.Argument(help="What to compare it with, likewise.")],
    json_: Annotated[bool, typer.Option("--json", help="Print the whole record as JSON.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write the difference as one HTML page.")] = None,
) -> None:
    """Say which kernels, terms and inputs changed from A to B, by how much and why."""
    check_files(html=html)
    sides = side(a), side(b)
    command = called()
    cases = [entry.case for entry in sides if entry.case is not None]
    shares = drivers(*cases) if len(cases) == 2 else None
    record = difference_record(sides[0].record, sides[1].record, [entry.label for entry in sides], shares, command)
    if html is not None:
        from ..report.pages import write_page

        write_page(record, html)
    if json_:
        print_json(record)
    else:
        typer.echo(screen(record))
    name_files(html)


def side(text: str) -> Side:
    """A record read from a file, or predicted from a specification. Errors: RooflineError for what is neither."""
    if text.lower().endswith(".json"):
        from ..report.pages import read_record

        return Side(Path(text).name, read_record(Path(text)), None)
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise RooflineError(f"{quoted(text)}: {error}.") from None
    if len(words) < 2 or "=" in words[0] + words[1]:
        raise RooflineError(
            f"{quoted(text)} is neither a .json file nor a specification. Accepted: a record that --json printed, or "
            "'MODEL DEVICE [batch=64 kv=fp8 ..]' in quotes."
        )
    settings = {}
    for word in words[2:]:
        name, equals, value = word.partition("=")
        if not equals:
            raise RooflineError(
                f"{quoted(text)}: {quoted(word)} is not a setting. Accepted: name=value, as in batch=64."
            )
        field = name.lstrip("-").replace("-", "_")
        if field not in {*NUMBERS, *NAMES}:
            raise unknown("setting", name, {*NUMBERS, *NAMES})
        settings[field] = value
    asked = request(words[0], words[1], settings, None)
    case = case_of(asked.model, asked.device, **single(asked, "diff"))
    return Side(text, prediction_record(predict_case(case)), case)


def screen(record: Record) -> str:
    """The first screen of a difference: the figures, why they moved, the kernels, the inputs."""
    parts = (_figures(record), _why(record), _kernels(record), _bill(record), _inputs(record))
    return "\n".join(line for part in parts for line in part)


def _figures(record: Record) -> Iterator[str]:
    yield f"A  {_named(record['a'])}"
    yield f"B  {_named(record['b'])}"
    yield ""
    for figure in record["figures"]:
        unit = _unit(figure["key"])
        change = "" if figure["change"] is None else f"  {figure['change']:+.1%}"
        yield f"  {figure['title']:16}{_shown(figure['a'], unit):>12} -> {_shown(figure['b'], unit):<12}{change}"
    yield ""


def _named(side: Record) -> str:
    told = f"{side['model']} on {side['device_count']} x {side['device']}"
    return told if side["label"] == told else f"{told}  ({side['label']})"


def _unit(key: str) -> str:
    """The unit that a key ends with, as text is written with it."""
    name = key.removesuffix(".mean").removesuffix(".at_percentile")
    units = {"_byte_per_s": "B/s", "flop_per_s": "FLOP/s", "_byte": "B", "_per_s": "", "_s": "s"}
    return next((unit for suffix, unit in units.items() if name.endswith(suffix)), "")


def _shown(value: Any, unit: str) -> str:
    if value is None:
        return "-"
    return seconds(value) if unit == "s" else quantity(value, unit) if unit else number(value)


def _signed(value: float, unit: str) -> str:
    return f"{'-' if value < 0.0 else '+'}{_shown(abs(value), unit)}"


def _told(parts: Mapping[str, float], unit: str) -> str:
    """The parts worth a word, the largest first."""
    largest = max(map(abs, parts.values()), default=0.0)
    kept = [(name, part) for name, part in parts.items() if abs(part) > SMALL * largest]
    return ", ".join(
        f"{name.replace('_', ' ')} {_signed(part, unit)}" for name, part in sorted(kept, key=lambda pair: -abs(pair[1]))
    )


def _why(record: Record) -> Iterator[str]:
    titles = {figure["key"]: (figure["title"], figure["difference"]) for figure in record["figures"]}
    for key, shares in (record["drivers"] or {}).items():
        title, whole = titles[key]
        parts = {share["input"]: share["difference"] for share in shares}
        if whole and any(parts.values()):
            unit = _unit(key)
            told = f"{title} {_signed(whole, unit)}: {_told(parts, unit)}"
            yield from wrap(told, WIDTH, initial_indent="  ", subsequent_indent="    ")
    if record["drivers"]:
        yield "  (shares of each changed input, averaged over all orders of changing them; they add up)"
        yield ""


def _kernels(record: Record) -> Iterator[str]:
    from rich.table import Table

    for name, phase in record["phases"].items():
        if phase is None or not any(kernel["difference_s"] for kernel in phase["kernels"]):
            continue
        for label, parts in (("cause", phase["causes"]), ("bound", phase["terms"])):
            told = f"{name} {_signed(phase['difference_s'], 's')} by {label}: {_told(parts, 's')}"
            yield from wrap(told, WIDTH, subsequent_indent="  ")
        table = Table(box=None, pad_edge=False)
        for column in ("kernel", "A", "B", "difference", "bound", "why"):
            table.add_column(column, justify="right" if column in ("A", "B", "difference") else "left")
        for kernel in [kernel for kernel in phase["kernels"] if kernel["difference_s"]][:TOP]:
            bounds = dict.fromkeys(bound for bound in (kernel["bound_a"], kernel["bound_b"]) if bound)
            table.add_row(
                f"  {kernel['name']}",
                _shown(kernel["a_s"], "s"),
                _shown(kernel["b_s"], "s"),
                _signed(kernel["difference_s"], "s"),
                " -> ".join(bounds),
                _told(kernel["causes"], "s"),
            )
        yield rendered(table)
        yield ""


def _bill(record: Record) -> Iterator[str]:
    """Of plans: what the bill per hour changed by."""
    parts = (record["plan"] or {}).get("usd_per_hour")
    if parts:
        yield f"  $/h {_told({part['cause']: part['difference'] for part in parts}, '')}"
        yield ""


def _inputs(record: Record) -> Iterator[str]:
    if not record["inputs"]:
        yield "No input differs."
        return
    yield "Inputs that differ"
    for entry in record["inputs"]:
        if entry["name"] == "band.summary":
            yield "  calibration: other fits, or other bands"
            continue
        unit = _unit(entry["name"])
        a, b = (
            _shown(value, unit) if isinstance(value, int | float) else clip(value) for value in (entry["a"], entry["b"])
        )
        yield f"  {entry['name']}: {a} -> {b}"
