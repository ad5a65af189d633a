"""`roofline sensitivity`: what would move the figures, and the next best change."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from textwrap import wrap
from typing import Annotated, Any

import typer

from ..alternatives import alternatives, other_devices, served_alternatives
from ..api import case_of, split_device
from ..errors import RooflineError, unknown
from ..io.models import load_model
from ..io.profiles import load_target
from ..outcome import Case
from ..prediction import predict_case
from ..report.format import count, money, number, quantity, seconds
from ..report.sensitivity import sensitivity_record
from ..sensitivity.analysis import Crossover, base_figures, bound_crossovers, format_crossover, lever_rows
from ..sensitivity.changes import Alternative, evaluated
from ..sensitivity.figures import MAX_BATCH, REQUEST_DEVICE_S, REQUEST_USD, STATIC, Figure
from ..sensitivity.served import SERVED, measured, served
from ..service_settings import asked_of, backend_of, is_asked
from ..serving.deployed import traffic_of
from .options import Concurrency, EngineName, MaxBatchTokens, MaxSequences, Rate, takes_scenario
from .output import called, check_files, name_files, print_json
from .scenario import Request, single
from .screen import WIDTH, rendered, scenario_lines

Record = Mapping[str, Any]


def _option(text: str, metavar: str) -> Any:
    return typer.Option(help=text, show_default=False, metavar=metavar)


TOP = 10
"""Changes on the screen."""

WIDE = 124
"""Width of the table of elasticities."""

FAR = 9.0
"""Changes from which on multiples are shown."""

SMALL = 0.005
"""Elasticities below it are shown as nothing."""

OBJECTIVES = {"cost": REQUEST_USD.key, "ttft": "ttft_s", "tpot": "tpot_s", "throughput": "output_token_per_s"}
"""What --by takes."""


@takes_scenario
def sensitivity_command(
    asked: Request,
    concurrency: Concurrency = None,
    rate: Rate = None,
    engine: EngineName = None,
    max_batch_tokens: MaxBatchTokens = None,
    max_sequences: MaxSequences = None,
    by: Annotated[str, typer.Option(help="Rank changes by cost, ttft, tpot or throughput.")] = "cost",
    devices: Annotated[str | None, _option("Other devices to try, with commas [all alike].", "NAME[,NAME..]")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the whole record as JSON.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write the analysis as one HTML page.")] = None,
) -> None:
    """Say what moves TTFT, TPOT, throughput and cost of MODEL on DEVICE, and rank what to change next."""
    check_files(html=html)
    service = {
        "concurrency": concurrency,
        "rate": rate,
        "engine": engine,
        "max_batch_tokens": max_batch_tokens,
        "max_sequences": max_sequences,
    }
    record = analysed(asked, service, by, devices, called())
    if html is not None:
        from ..report.pages import write_page

        write_page(record, html)
    if json_:
        print_json(record)
    else:
        typer.echo(screen(record))
    name_files(html)
    if not record["base"]["fits"] or _overloaded(record):
        raise typer.Exit(1)


def analysed(
    asked: Request, service: Mapping[str, str | None], by: str, devices: str | None, command: str
) -> dict[str, Any]:
    """The record of the analysis that a command asks for. Errors: RooflineError for what is not understood."""
    settings = single(asked, "sensitivity")
    if by not in OBJECTIVES:
        raise unknown("by", by, OBJECTIVES)
    loaded, target = load_model(asked.model), load_target(split_device(asked.device)[0])
    wanted = asked_of(service, target) if is_asked(service) else None
    if wanted is not None:
        settings |= {"backend": backend_of(wanted, target, settings["backend"])}
    case = case_of(loaded, asked.device, **settings)
    prediction = predict_case(case)
    tried = other_devices(case) if devices is None else _devices(devices)
    room = prediction.capacity.max_batch if wanted is None else 0
    options = list(alternatives(loaded, target, settings, case, room, tried))
    if wanted is not None:
        under = served(case, wanted.engine, traffic_of(wanted))
        case, options = under, list(served_alternatives(options, under))
    found = measured(case)
    base = base_figures(case, found)
    objective = _objective(by, base)
    if wanted is not None and wanted.request_per_s is not None and by == "cost":
        objective = replace(objective, title=f"{objective.title} at saturation")
    return sensitivity_record(
        prediction,
        case,
        (*(STATIC if wanted is None else SERVED), MAX_BATCH),
        found,
        base,
        tuple(lever_rows(case, base)),
        tuple(_crossovers(case, options)),
        evaluated(options, objective.key, base),
        objective,
        command,
    )


def _devices(text: str) -> list[str]:
    """The devices of a list; one that is not known stays in the record with the reason.

    Errors: RooflineError where a name is empty, or none is known.
    """
    names = [name.strip() for name in text.split(",")]
    refused = []
    for name in names:
        try:
            load_target(name)
        except RooflineError as error:
            refused.append(error)
    if len(refused) == len(names) or not all(names):
        raise refused[0]
    return names


def _objective(by: str, base: Mapping[str, float | None]) -> Figure:
    """The figure to rank by; device-seconds stand in for money where there is no price."""
    if by == "cost":
        return REQUEST_DEVICE_S if base[REQUEST_USD.key] is None else REQUEST_USD
    return next(figure for figure in STATIC if figure.key == OBJECTIVES[by])


def _crossovers(base: Case, options: list[Alternative]) -> Iterator[Crossover]:
    """Where bounds change, and up to which batch another format of the weights is faster."""
    yield from bound_crossovers(base)
    for option in options:
        if option.kind in ("weights", "kv") and option.case is not None:
            found = format_crossover(base, option.case, option.text)
            if found is not None:
                yield found


def screen(record: Record) -> str:
    """The first screen of a sensitivity record: the answer, elasticities, crossovers, ranked changes."""
    scenario, formats = scenario_lines(record)
    if record["traffic"] is not None:
        formats = formats.partition(", ")[2]  # the batch is not asked for but follows
    head = [scenario, formats, *_load(record), ""]
    return "\n".join([*head, *_answer(record), "", _elasticities(record), *_changes_told(record)])


def _overloaded(record: Record) -> bool:
    """Whether requests come faster than they can be served."""
    return record["traffic"] is not None and record["base"]["tpot_s"] is None


def _load(record: Record) -> Iterator[str]:
    """Under what a deployment is served, where it is."""
    traffic = record["traffic"]
    if traffic is not None:
        clients = traffic.get("concurrency")
        load = f"{count(clients)} clients" if clients else f"{number(traffic['request_per_s'])} requests/s"
        limits = f"{count(traffic['max_sequence'])} sequences, {count(traffic['max_batch_token'])} tokens a step"
        mean = count(traffic["mean_batch"])
        yield f"served by {traffic['engine']} to {load}: {mean} generate at once on average; up to {limits}"


def _answer(record: Record) -> Iterator[str]:
    best = next((change for change in record["changes"] if change["fits"] and change["gain"] is not None), None)
    for key, title in (("ttft_s", "TTFT"), ("tpot_s", "TPOT")):
        felt = sorted(
            ((abs(row["elasticity"][key] or 0.0), row) for row in record["levers"] if row["kind"] == "hardware"),
            key=lambda pair: -pair[0],
        )
        if record["base"][key] is None or not felt:
            continue
        told = ", ".join(f"{row['title']} {row['elasticity'][key]:+.2f} %" for size, row in felt[:3] if size > SMALL)
        yield f"  {title} {seconds(record['base'][key])}; 1 % more of each: {told}"
    if best is not None and best["gain"] < 0.0:
        flags = f" ({best['flags']})" if best["flags"] else ""
        yield f"  best next change: {best['text']}{flags}: {record['objective']['title']} {best['gain']:+.0%}"
    elif best is not None:
        yield f"  nothing tried lowers the {record['objective']['title']}"
    yield from (f"  {crossing['text']}" for crossing in record["crossovers"][:5])
    if not record["base"]["fits"]:
        yield "  it does not fit as asked: figures are as if memory were larger"
    elif _overloaded(record):
        yield "  it does not keep up: the rate is beyond saturation, so times have no end"


def _elasticities(record: Record) -> str:
    from rich.table import Table

    table = Table(title="1 % more of a row: % change of a column", title_justify="left")
    table.add_column("lever", no_wrap=True)
    table.add_column("now", justify="right", no_wrap=True)
    figures = [figure for figure in record["figures"] if record["base"][figure["key"]] is not None]
    for figure in figures:
        table.add_column(figure["title"], justify="right")
    for row in record["levers"]:
        cells = (row["elasticity"][figure["key"]] for figure in figures)
        now = quantity(row["value"], row["unit"]) if row["unit"] else count(row["value"])
        table.add_row(row["title"], now, *(_signed(cell) for cell in cells))
    return rendered(table, WIDE)


def _signed(cell: float | None) -> str:
    """An elasticity; a dot where it is nothing."""
    if cell is None:
        return "-"
    return f"{cell:+.2f}" if abs(cell) > SMALL else "·"


def _moved(change: float | None) -> str:
    """A relative change; as a multiple where per cent would be in thousands."""
    if change is None:
        return "-"
    return f"{change:+.0%}" if change < FAR else f"{count(round(1.0 + change))} x"


def _changes_told(record: Record) -> Iterator[str]:
    from rich.table import Table

    known = {key for key, value in record["base"].items() if value is not None}
    keys = [key for key in ("ttft_s", "tpot_s", "output_token_per_s", "max_batch") if key in known]
    titles = {figure["key"]: figure["title"] for figure in record["figures"]}
    table = Table(title=f"Next changes, by {record['objective']['title']}", title_justify="left")
    table.add_column("change", no_wrap=True)
    table.add_column(record["objective"]["title"], justify="right")
    for key in keys:
        table.add_column(titles[key], justify="right")
    table.add_column("$/h", justify="right")
    table.add_column("bound")
    table.add_column("fits")
    for change in record["changes"][:TOP]:
        table.add_row(
            change["text"] if change["kind"] != "device" else f"{change['device_count']} x {change['device']}",
            "no price" if change["gain"] is None else f"{change['gain']:+.0%}",
            *(_moved(change["change"][key]) for key in keys),
            money(change["usd_per_hour"]),
            change["bound"],
            "yes" if change["fits"] else "no",
        )
    yield rendered(table)
    more = len(record["changes"]) - TOP
    yield from wrap(
        f"{more} more with --json. Every change is predicted for itself; what narrower formats do to answers is not "
        "judged. Prices are those that each profile states, of different sellers, unless --prices names one. "
        "Elasticities are taken between -10 % and +10 %, with calibration parameters kept.",
        WIDTH,
    )
