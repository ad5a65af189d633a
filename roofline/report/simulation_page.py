"""The page of a simulation, request by request: a pure rendering of its record."""

from collections.abc import Mapping

from .comparison_figures import first_token_parts
from .figures import Figure
from .html import Contents
from .parts import LIST, OBJECT, Record, check_parts, columns, plain
from .simulation_figures import distributions, first_tokens, timeline
from .tables import SPREAD_COLUMNS, Column, spread_rows, table

_PARTS = {
    "scenario": OBJECT,
    "engine": OBJECT,
    "workload": OBJECT,
    "ttft_s": OBJECT,
    "band": OBJECT,
    "closed_form?": OBJECT,
    "distributions": OBJECT,
    "timeline": OBJECT,
    "requests": OBJECT,
    "not_modelled": LIST,
    "assumptions": LIST,
    "provenance": OBJECT,
}
SPREADS = (
    ("ttft_s", "TTFT: to the first token"),
    ("queue_s", "wait in the queue"),
    ("tpot_s", "TPOT: per output token of a request"),
    ("itl_s", "ITL: gap between two tokens"),
    ("e2e_s", "end to end"),
)
"""Durations that requests see, in the order of the tables."""

_RATES = (
    Column("name", "figure", None, "what is counted"),
    Column("value", "simulated", "", "as simulated"),
    Column("low", "fast end", "", "every step at the fast end of its band"),
    Column("high", "slow end", "", "every step at the slow end of its band"),
    Column("closed", "closed form", "", "the steady state in closed form"),
)
_RATE_NAMES = (
    ("request_per_s", "requests/s"),
    ("output_token_per_s", "output tokens/s"),
    ("input_token_per_s", "prompt tokens/s"),
    ("running", "running requests, mean"),
    ("waiting", "waiting requests, mean"),
    ("kv_peak", "KV cache at its fullest, share"),
    ("preempted_requests", "preempted requests"),
    ("steps", "steps"),
    ("makespan_s", "makespan, s"),
    ("busy", "share of time in a step"),
    ("saturated", "rate over the rate at which it saturates"),
    ("saturation_request_per_s", "requests/s at which it saturates"),
)
_REQUEST_COLUMNS = (
    Column("request", "request", "", "position in the order of arrival"),
    Column("input_token", "in", "", "prompt tokens"),
    Column("output_token", "out", "", "generated tokens"),
    Column("arrival_s", "arrival", "s", "seconds since the first arrival"),
    Column("scheduled_s", "scheduled", "s", "when the first step worked on it"),
    Column("first_token_s", "first token", "s", "when its first token came"),
    Column("last_token_s", "last token", "s", "when its last token came"),
    Column("ttft_s", "TTFT", "s", "time to first token"),
    Column("tpot_s", "TPOT", "s", "time per further token"),
    Column("preempted", "preempted", "", "how often it lost its cache"),
    Column("replica", "replica", "", "which copy of the model served it"),
)


def contents(record: Record) -> Contents:
    """What the page of a `roofline.simulation/1` record shows. Errors: RooflineError for a damaged record."""
    check_parts(record, _PARTS, "simulate")
    record = plain(record)
    shares, requests, closed = columns(record["distributions"]), columns(record["requests"]), record.get("closed_form")
    ends = {name: _held(record["band"], name) for name in ("low", "high")}
    sides = [("simulated", record), ("fast end of the band", ends["low"]), ("slow end of the band", ends["high"])]
    around: dict[str, Figure | None] = {
        "first-plot": distributions(shares, (("ttft_s", "TTFT"), ("queue_s", "wait in the queue"))),
        "next-plot": distributions(shares, (("tpot_s", "TPOT of a request"), ("itl_s", "gap between two tokens"))),
        "parts-plot": first_token_parts([*sides, *([("closed form", closed)] if closed else [])]),
        "timeline-plot": timeline(columns(record["timeline"])),
        "requests-plot": first_tokens(requests),
    }
    figures = {name: figure for name, figure in around.items() if figure is not None}
    spreads = spread_rows(record, SPREADS)
    for name, held in (*ends.items(), ("closed", closed or {})):
        for row, key in zip(spreads, [key for key, _ in SPREADS if isinstance(record.get(key), Mapping)], strict=True):
            row |= {f"{name}_mean": _held(held, key).get("mean"), f"{name}_p95": _held(held, key).get("p95")}
    # what a simulation and the closed form call utilisation differs: time in steps, and rate over the saturating rate
    simulated = {name: {**held, "busy": held.get("utilisation")} for name, held in (("value", record), *ends.items())}
    steady = {**(closed or {}), "saturated": (closed or {}).get("utilisation")}
    rates = [
        {"name": title, **{side: held.get(key) for side, held in (*simulated.items(), ("closed", steady))}}
        for key, title in _RATE_NAMES
    ]
    shown = {
        "drawn": set(figures),
        "ends": ends,
        "closed": closed,
        "tables": {
            "spreads": table("spreads", "What requests see", _spread_columns(), spreads),
            "rates": table("rates", "What the server does", _RATES, rates),
            "requests": table("requests", "Request by request", _REQUEST_COLUMNS, requests, "requests"),
        },
    }
    return Contents("simulation.html.j2", record, figures, shown)


def _held(record: Record, key: str) -> Record:
    part = record.get(key)
    return part if isinstance(part, Mapping) else {}


def _spread_columns() -> tuple[Column, ...]:
    more = (("low", "fast end"), ("high", "slow end"), ("closed", "closed form"))
    return SPREAD_COLUMNS + tuple(
        Column(f"{name}_{statistic}", f"{title}, {statistic}", "s", f"{statistic}, {title}")
        for name, title in more
        for statistic in ("mean", "p95")
    )
