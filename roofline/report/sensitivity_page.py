"""The page of a sensitivity: what would move a prediction, and the next best change; a pure rendering of its record."""

from collections.abc import Mapping
from typing import Any

from . import format as text
from .figures import Figure
from .html import Contents
from .parts import LIST, OBJECT, ROWS, Record, check_parts, listed, plain
from .sensitivity_figures import elasticities, gains, tornado
from .tables import Column, Table, table

_PARTS = {
    "scenario": OBJECT,
    "figures": ROWS,
    "base": OBJECT,
    "levers": ROWS,
    "levers.*.steps": ROWS,
    "choices": ROWS,
    "choices.*.options": ROWS,
    "crossovers": ROWS,
    "objective": OBJECT,
    "changes": ROWS,
    "not_modelled": LIST,
    "assumptions": LIST,
    "band": OBJECT,
    "provenance": OBJECT,
}
_UNITS = {"_s": "s", "_byte": "B", "_j": "J"}
"""The unit of a figure by the end of its key; other figures are told in the words of their title."""


def contents(record: Record) -> Contents:
    """What the page of a `roofline.sensitivity/1` record shows. Errors: RooflineError for a damaged record."""
    check_parts(record, _PARTS, "sensitivity")
    record = plain(record)
    figures, levers = record["figures"], record["levers"]
    objective = str(record["objective"].get("title"))
    around: dict[str, Figure | None] = {
        "gain-plot": gains(record["changes"], objective),
        "elasticity-plot": elasticities(levers, figures),
        **{
            f"tornado-{i}": tornado(levers, str(f.get("key")), str(f.get("title")), _sign(f))
            for i, f in enumerate(figures)
        },
    }
    drawn = {name: figure for name, figure in around.items() if figure is not None}
    shown = {
        "drawn": set(drawn),
        "tornados": [(f"tornado-{i}", f.get("title")) for i, f in enumerate(figures) if f"tornado-{i}" in drawn],
        "tiles": [(f.get("title"), _shown(str(f.get("key")), record["base"].get(f.get("key")))) for f in figures],
        "best": next((row for row in record["changes"] if (text.finite(row.get("gain")) or 0.0) < 0.0), None),
        "tables": {
            "changes": _changes(record),
            "levers": _levers(record),
            "choices": [_options(f"choice-{i}", choice, figures) for i, choice in enumerate(record["choices"])],
        },
    }
    return Contents("sensitivity.html.j2", record, drawn, shown)


def _sign(figure: Record) -> float:
    return 1.0 if figure.get("better") == "higher" else -1.0


def _unit(key: str) -> str:
    return next((unit for end, unit in _UNITS.items() if key.endswith(end) and not key.endswith("_per_s")), "")


def _shown(key: str, value: Any) -> str:
    unit = _unit(key)
    if key.startswith("usd"):
        return text.money(value)
    if unit == "s":
        return text.seconds(value)
    return text.quantity(value, unit) if unit else text.number(value)


def _figure_columns(figures: list[Record], suffix: str = "") -> tuple[Column, ...]:
    return tuple(
        Column(str(f.get("key")), f"{f.get('title')}{suffix}", _unit(str(f.get("key"))), str(f.get("title")))
        for f in figures
    )


def _changed(row: Record, figures: list[Record]) -> dict[str, Any]:
    """The changes of every figure of a row, by key, as fractions."""
    change = row.get("change")
    held = change if isinstance(change, Mapping) else {}
    return {f"change_{f.get('key')}": held.get(f.get("key")) for f in figures}


def _changes(record: Record) -> Table:
    figures, key = record["figures"], str(record["objective"].get("key"))
    rows = [{**row, **_changed(row, figures)} for row in record["changes"]]
    columns = (
        Column("text", "change", None, "what is changed"),
        Column("flags", "flags", None, "how to ask for it"),
        Column("gain", "gain", "%", f"change of {record['objective'].get('title')}"),
        Column("objective", str(record["objective"].get("title")), _unit(key), "what changes are ranked by"),
        Column("fits", "fits", None, "whether it fits into memory"),
        Column("bound", "bound", None, "the resource that limits decode"),
        Column("device", "device", None, "profile"),
        Column("device_count", "devices", "", "devices in all"),
        *(Column(f"change_{f.get('key')}", str(f.get("title")), "%", f"change of {f.get('title')}") for f in figures),
        Column("note", "note", None, "what to know"),
    )
    return table("changes", "Changes, the best first", columns, rows)


def _levers(record: Record) -> Table:
    rows = [
        {"title": lever.get("title"), **{str(k): v for k, v in (lever.get("elasticity") or {}).items()}}
        for lever in record["levers"]
        if isinstance(lever.get("elasticity"), Mapping | None)
    ]
    columns = tuple(
        Column(str(f.get("key")), str(f.get("title")), "", "percent for one percent of the lever")
        for f in record["figures"]
    )
    return table(
        "levers", "Elasticities", (Column("title", "lever", None, "what grows by one percent"), *columns), rows
    )


def _options(name: str, choice: Record, figures: list[Record]) -> tuple[str, Table]:
    rows = []
    for option in listed(choice, "options"):
        held = option.get("figures")
        rows.append({**option, **(held if isinstance(held, Mapping) else {}), "value": text.plain(option.get("value"))})
    columns = (
        Column("value", str(choice.get("title")), None, "the choice"),
        Column("fits", "fits", None, "whether it fits into memory"),
        *_figure_columns(figures),
        Column("refused", "refused", None, "why it cannot be"),
    )
    title = str(choice.get("title"))
    return title, table(name, f"Choices of {text.clip(title, 40)}", columns, rows)
