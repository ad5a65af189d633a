"""A sensitivity analysis as a plain record, `roofline.sensitivity/1`."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from .. import __version__
from ..outcome import Case
from ..prediction import Prediction
from ..sensitivity.analysis import Crossover, Row, Values
from ..sensitivity.changes import Change, ranked
from ..sensitivity.figures import Figure, Measured
from ..sensitivity.served import ServedCase
from .format import count, number, quantity
from .record import case_record

SCHEMA = "roofline.sensitivity/1"

CHOICES = {"weights": "weights", "kv": "KV cache", "tp": "tensor parallelism", "device": "device"}
"""Discrete levers and their titles."""


def sensitivity_record(
    prediction: Prediction,
    case: Case,
    figures: Sequence[Figure],
    found: Measured,
    base: Values,
    rows: Sequence[Row],
    crossovers: Sequence[Crossover],
    changes: Sequence[Change],
    objective: Figure,
    command: str = "",
) -> dict[str, Any]:
    """The record of a sensitivity analysis: JSON-ready, SI units in its keys.

    `prediction`: of the static batch, for what it rests on. `case`: what was analysed, measured as `found`.
    `figures`: those to show, in order. `command`: the command line that made it.
    """
    keys = [figure.key for figure in figures]

    def shown(values: Values | None) -> dict[str, float | None] | None:
        return None if values is None else {key: values[key] for key in keys}

    def moved(values: Values | None) -> dict[str, float | None] | None:
        return None if values is None else {key: _change(values[key], base[key]) for key in keys}

    decode = prediction.decode
    device = prediction.device
    return {
        "schema": SCHEMA,
        "model": prediction.model.name,
        "device": device.name,
        "device_count": prediction.scenario.parallelism.device_count,
        "scenario": case_record(prediction.case),
        "traffic": _traffic(case),
        "figures": [
            {"key": figure.key, "title": figure.title, "better": "lower" if figure.less_is_better else "higher"}
            for figure in figures
        ],
        "base": (shown(base) or {})
        | {
            "fits": bool(found.fits),
            "bound": {"prefill": str(prediction.prefill.bound), "decode": decode and found.bound_name},
        },
        "levers": [
            {
                "key": row.key,
                "title": row.title,
                "kind": row.kind,
                "value": row.value,
                "unit": row.unit,
                "elasticity": shown(row.elasticity),
                "steps": [
                    {
                        "factor": step.factor,
                        "value": step.value,
                        "figures": shown(step.figures),
                        "change": moved(step.figures),
                    }
                    for step in row.steps
                ],
            }
            for row in rows
        ],
        "choices": [
            {"key": key, "title": title, "options": [_option(change, shown, moved) for change in options]}
            for key, title in CHOICES.items()
            if (options := [change for change in changes if change.alternative.kind == key])
        ],
        "crossovers": [
            asdict(crossover) | {"text": _told(crossover, rows)}
            for crossover in sorted(crossovers, key=lambda entry: max(entry.factor, 1.0 / entry.factor))
        ],
        "objective": {"key": objective.key, "title": objective.title, "base": base[objective.key]},
        "changes": [
            {
                "rank": rank,
                "text": change.alternative.text,
                "flags": change.alternative.flags,
                "kind": change.alternative.kind,
                **_where(change),
                "fits": change.fits,
                "objective": change.objective,
                "gain": change.gain,
                "figures": shown(change.figures),
                "change": moved(change.figures),
                "usd_per_hour": change.usd_per_hour,
                "bound": change.bound,
                "note": change.alternative.note,
            }
            for rank, change in enumerate(ranked(changes, objective), 1)
        ],
        "band": {"coverage": prediction.calibration.coverage, "summary": prediction.calibration.summary},
        "not_modelled": list(prediction.not_modelled),
        "assumptions": list(prediction.assumptions),
        "provenance": {
            "package_version": __version__,
            "profile_digest": device.digest,
            "device_title": device.title,
            "command": command,
        },
    }


def _traffic(case: Case) -> dict[str, Any] | None:
    """The engine and the load that a case is served under; None for a static batch."""
    if not isinstance(case, ServedCase):
        return None
    return {
        "engine": case.engine.name,
        "kind": type(case.traffic).__name__,
        **{name: float(value) for name, value in asdict(case.traffic).items() if np.isfinite(value)},
        "mean_batch": float(case.scenario.batch),
        "max_sequence": float(case.engine.limits.max_sequence),
        "max_batch_token": float(case.engine.limits.max_batch_token),
    }


def _told(crossover: Crossover, rows: Sequence[Row]) -> str:
    """A crossover as a sentence."""
    title, unit = {row.key: (row.title, row.unit) for row in rows}.get(crossover.quantity, (crossover.quantity, ""))
    value = quantity(crossover.value, unit) if unit else count(crossover.value)
    where = f"{title} {value} ({number(crossover.factor)} x)"
    side = "from" if crossover.factor > 1.0 else "down from"
    if crossover.kind == "format":
        return f"{crossover.phase}: {crossover.before}; {crossover.after} {side} {where}"
    return f"{crossover.phase}: {crossover.before}-bound; {crossover.after}-bound {side} {where}"


def _change(value: float | None, base: float | None) -> float | None:
    return None if value is None or not base else value / base - 1.0


def _where(change: Change) -> dict[str, Any]:
    case = change.alternative.case
    if case is None:
        return {"device": None, "device_count": None}
    return {"device": case.device.name, "device_count": case.scenario.parallelism.device_count}


def _option(change: Change, shown: Any, moved: Any) -> dict[str, Any]:
    return {
        "value": change.alternative.value,
        **_where(change),
        "fits": change.fits if change.figures is not None else None,
        "refused": change.refusal or None,
        "figures": shown(change.figures),
        "change": moved(change.figures),
    }
