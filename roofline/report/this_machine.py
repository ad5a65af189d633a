"""The page of whole models and a sweep on one machine: measured beside predicted, a pure rendering of the record."""

from typing import Any

from .figures import BOUND_COLOUR, BOUND_SYMBOL, Figure, axis, colour, layout, log_axis, symbol
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
    Column("error", "error", "%", "predicted / measured - 1"),
    Column("repeat_error", "repeat noise", "%", "how far two measurements of the same step differ"),
)
_FLIP_COLUMNS = (
    Column("library", "library", None, "what computed"),
    Column("measured_rows", "measured", "", "rows of the first doubling that time follows"),
    Column("predicted_rows", "predicted", "", "the same of the prediction"),
    Column("measured_balance", "measured balance", "", "rows at which floor and slope of the measured times meet"),
    Column("predicted_balance", "predicted balance", "", "the same of the prediction"),
)


def contents(record: Record) -> Contents:
    """What the page of a `roofline.this_machine/1` record shows. Errors: RooflineError for a damaged record."""
    check_parts(record, _PARTS, "benchmarks/this_machine.py")
    record = plain(record)
    libraries = list(dict.fromkeys(str(point["library"]) for point in record["sweep"]))
    figures = {f"sweep-{library}": sweep(library, record["sweep"]) for library in libraries}
    tables = {
        "models": table("models", "Whole steps of small models", _MODEL_COLUMNS, record["models"]),
        "flips": table("flips", "Where memory-bound turns compute-bound", _FLIP_COLUMNS, record["flips"]),
    }
    return Contents("this_machine.html.j2", record, figures, {"libraries": libraries, "tables": tables})


def sweep(library: str, points: list[dict[str, Any]]) -> Figure:
    """Measured and predicted seconds of one library over the rows of a product, both axes logarithmic."""
    own = [point for point in points if point["library"] == library]
    rows = [point["rows"] for point in own]
    seconds = [point[key] for point in own for key in ("measured_s", "predicted_s")]
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
            "symbol": [BOUND_SYMBOL.get(point["predicted_bound"], "x") for point in own],
            "color": [BOUND_COLOUR.get(point["predicted_bound"], "#808080") for point in own],
            "size": 9,
        },
        "line": {"color": "#808080"},
    }
    return {
        "data": [measured, predicted],
        "layout": layout(
            xaxis=axis("rows (tokens of the batch)", type="log", tickvals=rows, ticktext=[str(row) for row in rows]),
            yaxis=log_axis(f"time with {library}", 0.8 * min(seconds), 1.25 * max(seconds), "s"),
        ),
    }
