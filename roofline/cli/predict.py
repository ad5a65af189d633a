"""`roofline predict`: one prediction on the screen, as JSON, CSV or a page."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..api import predict_each, split_device
from ..errors import InfeasibleError
from ..io.files import csv_text, write_text
from ..report.record import prediction_record
from ..service_settings import SETTINGS
from .options import (
    Concurrency,
    EngineName,
    MaxBatchTokens,
    MaxSequences,
    Rate,
    takes_scenario,
    traffic_option,
)
from .output import called, check_files, name_files, print_json
from .scenario import Request
from .screen import detail_tables, first_screen, summary_table

if TYPE_CHECKING:
    from ..prediction import Prediction


@takes_scenario
def predict_command(
    asked: Request,
    concurrency: Concurrency = None,
    rate: Rate = None,
    cv: Annotated[str | None, traffic_option("Variation of the times between arrivals [1: Poisson].", "X")] = None,
    input_cv: Annotated[str | None, traffic_option("Variation of prompt lengths, lognormal [0].", "X")] = None,
    output_cv: Annotated[str | None, traffic_option("Variation of output lengths, lognormal [0].", "X")] = None,
    engine: EngineName = None,
    max_batch_tokens: MaxBatchTokens = None,
    max_sequences: MaxSequences = None,
    prefix_hit: Annotated[str | None, traffic_option("Share of prompt tokens in the prefix cache [0].", "X")] = None,
    disaggregated: Annotated[str | None, traffic_option("Replicas that prefill and that decode: 2P4D.", "xPyD")] = None,
    draft_tokens: Annotated[str | None, traffic_option("Tokens drafted per step (speculative decoding).")] = None,
    acceptance: Annotated[str | None, traffic_option("Probability that a drafted token is accepted.", "X")] = None,
    draft: Annotated[str | None, traffic_option("Model that drafts [none: drafts cost nothing].", "MODEL")] = None,
    detail: Annotated[bool, typer.Option("--detail", help="Add the table of every kernel.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print the whole record as JSON.")] = False,
    csv: Annotated[Path | None, typer.Option(help="Write every kernel of every prediction to a CSV file.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write the prediction as one HTML page.")] = None,
) -> None:
    """Predict prefill and decode of MODEL on DEVICE: time, bottleneck, memory, energy and money."""
    check_files(csv=csv, html=html)
    given = locals()
    service = {name: given[name] for name in SETTINGS}
    command = called()
    records, refused = [], []
    single = math.prod(map(len, asked.numbers.values())) == 1
    for found in predict_each(asked.model, asked.device, asked.numbers, asked.names, service):
        if isinstance(found, InfeasibleError):
            refused.append(found)
        elif single and (json_ or html is not None):
            records.append(full_record(found, command, asked.model, asked.device))
        else:
            records.append(prediction_record(found, command))
    if not records:
        raise refused[0]
    if html is not None:
        from ..report.pages import write_page

        write_page(records[0] if len(records) == 1 else _list(records), html)
    if csv is not None:
        write_text(csv, kernel_csv(records))
    if json_:
        print_json(records[0] if len(records) == 1 else _list(records))
    elif len(records) == 1:
        typer.echo(first_screen(records[0]))
        if detail:
            typer.echo("\n" + detail_tables(records[0]))
    else:
        typer.echo(summary_table(records))
        if detail:
            for record in records:
                typer.echo("\n" + detail_tables(record))
    name_files(html, csv)
    for reason in dict.fromkeys(map(str, refused)):
        typer.echo(f"left out, infeasible: {reason}", err=True)
    if refused or not all(record["fits"] and not _saturated(record) for record in records):
        raise typer.Exit(1)


def _saturated(record: dict[str, Any]) -> bool:
    """Whether a service was asked for and requests arrive faster than they can be served."""
    return bool(record["serving"] and record["serving"]["saturated"])


def full_record(found: "Prediction", command: str, model: str, device: str) -> dict[str, Any]:
    """The record of --json and of pages: with what a page draws around the prediction, and the sources of its facts."""
    from ..io.sources import sources_of
    from ..sweep import batch_curve, decode_map

    decodes = found.decode is not None
    return prediction_record(
        found,
        command,
        decode_map=decode_map(found) if decodes else None,
        batch_curve=batch_curve(found) if decodes else None,
        sources=sources_of(model, split_device(device)[0]),
    )


def _list(records: list[dict[str, Any]]) -> dict[str, Any]:
    provenance = {name: records[0]["provenance"][name] for name in ("package_version", "command")}
    return {"schema": "roofline.predictions/1", "predictions": records, "provenance": provenance}


def kernel_csv(records: list[dict[str, Any]]) -> str:
    """Every kernel of every phase of every record, one line each, with its scenario in front."""
    from ..report.record import KERNEL_FIELDS

    fixed = ("model", "device", "device_count")
    settings = [_settings(record["scenario"]) for record in records]
    rows = [
        [*(record[field] for field in fixed), *held.values(), name, *(row[field] for field in KERNEL_FIELDS)]
        for record, held in zip(records, settings, strict=True)
        for name, phase in record["phases"].items()
        for row in (phase["kernels"] if phase else ())
    ]
    return csv_text([*fixed, *settings[0], "phase", *KERNEL_FIELDS], rows)


def _settings(scenario: Mapping[str, Any]) -> dict[str, Any]:
    named = {field: scenario[field] for field in ("batch", "input_token", "output_token", "attention")}
    return {**named, **scenario["parallelism"], **scenario["precision"]}
