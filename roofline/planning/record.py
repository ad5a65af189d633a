"""An answer as a plain record: stable, versioned, SI units in the keys. Screen, JSON and pages are made from it."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from .. import __version__
from ..serving.lengths import Length
from ..serving.spread import Spread
from ..structs import Array
from ..workload import Precision
from .answer import Answer, nearest
from .detail import Plan
from .relax import Relaxation, best_plans
from .request import PlanRequest, Reason
from .rows import Rows
from .search import Search, counts
from .verdict import merged_points, met, pareto
from .words import sentence

SCHEMA = "roofline.plan/1"

PRECISION_FIELDS = ("weights", "experts", "activations", "kv")
"""The formats that a plan states."""

MOST_POINTS = 4000
"""Points of the Pareto plot that a record keeps: the front whole, of the others every n-th."""

REASON_TEXT = {
    Reason.SHAPE: "the model's shapes do not divide so",
    Reason.LINK: "no links join that many devices",
    Reason.FORMAT: "the device cannot compute in that format",
    Reason.MEMORY: "weights, activations and one request do not fit into memory",
    Reason.TTFT_FLOOR: "the bare roofline of the prompt alone exceeds the TTFT asked for",
    Reason.TPOT_FLOOR: "one pass over the weights at datasheet bandwidth exceeds the TPOT asked for",
    Reason.RATE_FLOOR: "even at datasheet rates the replicas cannot serve the rate",
    Reason.RATE: "the rate is above saturation: queues grow without end",
    Reason.TTFT: "TTFT above what is asked for",
    Reason.TPOT: "TPOT above what is asked for",
    Reason.BOTH: "TTFT and TPOT above what is asked for",
}

SEARCHED = {Reason.RATE, Reason.TTFT, Reason.TPOT, Reason.BOTH}
"""Reasons that are held against the slow end of the band where only sure plans are asked for."""

NOT_MODELLED = (
    "quality: narrower formats are taken as equal to the published one",
    "failures, spare replicas, autoscaling, rolling updates, uneven balance between replicas",
    "splits that are no powers of two, replicas of unlike devices in one plan",
    "prefix caching, speculative decoding, LoRA",
    "preemption of running sequences when the KV cache runs full",
    "imbalance of experts; overlap of communication with computation; clock throttling",
)
"""What every plan leaves out."""

METHOD = (
    "step times are read from curves through exact ones, rows 3 % and batches 6 % apart, that never fall",
    "percentiles other than 50, 95 and 99 lie straight between those on normal paper",
    "requests are spread evenly over the replicas; power is a line from idle to rated in the load (rated where no idle "
    "power is stated), and joules count prompts too but are told per generated token",
    "a bill is shared between prompts and outputs as their device-seconds",
)
"""Assumptions of every plan."""


def plan_record(found: Answer, request: dict[str, Any], command: str = "") -> dict[str, Any]:
    """The record of `found`: JSON-ready, `schema` roofline.plan/1. `request`: what was asked, in the user's words."""
    searched = found.found
    asked = searched.request
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "model": asked.model.name,
        "request": request | _request(asked),
        "answer": {},
        "candidates_evaluated": searched.evaluated,
        "candidates_pruned": searched.pruned,
        "plans": [plan_entry(plan, asked) for plan in found.plans],
        "sure": None if found.sure is None else plan_entry(found.sure, asked),
        "by_device": _by_device(searched),
        "pareto": _pareto(searched),
        "rejected": [_rejected(searched, reason, count) for reason, count in counts(searched).items()],
        "infeasible": _infeasible(found),
        "band": _band(found),
        "not_modelled": list(NOT_MODELLED),
        "assumptions": [*METHOD, *asked.engine.assumptions, *_device_assumptions(found)],
        "provenance": {
            "package_version": __version__,
            "profiles": {offer.device.name: offer.device.digest for offer in asked.offers},
            "command": command,
        },
    }
    record["answer"] = {"feasible": bool(found.plans), "text": sentence(record)}
    return record


def _request(asked: PlanRequest) -> dict[str, Any]:
    level = asked.level
    return {
        "request_per_s": max(asked.rates),
        "arrival_cv2": asked.arrival_cv2,
        "input_token": _length(asked.lengths.prompt),
        "output_token": _length(asked.lengths.output),
        "ttft_s": level.ttft_s,
        "tpot_s": level.tpot_s,
        "percentile": level.percentile,
        "devices": [offer.device.name for offer in asked.offers],
        "max_devices": asked.max_devices,
        "engine": f"{asked.engine.title} {asked.engine.release}",
        "max_sequence": list(asked.max_sequences),
        "max_batch_token": list(asked.max_batch_tokens),
        "pools": [str(pools) for pools in asked.pools],
        "rank": str(asked.rank),
        "top": asked.top,
        "sure": asked.sure,
    }


def _length(length: Length) -> dict[str, Any]:
    shown = {f"p{share:.0f}": float(length.quantile(share / 100.0)) for share in (50.0, 95.0, 99.0)}
    return {"kind": type(length).__name__.lower(), "mean": float(length.mean), **shown}


def plan_entry(plan: Plan, asked: PlanRequest) -> dict[str, Any]:
    """One plan as the record shows it."""
    structure, row, state = plan.structure, plan.row, plan.state
    device, split = structure.offer.device, structure.split
    n_devices, replicas, rate = float(row.n_devices[0]), float(row.replicas[0]), float(row.request_per_s[0])
    output = rate * float(asked.lengths.output.mean)
    site = structure.offer.site
    return {
        "device": device.name,
        "device_title": device.title,
        "n_devices": int(n_devices),
        "replicas": int(replicas),
        "mode": str(structure.pools),
        "prefill_replicas": int(row.prefill_replicas[0]),
        "parallelism": asdict(split),
        "precision": {name: str(getattr(structure.precision, name)) for name in PRECISION_FIELDS},
        "engine": {
            "name": asked.engine.name,
            "max_batch_token": int(row.max_batch_token[0]),
            "max_sequence": int(row.max_sequence[0]),
        },
        "ttft_s": _spread(state.ttft_s, row.ttft_s),
        "tpot_s": _spread(state.tpot_s, row.tpot_s),
        "queue_s": _spread(state.queue_s, None),
        "utilisation": float(row.load[0]),
        "request_per_s": rate,
        "saturation_request_per_s": float(state.saturation_request_per_s[0]) * replicas,
        "batch": float(state.batch[0]),
        "output_token_per_s": output,
        "output_token_per_s_per_device": output / n_devices,
        "output_token_per_s_per_user": 1.0 / float(state.tpot_s.mean[0]),
        "memory": {
            "weight_byte": plan.weight_byte,
            "kv_capacity_token": plan.kv_token,
            "capacity_byte": device.dram.capacity_byte,
        },
        "usd_per_hour": plan.usd_per_hour,
        "usd_per_mtok_input": plan.usd_per_mtok_input,
        "usd_per_mtok_output": plan.usd_per_mtok_output,
        "price": None if site.citation is None else asdict(site.citation),
        "joule_per_token": float(row.joule_per_token[0]),
        "roofline": {"ttft_s": plan.roofline_ttft_s, "tpot_s": plan.roofline_tpot_s},
        "bound": str(plan.bound),
        "prefill_bound": str(plan.prefill_bound),
        "limit": plan.limit,
        "headroom": plan.headroom,
        "band": {"ttft_s": _ends(plan.ttft_ends), "tpot_s": _ends(plan.tpot_ends)},
        "robust": plan.robust,
    }


def _spread(spread: Spread, at: Array | None) -> dict[str, float | None]:
    figures = {name: finite(float(getattr(spread, name)[0])) for name in ("mean", "p50", "p95", "p99")}
    return figures if at is None else figures | {"at_percentile": finite(float(at[0]))}


def finite(value: float) -> float | None:
    """`value`, or None where it is infinite: a queue without end."""
    return value if np.isfinite(value) else None


def _ends(ends: tuple[float, float]) -> list[float | None]:
    return [finite(end) for end in ends]


def _by_device(found: Search) -> list[dict[str, Any]]:
    """The best plan of each device that has one, in the order of the ranking."""
    rows = best_plans(found)
    told: dict[str, dict[str, Any]] = {}
    for i, position in enumerate(rows.structure):
        structure = found.structures[int(position)]
        told.setdefault(
            structure.offer.device.name,
            {
                "device": structure.offer.device.name,
                "n_devices": int(rows.n_devices[i]),
                "replicas": int(rows.replicas[i]),
                "prefill_replicas": int(rows.prefill_replicas[i]),
                "parallelism": asdict(structure.split),
                "precision": _formats(structure.precision),
                "ttft_s": float(rows.ttft_s[i]),
                "tpot_s": float(rows.tpot_s[i]),
                "utilisation": float(rows.load[i]),
                "usd_per_hour": finite(float(rows.usd_per_hour[i])),
                "joule_per_token": float(rows.joule_per_token[i]),
            },
        )
    return list(told.values())


def _pareto(found: Search) -> dict[str, Any]:
    request = found.request
    points = merged_points(found.verdicts)
    on_front = pareto(points, request)
    rest = np.flatnonzero(~on_front)
    room = max(MOST_POINTS - int(on_front.sum()), 1)
    kept = np.sort(np.concatenate([np.flatnonzero(on_front), rest[:: max(-(-rest.size // room), 1)]]))
    return {
        "x": "output_token_per_s_per_user",
        "y": "output_token_per_s_per_device",
        "points": _columns(points.take(kept), found, on_front[kept].tolist()),
    }


def _columns(points: Rows, found: Search, on_front: Sequence[bool]) -> dict[str, list[Any]]:
    request = found.request
    of = [found.structures[int(i)] for i in points.structure]
    output = points.request_per_s * request.lengths.output.mean
    hourly = points.usd_per_hour / 3600.0 / output * 1e6
    meets = met(points, request.level)
    return {
        "device": [structure.offer.device.name for structure in of],
        "n_devices": _whole(points.n_devices),
        "replicas": _whole(points.replicas),
        "prefill_replicas": _whole(points.prefill_replicas),
        **{name: [getattr(structure.split, name) for structure in of] for name in ("tp", "pp", "ep", "dp")},
        "weights": [str(structure.precision.weights) for structure in of],
        "kv": [str(structure.precision.kv) for structure in of],
        "mode": [str(structure.pools) for structure in of],
        "max_batch_token": _whole(points.max_batch_token),
        "max_sequence": _whole(points.max_sequence),
        "ttft_s": _short(points.ttft_s),
        "tpot_s": _short(points.tpot_s),
        "usd_per_mtok_output_all_in": _short(hourly),
        "output_token_per_s_per_user": _short(1.0 / points.mean_tpot_s),
        "output_token_per_s_per_device": _short(output / points.n_devices),
        "meets": meets.tolist(),
        "front": list(on_front),
    }


def _whole(values: Array) -> list[int]:
    return [int(value) for value in values]


def _short(values: Array) -> list[float | None]:
    return [finite(float(f"{value:.4g}")) for value in values.tolist()]


def _reason_text(found: Search, reason: Reason) -> str:
    slow = found.request.sure and reason in SEARCHED
    return f"{REASON_TEXT[reason]}, at the slow end of the band" if slow else REASON_TEXT[reason]


def _rejected(found: Search, reason: Reason, count: int) -> dict[str, Any]:
    miss = nearest(found, reason)
    entry = {"reason": str(reason), "text": _reason_text(found, reason), "count": count, "miss": None, "nearest": None}
    if miss is None:
        return entry
    structure, row = found.structures[miss.structure], miss.row
    shown: dict[str, Any] = {
        "device": structure.offer.device.name,
        "parallelism": asdict(structure.split),
        "precision": _formats(structure.precision),
        "mode": str(structure.pools),
    }
    if row is not None:
        shown |= {
            "n_devices": int(row.n_devices[0]),
            "replicas": int(row.replicas[0]),
            "max_batch_token": int(row.max_batch_token[0]),
            "max_sequence": int(row.max_sequence[0]),
            "ttft_s": finite(float(row.held_ttft_s[0])),
            "tpot_s": finite(float(row.held_tpot_s[0])),
            "utilisation": float(row.held_load[0]),
            "usd_per_hour": finite(float(row.usd_per_hour[0])),
        }
    return entry | {"miss": miss.ratio, "nearest": shown}


def _formats(precision: Precision) -> dict[str, str]:
    return {name: str(getattr(precision, name)) for name in PRECISION_FIELDS}


def _infeasible(found: Answer) -> dict[str, Any] | None:
    if found.reason is None:
        return None
    return {
        "binding": str(found.reason),
        "text": _reason_text(found.found, found.reason),
        "floor": _floor(found),
        "relaxations": [_relaxation(change, plan) for change, plan in found.changes],
    }


def _relaxation(change: Relaxation, plan: Plan) -> dict[str, Any]:
    return {
        "change": change.change,
        "from": change.before,
        "to": change.after,
        "factor": change.factor,
        "text": change.text,
        "plan": plan_entry(plan, change.best.search.request),
    }


def _floor(found: Answer) -> dict[str, Any] | None:
    """The floor that the service level is below, if it is."""
    low, level = found.lowest, found.found.request.level
    if low is None:
        return None
    for quantity, value, asked, of, text in (
        ("tpot_s", low.tpot_s, level.tpot_s, low.tpot_of, "one pass of one token over the weights"),
        ("ttft_s", low.ttft_s, level.ttft_s, low.ttft_of, "the matrix products of one prompt"),
    ):
        if value > asked:
            structure = found.found.structures[of]
            device = structure.offer.device
            return {
                "quantity": quantity,
                "value_s": value,
                "asked_s": asked,
                "text": (
                    f"{text} takes {value * 1e3:.3g} ms at datasheet rates on the fastest replica that may be built "
                    f"({structure.size} x {device.name}, weights {structure.precision.weights}), {asked * 1e3:.3g} ms "
                    f"are asked for"
                ),
            }
    return None


def _band(found: Answer) -> dict[str, Any]:
    engine = found.found.request.engine
    coverage = found.found.request.offers[0].calibration.coverage
    return {
        "coverage": coverage,
        "summary": (
            "a plan's band is its whole steady state at the fast and slow end of its step times: the wider of the "
            f"kernels' band and that of {engine.name} (TPOT {engine.tpot_band.low:g} to {engine.tpot_band.high:g} "
            f"times, TTFT {engine.ttft_band.low:g} to {engine.ttft_band.high:g}: {engine.tpot_band.source})"
        ),
    }


def _device_assumptions(found: Answer) -> list[str]:
    told = [*found.plans, *(plan for _, plan in found.changes)]
    return list(dict.fromkeys(note for plan in told for note in plan.structure.offer.device.assumptions))
