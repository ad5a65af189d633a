"""`roofline plan`: from traffic and service levels to devices and dollars."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import RooflineError, clip
from .output import called, check_files, name_files, print_json
from .progress import bar
from .scenario import parse_numbers


def _name(text: str, metavar: str = "NAME[,NAME..]") -> Any:
    return typer.Option(help=text, show_default=False, metavar=metavar)


POOLS = "aggregated,disaggregated"


def plan_command(
    model: Annotated[str, typer.Argument(help="A preset, or a path to a config.json.", show_default=False)],
    ttft: Annotated[float, typer.Option(help="Seconds to the first token, at most.", show_default=False)],
    tpot: Annotated[float, typer.Option(help="Seconds per token after it, at most.", show_default=False)],
    rate: Annotated[float | None, typer.Option(help="Requests per second [that of the trace].")] = None,
    input: Annotated[int | None, typer.Option(help="Prompt tokens of each request [2048].")] = None,
    output: Annotated[int | None, typer.Option(help="Tokens that each request generates [256].")] = None,
    trace: Annotated[Path | None, typer.Option(help="Requests to plan for: lengths, rate and burstiness.")] = None,
    arrival_cv2: Annotated[
        float | None, typer.Option(help="Squared variation of gaps between arrivals; 1 is Poisson [the trace's, or 1].")
    ] = None,
    percentile: Annotated[float, typer.Option(help="Of 100 requests, those that the levels hold for.")] = 95.0,
    devices: Annotated[str | None, _name("Profiles to choose from [all priced accelerators].")] = None,
    max_devices: Annotated[int, typer.Option(help="Devices of a plan, at most.")] = 64,
    engine: Annotated[str, typer.Option(help="Serving engine: vllm, sglang, trtllm, or a TOML file.")] = "vllm",
    weights: Annotated[str | None, _name("Formats of the weights to try [as published, and fp8 where native].")] = None,
    kv: Annotated[str | None, _name("Formats of the KV cache to try [bf16, and fp8 where native].")] = None,
    max_sequences: Annotated[str | None, _name("Limits of running sequences to try.", "N[,N..]")] = None,
    max_batch_tokens: Annotated[str | None, _name("Token budgets of a step to try.", "N[,N..]")] = None,
    pools: Annotated[str, _name("aggregated (one pool), disaggregated (prefill and decode apart), or both.")] = POOLS,
    rank: Annotated[str, typer.Option(help="usd, devices, energy or latency.")] = "usd",
    top: Annotated[int, typer.Option(help="Plans to show.")] = 10,
    sure: Annotated[
        bool, typer.Option("--sure", help="Only plans that hold at the slow end of their error band too.")
    ] = False,
    prices: Annotated[str | None, _name("A price file, by name or path [as the profiles state].", "NAME|FILE")] = None,
    price_kind: Annotated[str | None, _name("on-demand, reserved or own [as the file has it].", "KIND")] = None,
    pue: Annotated[str | None, _name("Power of the site over that of its devices [1].", "X")] = None,
    cluster: Annotated[str | None, typer.Option(help="Search on this Dask scheduler.", metavar="ADDRESS")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the whole record as JSON.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write the answer as one HTML page.")] = None,
) -> None:
    """Which devices, how many and how configured serve MODEL at a rate within service levels, and what they cost."""
    from ..planner import plan
    from .plan_screen import plan_screen

    check_files(html=html)
    with bar("candidates") as tell:
        planned = plan(
            model,
            rate=rate,
            input=input,
            output=output,
            ttft=ttft,
            tpot=tpot,
            trace=trace,
            arrival_cv2=arrival_cv2,
            percentile=percentile,
            devices=_names("devices", devices),
            max_devices=max_devices,
            engine=engine,
            weights=_names("weights", weights),
            kv=_names("kv", kv),
            max_sequences=_numbers("max-sequences", max_sequences),
            max_batch_tokens=_numbers("max-batch-tokens", max_batch_tokens),
            pools=_names("pools", pools) or (),
            rank=rank,
            top=top,
            sure=sure,
            prices=prices,
            price_kind=price_kind,
            pue=pue,
            cluster=cluster,
            command=called(),
            progress=tell,
            say=lambda text: tell(what=text),
        )
    record = planned.record
    if html is not None:
        from ..report.pages import write_page

        write_page(record, html)
    if json_:
        print_json(record)
    else:
        typer.echo(plan_screen(record))
    name_files(html)
    if not record["plans"]:
        raise typer.Exit(1)


def _names(field: str, text: str | None) -> list[str] | None:
    """Names with commas. Errors: RooflineError where one is empty."""
    if text is None:
        return None
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise RooflineError(f"{field}: {clip(text)} is not accepted. Accepted: names with commas between them.")
    return names


def _numbers(field: str, text: str | None) -> tuple[int, ...] | None:
    return None if text is None else parse_numbers(field, text)
