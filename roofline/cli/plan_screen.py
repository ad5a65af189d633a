"""The screen of `roofline plan`: what to buy and what it costs, the plans beside it, and why the others fell out."""

from collections.abc import Iterator, Mapping
from textwrap import wrap
from typing import Any

from ..planning.words import pools_text, split_text
from ..report.format import count, money, number, percent, seconds
from .screen import WIDTH, rendered

Record = Mapping[str, Any]

FALLEN = 4
"""Reasons that are told on the screen."""

OTHERS = 6
"""Other devices that are."""


def plan_screen(record: Record) -> str:
    """The answer of one plan record as text."""
    parts = _plans(record) if record["plans"] else _nothing(record)
    return "\n".join(line for part in (_asked(record), parts, _fallen(record), _limits(record)) for line in part)


def _asked(record: Record) -> Iterator[str]:
    asked = record["request"]
    lengths = " and ".join(
        f"{count(asked[key]['mean'])} tokens {way}{_kind(asked[key])}"
        for key, way in (("input_token", "in"), ("output_token", "out"))
    )
    yield f"{record['model']}: {number(asked['request_per_s'])} requests/s of {lengths}"
    names = asked["devices"]
    yield from wrap(
        f"p{asked['percentile']:g}: TTFT within {seconds(asked['ttft_s'])}, TPOT within {seconds(asked['tpot_s'])}; "
        f"{asked['engine']}; up to {asked['max_devices']} devices: {_listed(names)}",
        WIDTH,
    )
    if asked["sure"]:
        yield "only plans that hold at the slow end of their band too (--sure)"
    yield ""


def _kind(length: Record) -> str:
    return "" if length["kind"] == "fixed" else f" (p95 {number(length['p95'])})"


def _listed(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{len(names)} kinds considered"


def _plans(record: Record) -> Iterator[str]:
    yield from wrap(record["answer"]["text"], WIDTH)
    yield ""
    yield table(record["plans"], record["request"]["percentile"])
    evaluated, pruned = record["candidates_evaluated"], record["candidates_pruned"]
    fine = evaluated - sum(
        entry["count"] for entry in record["rejected"] if entry["reason"] in ("rate", "ttft", "tpot", "ttft_and_tpot")
    )
    yield (
        f"{evaluated:,} configurations evaluated, {fine:,} meet it (shown: best of each device, split and format); "
        f"{pruned:,} ruled out."
    )
    yield from _elsewhere(record)


def table(plans: list[Record], percentile: float) -> str:
    """One row per plan."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    shown = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("", "devices", "replicas x split", "weights/KV", "batch·tokens"):
        shown.add_column(name, justify="left", no_wrap=True)
    for name in (f"TTFT p{percentile:g}", "TPOT", "load", "$/h", "$/Mtok in·out"):
        shown.add_column(name, justify="right", no_wrap=True)
    shown.add_column("sure", justify="left", no_wrap=True)
    for i, plan in enumerate(plans, start=1):
        shown.add_row(
            str(i),
            f"{plan['n_devices']} x {plan['device']}",
            f"{pools_text(plan)} x {split_text(plan['parallelism'])}",
            f"{plan['precision']['weights']}/{plan['precision']['kv']}",
            f"{plan['engine']['max_sequence']}·{plan['engine']['max_batch_token']}",
            seconds(plan["ttft_s"]["at_percentile"]),
            seconds(plan["tpot_s"]["at_percentile"]),
            f"{plan['utilisation']:.0%}",
            number(plan["usd_per_hour"]),
            f"{number(plan['usd_per_mtok_input'], 2)}·{number(plan['usd_per_mtok_output'])}",
            "yes" if plan["robust"] else "no",
        )
    lines = rendered(shown, width=120).split("\n")
    return "\n".join(line.rstrip() for line in lines if line.strip())


def _elsewhere(record: Record) -> Iterator[str]:
    """The best plan of each device beside the first, where there are several."""
    others = [entry for entry in record["by_device"] if entry["device"] != record["plans"][0]["device"]]
    if not others:
        return
    told = "; ".join(
        f"{entry['n_devices']} x {entry['device']} {money(entry['usd_per_hour'])}/h" for entry in others[:OTHERS]
    )
    more = f"; {len(others) - OTHERS} more" if len(others) > OTHERS else ""
    yield from wrap(f"Best of other devices: {told}{more}.", WIDTH)


def _nothing(record: Record) -> Iterator[str]:
    yield from wrap(record["answer"]["text"], WIDTH)
    found = record["infeasible"]
    if found["relaxations"]:
        yield ""
        yield "One of these would make it feasible, all else as asked:"
        for change in found["relaxations"]:
            plan = change["plan"]
            cost = "" if plan["usd_per_hour"] is None else f", {money(plan['usd_per_hour'])}/h"
            yield (
                f"  {change['text']}  ({plan['n_devices']} x {plan['device']} as {pools_text(plan)} x "
                f"{split_text(plan['parallelism'])}, {plan['precision']['weights']}{cost})"
            )
    yield ""
    evaluated, pruned = record["candidates_evaluated"], record["candidates_pruned"]
    yield f"{evaluated:,} configurations evaluated, {pruned:,} ruled out by bounds."


def _fallen(record: Record) -> Iterator[str]:
    if not record["rejected"]:
        return
    yield "Fell out:"
    for entry in record["rejected"][:FALLEN]:
        yield from wrap(
            f"{entry['count']:,}: {entry['text']}{_nearest(entry)}",
            WIDTH,
            initial_indent="  ",
            subsequent_indent="    ",
        )


def _nearest(entry: Record) -> str:
    near = entry["nearest"]
    if near is None:
        return ""
    what = f"{near.get('n_devices', '')} {near['device']}".strip()
    which = f"{what} {split_text(near['parallelism'])} {near['precision']['weights']}"
    return f"; nearest {which}, {percent(entry['miss'] - 1.0)} over"


def _limits(record: Record) -> Iterator[str]:
    yield ""
    yield from wrap(f"Sure: {record['band']['summary']}.", WIDTH)
    yield from wrap(f"Not modelled: {'; '.join(record['not_modelled'])}.", WIDTH)
    yield f"Assumed: {len(record['assumptions'])} facts; --json and --html list them, energy and the Pareto front."
