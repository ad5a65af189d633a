"""The screen of `roofline simulate`: the answer, the verdict, how busy and full it was, what next, what is left out."""

from collections.abc import Iterator, Mapping
from textwrap import wrap
from typing import Any

from ..report.format import MISSING, count, number, percent, seconds
from .screen import WIDTH

Record = Mapping[str, Any]

TIMES = (
    ("TTFT", "ttft_s"),
    ("TPOT", "tpot_s"),
    ("ITL", "itl_s"),
    ("queue", "queue_s"),
    ("whole request", "e2e_s"),
)
COLUMNS = ("mean", "p50", "p95", "p99")


def simulation_screen(record: Record) -> str:
    """The screen of one simulation record."""
    parts = (_head, _times, _rates, _verdict, _next, _limits)
    return "\n".join(line for part in parts for line in part(record))


def _head(record: Record) -> Iterator[str]:
    engine, work, precision = record["engine"], record["workload"], record["scenario"]["precision"]
    split = ", ".join(f"{key} {value}" for key, value in record["scenario"]["parallelism"].items() if value > 1)
    devices = f"{record['device_count']} x {record['provenance']['device_title']}{f' ({split})' if split else ''}"
    yield f"{record['model']} on {devices}, {engine['title']} {engine['release']}"
    yield f"{count(work['requests'])} requests {_arrivals(work)}; {_lengths(work)}"
    yield (
        f"weights {precision['weights']}, activations {precision['activations']}, KV {precision['kv']}; "
        f"{engine['schedule']}, up to {count(engine['max_batch_token'])} tokens a step and "
        f"{count(engine['max_sequence'])} sequences"
    )
    yield ""


def _arrivals(work: Record) -> str:
    match work["kind"]:
        case "open":
            kind = "Poisson" if work["arrival_cv"] == 1.0 else f"cv {work['arrival_cv']:.3g}"
            arrivals = f"at {number(work['request_per_s'])}/s ({kind}, seed {work['seed']})"
        case "closed":
            arrivals = f"with {count(work['concurrency'])} in flight"
        case _:
            return f"of {work['trace']}, as they came"
    return arrivals if work["trace"] is None else f"{arrivals} with the lengths of {work['trace']}"


def _lengths(work: Record) -> str:
    tokens = (work["input_token"], work["output_token"])
    means = [f"{token['mean']:,.0f} (p95 {token['p95']:,.0f})" for token in tokens]
    return f"{means[0]} tokens in, {means[1]} out"


def _times(record: Record) -> Iterator[str]:
    yield f"  {'':15}{''.join(f'{name:>10}' for name in COLUMNS)}   band of the mean"
    for label, key in TIMES:
        spread = record[key]
        if spread is None:
            yield f"  {label:15}{''.join(f'{MISSING:>10}' for _ in COLUMNS)}   one token a request"
            continue
        ends = [record["band"][end][key]["mean"] for end in ("low", "high")]
        figures = "".join(f"{seconds(spread[name]):>10}" for name in COLUMNS)
        yield f"  {label:15}{figures}   {seconds(ends[0])} to {seconds(ends[1])}"


def _rates(record: Record) -> Iterator[str]:
    yield ""
    yield (
        f"  {number(record['request_per_s'])} requests/s; {number(record['output_token_per_s'])} tokens/s generated = "
        f"{number(record['output_token_per_s_per_device'])} per device; {number(record['input_token_per_s'])} read; "
        f"{seconds(record['makespan_s'])} from first arrival to last token"
    )
    yield (
        f"  in mean {number(record['decodes'])} sequences generate and {number(record['waiting'])} requests wait "
        f"(at most {count(record['waiting_peak'])}); KV cache at most {percent(record['kv_peak'])} full; "
        f"{_preempted(record)}"
    )
    yield (
        f"  busy {percent(record['utilisation'])} of the time: {count(record['steps'])} steps of "
        f"{seconds(record['step_s'])} in mean, {percent(record['mixed_share'])} of them with prompts"
    )


def _preempted(record: Record) -> str:
    if not record["preemptions"]:
        return "none preempted"
    return f"{count(record['preempted_requests'])} requests preempted, {count(record['preemptions'])} times"


def _verdict(record: Record) -> Iterator[str]:
    closed, work = record["closed_form"], record["workload"]
    yield ""
    limit = f"closed form: it saturates at {number(closed['saturation_request_per_s'])} requests/s"
    if work["kind"] == "closed":
        yield f"Verdict: {number(record['request_per_s'])} requests/s; {limit}."
    elif closed["utilisation"] >= 1.0:
        yield f"Verdict: overloaded, the queue grows as long as requests come; {limit}."
    else:
        yield f"Verdict: it keeps up at {percent(closed['utilisation'])} of what it could; {limit}."
    told = [
        f"{label} {seconds(closed[key]['mean'])}"
        for label, key in TIMES[:2]
        if closed[key] and closed[key]["mean"] is not None
    ]
    if told:
        trust = percent(closed["trusted_utilisation"])
        yield f"  The closed form says {', '.join(told)} in mean; it is to be trusted up to {trust} of saturation."


def _next(record: Record) -> Iterator[str]:
    yield ""
    yield "Next: --csv FILE has every request, --steps FILE every step, --html FILE a page, --json it all."


def _limits(record: Record) -> Iterator[str]:
    yield from wrap(f"Not modelled: {'; '.join(record['not_modelled'])}.", WIDTH)
    yield from wrap(f"Band: {record['band']['summary']}.", WIDTH)
    yield from wrap(f"Kernels: {record['provenance']['kernels']}", WIDTH)
    yield f"Assumed: {len(record['assumptions'])} facts; --json and --html list them."
