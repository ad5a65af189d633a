"""The page of whole models and a sweep on one machine: measured beside predicted, a pure rendering of the record."""

from statistics import median
from typing import Any

from .figures import BOUND_COLOUR, BOUND_SYMBOL, NEUTRAL, Figure, axis, colour, layout, log_axis, safe, symbol
from .format import clip, finite
from .html import Contents
from .parts import OBJECT, ROWS, Record, check_parts, plain
from .tables import Column, table

_PARTS = {"environment": OBJECT, "models": ROWS, "sweep": ROWS, "flips": ROWS, "provenance": OBJECT}

_MODEL_COLUMNS = (
    Column("library", "library", None, "what computed"),
    Column("model", "model", None, "preset, and how many of its layers"),
    Column("attention", "attention", None, "one fused call, or step by step"),
    Column("step", "step", None, "sequences x new tokens behind cached ones"),
    Column("measured_s", "measured", "s", "fast side of the samples"),
    Column("predicted_s", "predicted", "s", "sum of the steps, calibrated one by one"),
    Column("low_s", "at least", "s", "lower end of the band"),
    Column("high_s", "at most", "s", "upper end of the band"),
    Column("error", "error", "%", "predicted / measured - 1"),
    Column("repeat_error", "repeat noise", "%", "how far two measurements of the same step differ"),
)
_FLIP_COLUMNS = (
    Column("library", "library", None, "what computed"),
    Column("measured_balance", "measured balance", "", "rows at which floor and slope of the measured times meet"),
    Column("predicted_balance", "predicted balance", "", "the same of the predicted times"),
    Column("label_rows", "label turns", "", "fewest rows measured from which on the predicted bound is compute"),
)


def contents(record: Record) -> Contents:
    """What the page of a `roofline.this_machine/1` record shows. Errors: RooflineError for a damaged record."""
    check_parts(record, _PARTS, "benchmarks/this_machine.py")
    record = plain(record)
    libraries = list(dict.fromkeys(str(point.get("library")) for point in record["sweep"]))
    figures = {f"sweep-{i}": sweep(library, record["sweep"]) for i, library in enumerate(libraries)}
    tables = {
        "models": table("models", "Whole steps of small models", _MODEL_COLUMNS, record["models"]),
        "flips": table("flips", "Where memory-bound turns compute-bound", _FLIP_COLUMNS, record["flips"]),
    }
    return Contents(
        "this_machine.html.j2",
        record,
        figures,
        {"libraries": libraries, "tables": tables, "whole": _whole(record["models"])},
    )


def _whole(models: list[dict[str, Any]]) -> dict[str, float] | None:
    """How far the predictions of whole steps are from the measurements; None without any."""
    missed = sorted(abs(error) for row in models if (error := finite(row.get("error"))) is not None)
    spans = [[finite(row.get(key)) for key in ("low_s", "measured_s", "high_s")] for row in models]
    inside = sum(low <= at <= high for low, at, high in spans if low is not None and at and high is not None)
    return {"n": len(missed), "median": median(missed), "worst": missed[-1], "inside": inside} if missed else None


def sweep(library: str, points: list[dict[str, Any]]) -> Figure:
    """Measured and predicted seconds of one library over the rows of a product, both axes logarithmic."""
    own = [
        point
        for point in points
        if str(point.get("library")) == library
        and all((finite(point.get(key)) or 0.0) > 0.0 for key in ("rows", "measured_s", "predicted_s"))
    ]
    rows = [point["rows"] for point in own]
    seconds = [point[key] for point in own for key in ("measured_s", "predicted_s")] or [1e-3, 1.0]
    bounds = [str(point.get("predicted_bound")) for point in own]
    measured = {
        "type": "scatter",
        "mode": "lines+markers",
        "name": "measured",
        "x": rows,
        "y": [point["measured_s"] for point in own],
        "marker": {"symbol": symbol(2), "size": 9},
        "line": {"color": colour(2), "dash": "dot"},
    }
    predicted = {
        "type": "scatter",
        "mode": "lines+markers",
        "name": "predicted (marker: its bound)",
        "x": rows,
        "y": [point["predicted_s"] for point in own],
        "marker": {
            "symbol": [BOUND_SYMBOL.get(bound, "x") for bound in bounds],
            "color": [BOUND_COLOUR.get(bound, NEUTRAL) for bound in bounds],
            "size": 9,
        },
        "line": {"color": "#808080"},
    }
    return {
        "data": [measured, predicted],
        "layout": layout(
            xaxis=axis("rows (tokens of the batch)", type="log", tickvals=rows, ticktext=[str(row) for row in rows]),
            yaxis=log_axis(f"time with {safe(clip(library, 24))}", 0.8 * min(seconds), 1.25 * max(seconds), "s"),
        ),
    }
