"""The page of a difference between two predictions or plans: a pure rendering of its record."""

from collections.abc import Mapping
from typing import Any

from . import format as text
from .diff_figures import kernels, steps
from .figures import Figure
from .html import Contents
from .parts import LIST, OBJECT, ROWS, Record, check_parts, listed, plain
from .tables import Column, Table, table

_PARTS = {
    "a": OBJECT,
    "b": OBJECT,
    "inputs": ROWS,
    "figures": ROWS,
    "phases?": OBJECT,
    "phases?.*": OBJECT,
    "phases?.*.kernels": ROWS,
    "phases?.*.causes": OBJECT,
    "drivers?": OBJECT,
    "drivers?.*": ROWS,
    "plan?": OBJECT,
    "text?": LIST,
    "provenance": OBJECT,
}
_CAUSES = {
    "count": "executions",
    "work": "FLOP or bytes",
    "datasheet_rate": "data-sheet rate",
    "efficiency": "efficiency reached",
    "overhead": "fixed costs",
    "bound": "another bound",
    "appears": "new kernels",
    "disappears": "kernels gone",
}
_INPUT_COLUMNS = (
    Column("name", "input", None, "setting or fact that differs"),
    Column("a", "first", None, "of the first side"),
    Column("b", "second", None, "of the second side"),
)
_PLAN_COLUMNS = (Column("name", "field", None, "field of the plan"), *_INPUT_COLUMNS[1:])


def contents(record: Record) -> Contents:
    """What the page of a `roofline.diff/1` record shows. Errors: RooflineError for a damaged record."""
    check_parts(record, _PARTS, "diff")
    record = plain(record)
    phases = {name: phase for name, phase in (record.get("phases") or {}).items() if phase}
    drivers = record.get("drivers") or {}
    by_key = {str(figure.get("key")): figure for figure in record["figures"]}
    around: dict[str, Figure | None] = {}
    for i, (key, parts) in enumerate(drivers.items()):
        figure = by_key.get(key, {})
        named = [(str(part.get("input")), part.get("difference")) for part in parts]
        title = str(figure.get("title") or key)
        around[f"driver-{i}"] = steps(key, title, (figure.get("a"), figure.get("b")), named)
    for name, phase in phases.items():
        causes = [(_CAUSES.get(cause, cause), value) for cause, value in phase["causes"].items()]
        causes.append(("stages, other", phase.get("other_s") if _matters(phase) else None))
        ends = (phase.get("a_s"), phase.get("b_s"))
        around[f"causes-{name}"] = steps(str(phase.get("figure") or "step_s"), f"{name} step", ends, causes)
        around[f"kernels-{name}"] = kernels(phase)
    figures = {name: figure for name, figure in around.items() if figure is not None}
    shown = {
        "drawn": set(figures),
        "drivers": [
            (f"driver-{i}", by_key.get(key, {}).get("title") or key)
            for i, key in enumerate(drivers)
            if f"driver-{i}" in figures
        ],
        "phases": phases,
        "main": [_told(figure) for figure in record["figures"] if text.finite(figure.get("change")) is not None],
        "tables": {
            "figures": _figures(record["figures"]),
            "inputs": table("inputs", "Inputs that differ", _INPUT_COLUMNS, [_worded(row) for row in record["inputs"]]),
            "kernels": [_kernels(name, phase) for name, phase in phases.items()],
            "plan": table(
                "plan-fields", "Fields of the plans", _PLAN_COLUMNS, [_worded(row) for row in _fields(record)]
            ),
        },
    }
    return Contents("diff.html.j2", record, figures, shown)


def _fields(record: Record) -> list[Record]:
    return [row for row in listed(record.get("plan"), "fields") if isinstance(row, Mapping)]


def _matters(phase: Record) -> bool:
    """Whether what no kernel explains is more than rounding."""
    other, whole = text.finite(phase.get("other_s")) or 0.0, text.finite(phase.get("a_s")) or 0.0
    return abs(other) > 1e-9 * abs(whole)


def _worded(row: Record) -> dict[str, Any]:
    return {"name": row.get("name"), "a": text.count(row.get("a")), "b": text.count(row.get("b"))}


def _shown(key: str, value: Any) -> str:
    if key.startswith("usd"):
        return text.money(value)
    if key.endswith("_s") and not key.endswith("_per_s"):
        return text.seconds(value)
    return text.size(value) if key.endswith("_byte") else text.number(value)


def _told(figure: Record) -> dict[str, str]:
    """A headline figure of both sides in words, and the change."""
    key = str(figure.get("key"))
    change = 100.0 * (text.finite(figure.get("change")) or 0.0)
    sides = {side: _shown(key, figure.get(side)) for side in ("a", "b")}
    return {"title": text.clip(figure.get("title"), 40), **sides, "change": f"{change:+,.1f}\u00a0%"}


def _figures(rows: list[Record]) -> Table:
    columns = (
        Column("title", "figure", None, "headline figure"),
        Column("first", "first", None, "of the first side"),
        Column("second", "second", None, "of the second side"),
        Column("a", "first, SI", "", "of the first side, in SI"),
        Column("b", "second, SI", "", "of the second side, in SI"),
        Column("difference", "difference, SI", "", "second minus first"),
        Column("change", "change", "%", "second over first, minus one"),
    )
    told = [
        {**row, "first": _shown(str(row.get("key")), row.get("a")), "second": _shown(str(row.get("key")), row.get("b"))}
        for row in rows
    ]
    return table("headline", "Headline figures of both sides", columns, told)


def _kernels(name: str, phase: Record) -> Table:
    columns = (
        Column("name", "kernel", None, "name of the kernel"),
        Column("kind", "kind", None, "family of the kernel"),
        Column("bound_a", "first bound", None, "what binds it on the first side"),
        Column("bound_b", "second bound", None, "what binds it on the second side"),
        Column("a_s", "first", "s", "seconds a step on the first side"),
        Column("b_s", "second", "s", "seconds a step on the second side"),
        Column("difference_s", "difference", "s", "second minus first"),
        *(Column(f"cause_{cause}", title, "s", f"of the difference: {title}") for cause, title in _CAUSES.items()),
    )
    rows = []
    for kernel in phase["kernels"]:
        causes = kernel.get("causes")
        held = causes if isinstance(causes, Mapping) else {}
        rows.append({**kernel, **{f"cause_{cause}": held.get(cause) for cause in _CAUSES}})
    return table(f"{name}-kernels", f"{name}: every kernel of both sides", columns, rows)
