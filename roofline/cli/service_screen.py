"""The screen of a prediction under traffic: what a request sees, what the deployment gives, where it saturates."""

from collections.abc import Iterator, Mapping
from textwrap import wrap
from typing import Any

from ..report.format import number, seconds

Record = Mapping[str, Any]

NEGLIGIBLE_S = 1e-6
"""Times below this are shown as none."""

_LIMITS = {
    "concurrency": "the clients",
    "max_sequence": "max-sequences",
    "kv_memory": "the KV cache",
}
"""What limits the sequences that run at once, in words."""


def service_lines(record: Record, width: int) -> Iterator[str]:
    """The steady state in eight to ten lines."""
    serving = record["serving"]
    yield from wrap(f"Served by {serving['engine']} {serving['release']}: {_traffic(serving['settings'])}", width)
    if serving["saturated"]:
        yield (
            f"  SATURATED: {number(serving['settings']['request_per_s'])} requests/s arrive, "
            f"{number(serving['saturation_request_per_s'])} can be served: the queue grows without end"
        )
    else:
        for label, key in (("TTFT", "ttft_s"), ("TPOT", "tpot_s"), ("ITL", "itl_s"), ("queue", "queue_s")):
            yield _spread(label, serving[key], serving["band"].get(key))
        parts = [("queue", serving["queue_s"]["mean"]), ("prefill", serving["prefill_s"])]
        parts += [("interference", serving["interference_s"]), ("transfer", serving["transfer_s"])]
        told = " + ".join(f"{name} {seconds(value)}" for name, value in parts if value > NEGLIGIBLE_S)
        yield f"  TTFT = {told}; decode step {seconds(serving['step_s'])}, host {serving['host_share']:.0%} of it"
    yield (
        f"  {number(serving['request_per_s'])} requests/s, {serving['output_token_per_s']:,.0f} tokens/s out = "
        f"{serving['output_token_per_s'] / record['device_count']:,.0f} per device, "
        f"{serving['input_token_per_s']:,.0f} in; {number(serving['batch'])} generate at once"
    )
    yield (
        f"  saturates at {number(serving['saturation_request_per_s'])} requests/s (utilisation "
        f"{serving['utilisation']:.0%}): {serving['slots']:,.0f} slots, limited by {_limit(serving)}"
    )
    if serving["utilisation"] > serving["trusted_utilisation"] and serving["settings"]["concurrency"] is None:
        yield (
            f"  beyond {serving['trusted_utilisation']:.0%} of saturation a closed form only estimates queues: "
            "`roofline simulate` sends requests one by one"
        )
    held = "; it is of this load's times: `roofline plan` lets queues grow at its slow end too"
    yield from wrap(f"  band: {serving['band']['summary']}{held}", width, subsequent_indent="  ")


SERVICE_COLUMNS = ("TTFT", "TTFT p95", "TPOT", "TPOT p95", "requests/s", "tokens/s", "of saturation", "slots")
"""Columns of a service where lists give a row each."""


def service_cells(record: Record) -> Iterator[str]:
    """The cells of SERVICE_COLUMNS; times that have no bound as a dash."""
    serving = record["serving"]
    for key in ("ttft_s", "tpot_s"):
        for part in ("mean", "p95"):
            value = serving[key][part]
            yield "-" if value is None else seconds(value)
    yield number(serving["request_per_s"])
    yield f"{serving['output_token_per_s']:,.0f}"
    yield f"{serving['utilisation']:.0%}"
    yield f"{serving['slots']:,.0f}"


def _limit(serving: Record) -> str:
    """What limits the slots, whatever the clients ask for."""
    settings = serving["settings"]
    by_setting = serving["slots"] >= settings["max_sequence"] and serving["slot_limit"] != "kv_memory"
    return _LIMITS["max_sequence" if by_setting else "kv_memory"]


def _traffic(settings: Record) -> str:
    """The traffic and the engine's limits in words."""
    if settings["concurrency"] is not None:
        parts = [f"{settings['concurrency']:,.0f} clients"]
    else:
        parts = [f"{number(settings['request_per_s'])} requests/s (cv {settings['arrival_cv']:g})"]
    parts += [
        f"{what} cv {settings[key]:g}"
        for key, what in (("input_cv", "input"), ("output_cv", "output"))
        if settings[key]
    ]
    if settings["prefix_hit"]:
        parts.append(f"{settings['prefix_hit']:.0%} of prompts cached")
    if settings["disaggregated"]:
        parts.append(f"pools {settings['disaggregated']}")
    if settings["draft_token"]:
        by = f" by {settings['draft']}" if settings["draft"] else ""
        parts.append(f"{settings['draft_token']:.0f} drafts{by} at {settings['acceptance']:.0%}")
    parts.append(f"{settings['max_batch_token']:,.0f} tokens a step, {settings['max_sequence']:,.0f} sequences at most")
    return ", ".join(parts)


def _spread(label: str, spread: Record, band: list[float] | None) -> str:
    """One time: mean with its band, and percentiles."""
    ends = f" ({seconds(band[0])} to {seconds(band[1])})" if band else ""
    tails = "   ".join(f"{name} {_shown(spread[name])}" for name in ("p50", "p95", "p99"))
    return f"  {label:5} {_shown(spread['mean']):>8}{ends:26} {tails}"


def _shown(value: float) -> str:
    return seconds(value if value > NEGLIGIBLE_S else 0.0)
