"""The first screen of `roofline predict`: the answer, the verdict, the top kernels, what next, what is not modelled."""

from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap
from typing import Any

from ..capacity import BATCH_LIMIT
from ..io.units import format_quantity
from ..report.format import number, seconds, size

WIDTH = 110
TOP = 4

Record = Mapping[str, Any]


def first_screen(record: Record) -> str:
    """The first screen of one prediction record, under 25 lines of text."""
    parts = (_head, _service, _times, _memory, _verdict, _top, _next, _limits)
    return "\n".join(line for part in parts for line in part(record))


def summary_table(records: Sequence[Record]) -> str:
    """One row per prediction, for lists in numeric flags: of the static batch, or of the service where traffic is."""
    from rich.table import Table

    served = records[0]["serving"] is not None
    table = Table(title=f"{records[0]['model']} on {records[0]['device']}", title_justify="left")
    own: tuple[str, ...] = ("TTFT", "TPOT", "tokens/s", "bound")
    if served:
        from .service_screen import SERVICE_COLUMNS, service_cells

        own = SERVICE_COLUMNS
    for name in ("devices", "tp·pp·dp·ep", *(() if served else ("batch",)), "input", "output", *own, "fits"):
        table.add_column(name, justify="right" if name not in ("bound", "fits") else "left")
    for record in records:
        scenario, spread = record["scenario"], record["scenario"]["parallelism"]
        asked = ("input_token", "output_token") if served else ("batch", "input_token", "output_token")
        table.add_row(
            str(record["device_count"]),
            "·".join(str(spread[key]) for key in ("tp", "pp", "dp", "ep")),
            *(f"{scenario[key]:,}" for key in asked),
            *(service_cells(record) if served else _static_cells(record)),
            "yes" if record["fits"] else f"no: {record['memory']['largest_term']}",
        )
    return rendered(table, width=WIDTH + 30 if served else WIDTH)


def _static_cells(record: Record) -> Iterator[str]:
    yield seconds(record["ttft_s"])
    yield seconds(record["tpot_s"])
    yield "-" if record["output_token_per_s"] is None else f"{record['output_token_per_s']:,.0f}"
    yield (record["phases"]["decode"] or record["phases"]["prefill"])["bound"]


def detail_tables(record: Record) -> str:
    """Every kernel of every phase."""
    from rich.table import Table

    texts = []
    for name, phase in record["phases"].items():
        if phase is None:
            continue
        table = Table(title=f"{name}: {seconds(phase['total_s'])} on the busiest device", title_justify="left")
        for column in ("kernel", "count", "FLOP", "read", "write", "FLOP/B", "compute", "memory", "link"):
            table.add_column(column, justify="left" if column == "kernel" else "right", no_wrap=True)
        for column in ("overhead", "total", "roofline"):
            table.add_column(column, justify="right", no_wrap=True)
        table.add_column("bound")
        for row in phase["kernels"]:
            intensity = row["intensity_flop_per_byte"]
            table.add_row(
                row["name"],
                f"{row['count']:.0f}",
                format_quantity(row["flop"], "FLOP").removesuffix("FLOP").strip(),
                format_quantity(row["read_byte"], "B"),
                format_quantity(row["write_byte"], "B"),
                "-" if intensity is None else f"{intensity:.3g}",
                *(seconds(row[f"{part}_s"]) for part in ("compute", "memory", "link", "overhead", "total", "roofline")),
                row["bound"],
            )
        texts.append(rendered(table, width=160))
    return "\n".join(texts)


def rendered(table: Any, width: int = WIDTH) -> str:
    """A Rich table as text; colours only where stdout is a terminal."""
    import io
    import sys

    from rich.console import Console

    target = io.StringIO()
    Console(file=target, width=width, force_terminal=sys.stdout.isatty()).print(table)
    return target.getvalue().rstrip("\n")


def _head(record: Record) -> Iterator[str]:
    yield from scenario_lines(record)
    yield ""


def _service(record: Record) -> Iterator[str]:
    """Under traffic: the steady state first, and what follows as the static batch that it is."""
    if record["serving"] is None:
        return
    from .service_screen import service_lines

    yield from service_lines(record, WIDTH)
    yield ""
    yield f"The same as one static batch of {record['scenario']['batch']:,}:"


def scenario_lines(record: Record) -> Iterator[str]:
    """What was asked for, in two lines."""
    scenario, spread = record["scenario"], record["scenario"]["parallelism"]
    precision = scenario["precision"]
    split = ", ".join(f"{key} {value}" for key, value in spread.items() if value > 1)
    experts = f", experts {precision['experts']}" if precision["experts"] != precision["weights"] else ""
    yield (
        f"{record['model']} on {record['device_count']} x {record['provenance']['device_title']}"
        f"{' (' + split + ')' if split else ''}"
    )
    yield (
        f"batch {scenario['batch']:,}, {scenario['input_token']:,} tokens in, {scenario['output_token']:,} out; "
        f"weights {precision['weights']}{experts}, activations {precision['activations']}, KV {precision['kv']}; "
        f"{scenario['attention']} attention"
    )


def _times(record: Record) -> Iterator[str]:
    for label, key, phase in (("TTFT", "ttft_s", "prefill"), ("TPOT", "tpot_s", "decode")):
        figures = record["phases"][phase]
        if figures is None:
            continue
        low, high = (seconds(end) for end in record["band"][key])
        part = f"{phase}'s longest stage" if record["scenario"]["parallelism"]["pp"] > 1 else phase
        yield (
            f"  {label}  {seconds(record[key]):>8} ({low} to {high})   {part} is {figures['bound']}-bound "
            f"({figures['bound_share'][figures['bound']]:.0%}), MFU {figures['mfu']:.0%}, MBU "
            f"{figures['mbu']:.0%}; bare roofline {seconds(figures['roofline_s'])}"
        )
    rate = record["output_token_per_s"]
    if rate is None:
        yield f"  end to end {seconds(record['e2e_s'])}; {record['input_token_per_s']:,.0f} input tokens/s"
        return
    yield (
        f"  end to end {seconds(record['e2e_s'])}; decode gives {rate:,.0f} tokens/s = "
        f"{record['output_token_per_s_per_device']:,.0f} per device, "
        f"{record['output_token_per_s_per_user']:.3g} per user; {record['joule_per_output_token']:.3g} J/token"
        f"{_money(record)}"
    )
    site = record["site"]
    if site["price"] is not None and not site["price"]["seller"].startswith("profile "):
        price = site["price"]
        yield f"  price {price['kind']}, {price['seller']}, {price['date']}: {price['printed']} a device"
    if record["carbon_kg_per_mtok_output"] is not None:
        grams = (1e3 * record[f"carbon_kg_per_mtok_{side}"] for side in ("input", "output"))
        told = ", ".join(f"{number(gram)} g {side}" for gram, side in zip(grams, ("in", "out"), strict=True))
        yield f"  carbon {told} per million tokens (PUE {site['pue']:g}; {site['grid']})"


def _money(record: Record) -> str:
    """The price of a million tokens, read and written; nothing where no price is known."""
    if record["usd_per_mtok_output"] is None:
        return ""
    return f"; ${record['usd_per_mtok_input']:.3g} in, ${record['usd_per_mtok_output']:.3g} out per million tokens"


def _memory(record: Record) -> Iterator[str]:
    memory = record["memory"]
    used = memory["capacity_byte"] - memory["free_byte"]
    parts = ", ".join(
        f"{label} {size(memory[key])}"
        for label, key in (
            ("weights", "weight_byte"),
            ("KV", "kv_byte"),
            ("activations", "activation_byte"),
            ("reserve", "reserve_byte"),
        )
    )
    verdict = "fits" if record["fits"] else "DOES NOT FIT"
    yield f"  {verdict}: {size(used)} of {size(memory['capacity_byte'])} per device ({parts})"
    if record["fits"]:
        batch, context = memory["max_batch"], memory["max_context"]
        room = "any batch" if batch == BATCH_LIMIT else f"batch {batch:,}"
        yield f"  room for {room} at this length, or {context:,} tokens at this batch"
    yield ""


def _verdict(record: Record) -> Iterator[str]:
    decode = record["phases"]["decode"]
    if not record["fits"]:
        memory = record["memory"]
        yield f"Verdict: it does not fit; {memory['largest_term']} is the largest term. What would make it fit:"
        for change in memory["changes"][:3]:
            yield f"  {change['text']}: {change['device_count']} device{'s' * (change['device_count'] > 1)}"
        if not memory["changes"]:
            yield "  nothing tried does: fp8 or int4 weights, fp8 cache, up to 64 times the devices if links reach them"
    elif decode is not None:
        flips = {flip["quantity"]: flip for flip in record["flips"]}
        told = [
            f"first {flips[key]['bound']}-bound at {label} {flips[key]['value']:,}"
            if key in flips
            else f"the same at any {label}"
            for key, label in (("batch", "batch"), ("input", "context"))
        ]
        yield f"Verdict: decode is {decode['bound']}-bound here; counting up from 1: {', '.join(told)}."


def _top(record: Record) -> Iterator[str]:
    for name, phase in record["phases"].items():
        if phase is None:
            continue
        ranked = sorted(phase["kernels"], key=lambda row: -row["count"] * row["total_s"])[:TOP]
        told = ", ".join(
            f"{row['name']} {row['count'] * row['total_s'] / phase['total_s']:.0%} ({row['bound']})" for row in ranked
        )
        yield f"  {name:8}{told}"
    yield ""


def _next(record: Record) -> Iterator[str]:
    yield "Next: --detail shows every kernel, --html FILE writes a page, --batch 1,8,64 compares, --json has it all."


def _extrapolated(record: Record) -> str:
    """Which kernel with sizes outside the measured range is the longest, by phase, and how many more there are."""
    told = []
    for name, phase in record["phases"].items():
        found = [row for row in phase["kernels"] if row["extrapolated"]] if phase else []
        if found:
            longest = max(found, key=lambda row: row["count"] * row["total_s"])
            more = f" and {len(found) - 1} more" if len(found) > 1 else ""
            told.append(f"{name} {longest['name']} ({longest['extrapolated']}){more}")
    return f"Extrapolated beyond measured sizes, band widened: {'; '.join(told)}." if told else ""


def _limits(record: Record) -> Iterator[str]:
    yield from wrap(f"Not modelled: {'; '.join(record['not_modelled'])}.", WIDTH)
    assumed = f"Assumed: {len(record['assumptions'])} facts; --json and --html list them."
    yield from wrap(" ".join((record["band"]["summary"], _extrapolated(record), assumed)), WIDTH)
