"""The kept record of every kind of page: made by the commands themselves (benchmarks/gallery.py)."""

import json
from pathlib import Path
from typing import Any

REPORTS = Path(__file__).parents[2] / "reports"

NAMES = (
    "predict-h100-sxm",
    "predict-serving",
    "predict-batches",
    "compare",
    "plan",
    "plan-infeasible",
    "simulate",
    "sensitivity",
    "diff",
    "explain",
    "validation-mi210",
    "this-machine",
)
"""One record of each kind, and the plan that no configuration meets."""


def sample(name: str) -> dict[str, Any]:
    """A kept record, a fresh copy of it."""
    record = json.loads((REPORTS / f"{name}.json").read_text("utf-8"))
    for part in (record.get("pareto") or {}).get("points"), record.get("requests"):
        for key, column in (part or {}).items():
            part[key] = column[:250]  # still a large table, without its weight in every attack
    return dict(record)
