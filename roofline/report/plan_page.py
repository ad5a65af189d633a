"""The page of a plan: which devices, how many, how configured, at what cost; a pure rendering of its record."""

from collections.abc import Mapping
from typing import Any

from . import format as text
from .comparison_figures import bars, first_token_parts, times
from .figures import Figure
from .html import Contents
from .parts import LIST, OBJECT, ROWS, Record, check_parts, columns, plain
from .plan_figures import MOST_DRAWN, pareto, service
from .tables import Column, table

_PARTS = {
    "request": OBJECT,
    "answer": OBJECT,
    "plans": ROWS,
    "pareto": OBJECT,
    "pareto.points": OBJECT,
    "rejected": ROWS,
    "infeasible?": OBJECT,
    "infeasible?.relaxations": ROWS,
    "not_modelled": LIST,
    "assumptions": LIST,
    "provenance": OBJECT,
}

_PLAN_COLUMNS = (
    Column("label", "plan", None, "rank, devices and split"),
    Column("n_devices", "devices", "", "devices in all"),
    Column("replicas", "replicas", "", "copies of the model that share the requests"),
    Column("formats", "formats", None, "number formats of weights and KV cache"),
    Column("usd_per_hour", "$/hour", "", "US dollars an hour for all devices"),
    Column("usd_per_mtok_input", "$/Mtok in", "", "US dollars for a million prompt tokens"),
    Column("usd_per_mtok_output", "$/Mtok out", "", "US dollars for a million output tokens"),
    Column("ttft_s", "TTFT", "s", "at the percentile asked for"),
    Column("tpot_s", "TPOT", "s", "at the percentile asked for"),
    Column("utilisation", "utilisation", "%", "rate over the rate at which it saturates"),
    Column("limit", "nearest limit", None, "the limit with the least to spare"),
    Column("robust", "robust", None, "whether both service levels hold at the slow end of the band too"),
)
_MORE_COLUMNS = (
    Column("label", "plan", None, "rank, devices and split"),
    Column("mode", "mode", None, "prefill and decode together, or in pools of their own"),
    Column("bound", "decode bound", None, "the resource that limits a decode step"),
    Column("ttft_mean_s", "TTFT mean", "s", "mean over requests"),
    Column("ttft_low_s", "TTFT at least", "s", "fast end of the band, at the percentile"),
    Column("ttft_high_s", "TTFT at most", "s", "slow end of the band, at the percentile"),
    Column("tpot_mean_s", "TPOT mean", "s", "mean over requests"),
    Column("tpot_low_s", "TPOT at least", "s", "fast end of the band, at the percentile"),
    Column("tpot_high_s", "TPOT at most", "s", "slow end of the band, at the percentile"),
    Column("queue_mean_s", "queue mean", "s", "mean wait before the first step"),
    Column("batch", "batch", "", "mean running requests of a replica"),
    Column("max_batch_token", "token budget", "", "most tokens of one step"),
    Column("max_sequence", "most sequences", "", "most requests in a step"),
    Column("saturation_request_per_s", "saturates at", "", "requests/s at which it saturates"),
    Column("output_token_per_s_per_device", "tokens/s per device", "", "output tokens per second and device"),
    Column("output_token_per_s_per_user", "tokens/s per user", "", "output tokens per second that a user sees"),
    Column("joule_per_token", "J/token", "", "joules for one output token"),
    Column("headroom_ttft", "TTFT spare", "%", "1 - value / limit; negative is missed"),
    Column("headroom_tpot", "TPOT spare", "%", "1 - value / limit; negative is missed"),
    Column("headroom_rate", "rate spare", "%", "1 - rate / saturation"),
)
_REJECTED_COLUMNS = (
    Column("text", "why not", None, "what ruled candidates out"),
    Column("count", "candidates", "", "how many"),
    Column("miss", "nearest miss", "", "needed over allowed, of the nearest one: 1.07 is 7 % too much"),
    Column("nearest", "the nearest one", None, "the candidate that came closest"),
)
_POINT_COLUMNS = (
    Column("device", "device", None, "profile"),
    Column("n_devices", "devices", "", "devices in all"),
    Column("replicas", "replicas", "", "copies of the model"),
    Column("tp", "TP", "", "tensor-parallel ranks"),
    Column("pp", "PP", "", "pipeline stages"),
    Column("ep", "EP", "", "ranks that share experts"),
    Column("dp", "DP", "", "replicas inside a group"),
    Column("weights", "weights", None, "number format"),
    Column("kv", "KV cache", None, "number format"),
    Column("mode", "mode", None, "aggregated or disaggregated"),
    Column("ttft_s", "TTFT", "s", "at the percentile asked for"),
    Column("tpot_s", "TPOT", "s", "at the percentile asked for"),
    Column("usd_per_mtok_output_all_in", "$/Mtok all in", "", "the whole bill over output tokens"),
    Column("output_token_per_s_per_device", "tokens/s per device", "", "output tokens per second and device"),
    Column("output_token_per_s_per_user", "tokens/s per user", "", "output tokens per second that a user sees"),
    Column("meets", "meets", None, "whether both service levels are met"),
    Column("front", "front", None, "whether no candidate beats it in both"),
)
_COSTS = (("usd_per_hour", "$ per hour"), ("usd_per_mtok_output", "$ per million output tokens"))


def contents(record: Record) -> Contents:
    """What the page of a `roofline.plan/1` record shows. Errors: RooflineError for a damaged record."""
    check_parts(record, _PARTS, "plan")
    record = plain(record)
    rows = [plan_row(plan, rank) for rank, plan in enumerate(record["plans"], 1)]
    points, request = columns(record["pareto"]["points"]), record["request"]
    x, y = (str(record["pareto"].get(key)) for key in ("x", "y"))
    costs = [(key, title) for key, title in _COSTS if any(text.finite(row.get(key)) is not None for row in rows)]
    named = [(row["label"], plan) for row, plan in zip(rows, record["plans"], strict=True)]
    around: dict[str, Figure | None] = {
        "ttft-plot": times(rows, "ttft", "TTFT", request.get("ttft_s")) if rows else None,
        "tpot-plot": times(rows, "tpot", "TPOT", request.get("tpot_s")) if rows else None,
        "waiting-plot": first_token_parts(named),
        "pareto-plot": pareto(points, x, y),
        "service-plot": service(points, request.get("ttft_s"), request.get("tpot_s")),
        **{f"bars-{i}": bars(rows, key, title) for i, (key, title) in enumerate(costs)},
    }
    figures = {name: figure for name, figure in around.items() if figure is not None}
    rejected = [_rejected(entry) for entry in record["rejected"]]
    relaxations = (record.get("infeasible") or {}).get("relaxations", ())
    shown = {
        "rows": rows,
        "drawn": set(figures),
        "thinned": len(points) > MOST_DRAWN,
        "bars": [title for _, title in costs],
        "relaxed": [{**entry, "label": _name(entry.get("plan"))} for entry in relaxations],
        "tables": {
            "plans": table("plans", "The plans, best first", _PLAN_COLUMNS, rows),
            "more": table("more-figures", "More figures of the plans", _MORE_COLUMNS, rows),
            "rejected": table("rejected", "What was ruled out", _REJECTED_COLUMNS, rejected),
            "points": table("points", "Candidates of the figures", _POINT_COLUMNS, points, "pareto.points"),
        },
    }
    return Contents("plan.html.j2", record, figures, shown)


def _name(plan: Any) -> str:
    """A candidate in words: 18 × h100-sxm, TP2."""
    if not isinstance(plan, Mapping):
        return text.plain(plan)
    count = f"{text.count(plan['n_devices'])} × " if "n_devices" in plan else ""
    return (
        f"{count}{plan.get('device')}{_split(plan)}{', disaggregated' if plan.get('mode') == 'disaggregated' else ''}"
    )


def _split(plan: Record) -> str:
    spread = plan.get("parallelism")
    ways = spread.items() if isinstance(spread, Mapping) else ()
    return "".join(f", {str(name).upper()}{text.count(way)}" for name, way in ways if way != 1)


def _rejected(entry: Record) -> dict[str, Any]:
    nearest = entry.get("nearest")
    precision = nearest.get("precision") if isinstance(nearest, Mapping) else None
    formats = f", {_formats(precision)}" if isinstance(precision, Mapping) else ""
    return {**entry, "nearest": None if nearest is None else f"{_name(nearest)}{formats}"}


def _formats(precision: Any) -> str:
    held = precision if isinstance(precision, Mapping) else {}
    return f"{text.plain(held.get('weights'))}, KV {text.plain(held.get('kv'))}"


def plan_row(plan: Record, rank: int) -> dict[str, Any]:
    """A plan as one flat row: what its tables and figures show."""

    def inner(part: str, key: str) -> Any:
        held = plan.get(part)
        return held.get(key) if isinstance(held, Mapping) else None

    row = {key: held for key, held in plan.items() if not isinstance(held, Mapping | list)}
    row |= {
        "label": f"{rank}. {_name(plan)}",
        "formats": _formats(plan.get("precision")),
        "decode_bound": row.get("bound"),
    }
    for name, phase in (("ttft", "prefill"), ("tpot", "decode")):
        ends = inner("band", f"{name}_s")
        low, high = ends if isinstance(ends, list) and len(ends) == 2 else (None, None)
        row |= {
            f"{name}_s": inner(f"{name}_s", "at_percentile"),
            f"{name}_mean_s": inner(f"{name}_s", "mean"),
            f"{name}_low_s": low,
            f"{name}_high_s": high,
            f"{phase}_roofline_s": inner("roofline", f"{name}_s"),
        }
    row |= {f"headroom_{name}": inner("headroom", name) for name in ("ttft", "tpot", "rate")}
    row |= {name: inner("engine", name) for name in ("max_batch_token", "max_sequence")}
    return row | {"queue_mean_s": inner("queue_s", "mean")}
