"""An answer in one sentence: what to buy, what it costs, what limits it, how sure that is."""

from collections.abc import Mapping
from typing import Any

Record = Mapping[str, Any]

LIMITS = {"ttft": "TTFT", "tpot": "TPOT", "rate": "The rate at which it saturates"}
"""What a plan is nearest to, as a sentence begins."""


def split_text(spread: Record) -> str:
    """The ranks of a replica: "TP4 PP2"; "TP1" is one device."""
    told = " ".join(f"{key.upper()}{value}" for key, value in spread.items() if value > 1)
    return told or "TP1"


def pools_text(plan: Record) -> str:
    """The replicas of a plan: "6", or "4P+2D" of a prefill and a decode pool."""
    first = plan["prefill_replicas"]
    return f"{first}P+{plan['replicas']}D" if first else f"{plan['replicas']}"


def sentence(record: Record) -> str:
    """The answer of a plan record. Errors: none; a record without plans says what binds."""
    if record["plans"]:
        return f"{_buy(record['plans'][0], record['request'])}{_surer(record)}"
    found = record["infeasible"]
    asked = record["request"]
    told = f"No plan of up to {asked['max_devices']} devices meets this; what binds: {found['text']}."
    if found["floor"] is not None:
        told += f" No engine could: {found['floor']['text']}."
    return told


RANKED = {"usd": "cheapest", "devices": "smallest", "energy": "most frugal", "latency": "quickest"}
"""The best plan, by what plans are ranked by."""


def _surer(record: Record) -> str:
    """The best plan found that holds at the slow end of its band, where the best of all does not."""
    if record["plans"][0]["robust"]:
        return ""
    plan, best = record["sure"], RANKED[record["request"]["rank"]]
    if plan is None:
        return (
            " None of the plans examined holds there too; --sure searches every configuration at the slow end, and "
            "says what would help where none holds."
        )
    told = f"{plan['n_devices']} x {plan['device_title']} ({_each(plan)})"
    cost = "" if plan["usd_per_hour"] is None else f", ${plan['usd_per_hour']:,.4g} per hour"
    return f" The {best} found that holds there too: {told}{cost} (--sure ranks only such plans)."


def _each(plan: Record) -> str:
    """How a plan uses its devices, and in which formats."""
    split = split_text(plan["parallelism"])
    if plan["prefill_replicas"]:
        each = f"{plan['prefill_replicas']} replicas prefill, {plan['replicas']} decode, each {split}"
    else:
        each = f"{plan['replicas']} replicas of {split}" if plan["replicas"] > 1 else f"one replica: {split}"
    return f"{each}, weights {plan['precision']['weights']}, KV {plan['precision']['kv']}"


def _buy(plan: Record, asked: Record) -> str:
    cost = (
        "no price known"
        if plan["usd_per_hour"] is None
        else f"${plan['usd_per_hour']:,.4g} per hour, ${plan['usd_per_mtok_input']:.3g} per million tokens in and "
        f"${plan['usd_per_mtok_output']:.3g} out"
    )
    spare = plan["headroom"][plan["limit"]]
    return (
        f"{plan['n_devices']} x {plan['device_title']} ({_each(plan)}): {cost}. {LIMITS[plan['limit']]} limits it, "
        f"with {spare:.0%} to spare; decode is {plan['bound']}-bound. {_sure(plan, asked)}"
    )


def _sure(plan: Record, asked: Record) -> str:
    """Whether the plan holds at the slow end of its band, and if not, what it would come to."""
    if plan["robust"]:
        return "It also holds at the slow end of the band."
    if plan["band"]["ttft_s"][1] is None or plan["band"]["tpot_s"][1] is None:
        return "Not sure: at the slow end of the band it would saturate."
    late = []
    for key, name in (("ttft_s", "TTFT"), ("tpot_s", "TPOT")):
        slow = plan["band"][key][1]
        if slow > asked[key]:
            late.append(f"{name} {_time(slow)}")
    return f"Not sure: at the slow end of the band it would give {' and '.join(late)}."


def _time(value_s: float) -> str:
    return f"{value_s:.3g} s" if value_s >= 1.0 else f"{value_s * 1e3:.3g} ms"
