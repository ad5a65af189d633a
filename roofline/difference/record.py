"""The difference of two records as a record, `roofline.diff/1`."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .. import __version__
from ..errors import RooflineError
from .parts import BOUNDS, CAUSES, NUMBERS, Kernel, KernelChange, kernel_changes, of_product

SCHEMA = "roofline.diff/1"
PREDICTION, PLAN = "roofline.prediction/1", "roofline.plan/1"

Record = Mapping[str, Any]

FIGURES = {
    PREDICTION: {
        "ttft_s": "TTFT",
        "tpot_s": "TPOT",
        "e2e_s": "end to end",
        "output_token_per_s": "output tokens/s",
        "usd_per_mtok_input": "$/Mtok in",
        "usd_per_mtok_output": "$/Mtok out",
        "joule_per_output_token": "J/token",
        "memory.free_byte": "memory left",
        "memory.max_batch": "max batch",
        "serving.request_per_s": "requests/s",
        "serving.ttft_s.mean": "TTFT served",
        "serving.tpot_s.mean": "TPOT served",
        "serving.utilisation": "utilisation",
    },
    PLAN: {
        "n_devices": "devices",
        "usd_per_hour": "$/h",
        "usd_per_mtok_input": "$/Mtok in",
        "usd_per_mtok_output": "$/Mtok out",
        "joule_per_token": "J/token",
        "ttft_s.at_percentile": "TTFT",
        "tpot_s.at_percentile": "TPOT",
        "output_token_per_s": "output tokens/s",
        "utilisation": "utilisation",
    },
}
"""Headline figures by schema, by their path in a prediction, or in the best plan."""

INPUTS = {
    PREDICTION: (
        "model",
        "device",
        "device_count",
        "scenario",
        "roofs",
        "memory.capacity_byte",
        "site.price",
        "site.pue",
    ),
    PLAN: (
        "model",
        "request",
        "best.device",
        "best.replicas",
        "best.mode",
        "best.parallelism",
        "best.precision",
        "best.engine",
    ),
}
"""What a side was made from, by path; tables are compared entry by entry."""

PROVENANCE = ("band.summary", "provenance.profile_digest", "provenance.package_version")


def difference_record(
    before: Record,
    after: Record,
    labels: Sequence[str] = ("A", "B"),
    drivers: Mapping[str, Mapping[str, float]] | None = None,
    command: str = "",
) -> dict[str, Any]:
    """What differs between two predictions or two plans, JSON-ready.

    `drivers`: shares of the changed inputs by figure, where they could be found.
    Errors: RooflineError where the schemas differ or are none of the two, or a plan has no feasible candidate.
    """
    of = _schema(before, after, labels)
    first, second = (_checked(record, label, of) for record, label in zip((before, after), labels, strict=True))
    phases: dict[str, Any] = {}
    if of == PREDICTION:
        phases = {
            name: _phase(first, second, name, figure) for name, figure in (("prefill", "ttft_s"), ("decode", "tpot_s"))
        }
    return {
        "schema": SCHEMA,
        "of": of,
        "a": _side(first, labels[0]),
        "b": _side(second, labels[1]),
        "inputs": list(_inputs(first, second, of)),
        "figures": list(_figures(first, second, of)),
        "phases": phases,
        "drivers": None
        if drivers is None
        else {
            key: [{"input": name, "difference": share} for name, share in shares.items()]
            for key, shares in drivers.items()
        },
        "plan": _plan(first, second) if of == PLAN else None,
        "provenance": {"package_version": __version__, "command": command},
    }


def _schema(before: Record, after: Record, labels: Sequence[str]) -> str:
    found = [record.get("schema") for record in (before, after)]
    for schema, label in zip(found, labels, strict=True):
        if schema not in FIGURES:
            raise RooflineError(
                f"schema: {label} is {schema!r}. Accepted: {PREDICTION} or {PLAN}, as --json of predict and plan print "
                "them for one scenario."
            )
    if found[0] != found[1]:
        raise RooflineError(
            f"schema: {labels[0]} is {found[0]} and {labels[1]} is {found[1]}: they cannot be compared. Give two "
            "predictions or two plans."
        )
    return str(found[0])


def _checked(record: Record, label: str, of: str) -> Record:
    """The record where it has the parts that are compared; of a plan, with the keys of its best candidate on top.

    Errors: RooflineError naming the part that is missing or of the wrong kind.
    """
    if of == PLAN:
        plans = record.get("plans")
        if not isinstance(plans, list) or not all(isinstance(plan, Mapping) for plan in plans):
            raise _broken(label, "plans", "a list of plans")
        if not plans:
            raise RooflineError(f"plans: {label} has no feasible plan, so there is nothing to compare.")
        record = {**record, **plans[0], "best": plans[0]}
        numbers: list[tuple[Record, str, str]] = [
            (record, "n_devices", "plans[0]"),
            (record, "output_token_per_s", "plans[0]"),
        ]
    else:
        numbers = [(record, "ttft_s", "")]
        phases = record.get("phases")
        if not isinstance(phases, Mapping):
            raise _broken(label, "phases", "a table")
        for name, phase in phases.items():
            kernels = phase.get("kernels") if isinstance(phase, Mapping) else None
            if phase is not None and not (isinstance(kernels, list) and all(isinstance(k, Mapping) for k in kernels)):
                raise _broken(label, f"phases.{name}", "null, or a table with a list of kernels")
            for kernel in kernels or ():
                if kernel.get("bound") not in BOUNDS or not isinstance(kernel.get("name"), str):
                    raise _broken(
                        label, f"phases.{name}.kernels", f"kernels with a name and a bound of {', '.join(BOUNDS)}"
                    )
                numbers += [(kernel, field, f"phases.{name}.{kernel['name']}") for field in NUMBERS]
    for table, field, where in numbers:
        value = table.get(field)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0.0:
            raise _broken(label, f"{where}.{field}".lstrip("."), "a number from 0 on")
    for field in ("model", "device"):
        if not isinstance(record.get(field), str):
            raise _broken(label, field, "text")
    return record


def _broken(label: str, field: str, accepted: str) -> RooflineError:
    return RooflineError(f"{label}: {field} is missing or not what it should be. Accepted: {accepted}.")


def _side(record: Record, label: str) -> dict[str, Any]:
    return {
        "label": label,
        "model": record["model"],
        "device": record["device"],
        "device_count": record.get("device_count", record.get("n_devices")),
        "band": {name: at(record, f"band.{name}") for name in ("ttft_s", "tpot_s")},
        "bound": {name: at(record, f"phases.{name}.bound") for name in ("prefill", "decode")},
    }


def at(record: Record, path: str) -> Any:
    """The value at a dotted path of a record, None where there is none."""
    found: Any = record
    for part in path.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _flat(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}")
    else:
        yield path, value


def _inputs(before: Record, after: Record, of: str) -> Iterator[dict[str, Any]]:
    for path in (*INPUTS[of], *PROVENANCE):
        sides = dict(_flat(at(before, path), path)), dict(_flat(at(after, path), path))
        for name in dict.fromkeys((*sides[0], *sides[1])):
            a, b = sides[0].get(name), sides[1].get(name)
            if a != b:
                yield {"name": name, "a": a, "b": b}


def _figures(before: Record, after: Record, of: str) -> Iterator[dict[str, Any]]:
    for path, title in FIGURES[of].items():
        a, b = at(before, path), at(after, path)
        if a is None and b is None:
            continue
        known = a is not None and b is not None
        yield {
            "key": path,
            "title": title,
            "a": a,
            "b": b,
            "difference": b - a if known else None,
            "change": b / a - 1.0 if known and a else None,
        }


def _phase(before: Record, after: Record, name: str, figure: str) -> dict[str, Any] | None:
    """One phase; its kernels' differences and `other_s` (pipeline stages) sum to that of the figure."""
    sides = [record["phases"].get(name) for record in (before, after)]
    if None in sides or None in (before.get(figure), after.get(figure)):
        return None
    kernels: list[Sequence[Kernel]] = [side["kernels"] for side in sides]
    changes = kernel_changes(*kernels)
    whole = float(after[figure] or 0.0) - float(before[figure] or 0.0)
    return {
        "figure": figure,
        "a_s": before[figure],
        "b_s": after[figure],
        "difference_s": whole,
        "terms": _terms(changes),
        "causes": {cause: sum(change.causes[cause] for change in changes) for cause in CAUSES},
        "kernels": [_kernel(change) for change in changes],
        "other_s": whole - sum(change.difference_s for change in changes),
    }


def _terms(changes: Sequence[KernelChange]) -> dict[str, float]:
    """The difference by what binds the kernels, on each side by its own bound."""
    terms = dict.fromkeys(BOUNDS, 0.0)
    for change in changes:
        for bound, seconds in (
            (change.before_bound, -(change.before_s or 0.0)),
            (change.after_bound, change.after_s or 0.0),
        ):
            if bound is not None:
                terms[bound] += seconds
    return terms


def _kernel(change: KernelChange) -> dict[str, Any]:
    return {
        "name": change.name,
        "kind": change.kind,
        "a_s": change.before_s,
        "b_s": change.after_s,
        "difference_s": change.difference_s,
        "bound_a": change.before_bound,
        "bound_b": change.after_bound,
        "causes": dict(change.causes),
    }


def _plan(before: Record, after: Record) -> dict[str, Any]:
    """The bill of two plans: devices times their price."""
    sides = (
        {"n_devices": side["n_devices"], "usd_per_device_hour": _over(side.get("usd_per_hour"), side["n_devices"])}
        for side in (before, after)
    )
    return {"usd_per_hour": _product(*sides)}


def _over(numerator: float | None, denominator: float | None) -> float | None:
    return numerator / denominator if numerator and denominator else None


def _product(before: Mapping[str, float | None], after: Mapping[str, float | None]) -> list[dict[str, Any]] | None:
    """The parts of a difference of products by factor; None where one is unknown."""
    if None in (*before.values(), *after.values()):
        return None
    sides = [{name: float(value or 0.0) for name, value in side.items()} for side in (before, after)]
    return [{"cause": name, "difference": part} for name, part in of_product(*sides).items()]
