"""The page of an explanation: one figure as a tree that opens step by step, a pure rendering of the record it holds."""

from collections.abc import Iterator
from typing import Any

from . import format as text
from .comparison_figures import bars
from .figures import Figure
from .html import Contents
from .parts import OBJECT, ROWS, Record, check_parts, plain
from .tables import Column, table

_PARTS = {
    "scenario": OBJECT,
    "tree": OBJECT,
    "tree.source": OBJECT,
    "tree.children": ROWS,
    "provenance": OBJECT,
}

_DEEPEST = 60
"""Levels shown: an explanation has a dozen."""

_PREFIXED = frozenset({"B", "FLOP", "B/s", "FLOP/s", "W", "J"})
_LARGEST = 24

_COLUMNS = (
    Column("path", "figure", None, "names from the explained figure down"),
    Column("shown", "value", None, "rounded, with its unit"),
    Column("value", "value, SI", "", "as the record has it"),
    Column("formula", "formula", None, "an expression in the figures below it, or words"),
    Column("source", "source", None, "where a figure without parts is from"),
)


def contents(record: Record) -> Contents:
    """What the page of a `roofline.explanation/1` record shows. Errors: RooflineError for a damaged record."""
    check_parts(record, _PARTS, "explain")
    record = plain(record)
    tree = _node(record["tree"])
    summed = next((node for node in _walk(tree) if node["adds"]), None)
    figures = {"parts-plot": _parts(summed)} if summed else {}
    shown = {
        "tree": tree,
        "summed": summed,
        "tables": {"nodes": table("nodes", "Every figure of the tree", _COLUMNS, list(_walk(tree)))},
    }
    return Contents("explanation.html.j2", record, figures, shown)


def _node(held: Any, path: str = "", level: int = 0) -> dict[str, Any]:
    """A node as the template shows it, and all below it."""
    node = held if isinstance(held, dict) else {"name": text.plain(held)}
    name = str(node.get("name"))
    path = f"{path} / {name}" if path else name
    below = node.get("children")
    children = (
        [_node(child, path, level + 1) for child in below] if isinstance(below, list) and level < _DEEPEST else []
    )
    formula, source = str(node.get("formula") or ""), node.get("source")
    kind, told = (str(source.get(key) or "") for key in ("kind", "text")) if isinstance(source, dict) else ("", "")
    names = [child["name"] for child in children]
    exact = node.get("exact") is True
    return {
        "name": name,
        "path": path,
        "value": node.get("value"),
        "unit": node.get("unit") or "",
        "shown": _quantity(node.get("value"), str(node.get("unit") or "")),
        "formula": f"{'=' if exact else '~'} {formula}" if formula else "",
        "note": str(node.get("note") or ""),
        "source": "" if kind in ("", "computed") else f"{kind}: {told}",
        "adds": exact and len(names) > 1 and formula.split(" + ") == names,
        "children": children,
        "open": level < 2,
    }


def _parts(summed: dict[str, Any]) -> Figure:
    """The largest parts of a sum as bars, in one unit."""
    known = [
        (child["name"], value) for child in summed["children"] if (value := text.finite(child["value"])) is not None
    ]
    unit, scale = text.column_unit([value for _, value in known], str(summed["unit"]))
    rows = [{"label": name, "value": value / scale} for name, value in sorted(known, key=lambda part: -abs(part[1]))]
    return bars(rows[:_LARGEST], "value", f"{text.clip(summed['name'], 30)}, {text.clip(unit or 1, 12)}")


def _walk(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node["children"]:
        yield from _walk(child)


def _quantity(value: object, unit: str) -> str:
    """A value as a reader sees it: seconds and bytes with a prefix, all else as it is."""
    if unit == "s":
        return text.seconds(value)
    if unit == "USD":
        return text.money(value)
    if unit in _PREFIXED:
        return text.quantity(value, unit)
    return f"{text.number(value)} {unit}".strip()
