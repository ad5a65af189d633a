"""`roofline simulate`: requests through an engine's scheduler, one by one; on the screen, as JSON, CSV or a page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import RooflineError
from ..service_settings import number
from .options import Concurrency, EngineName, MaxBatchTokens, MaxSequences, Rate, takes_deployment, traffic_option
from .output import called, check_files, name_files, print_json
from .progress import bar
from .scenario import Request


@takes_deployment
def simulate_command(
    asked: Request,
    rate: Rate = None,
    arrival_cv: Annotated[
        str | None,
        typer.Option(
            "--arrival-cv",
            "--cv",
            help="With --rate: variability of the time between arrivals; 0 a clock, 1 Poisson [1].",
            show_default=False,
            metavar="X",
        ),
    ] = None,
    concurrency: Concurrency = None,
    trace: Annotated[
        Path | None,
        traffic_option(
            "Requests of a CSV or JSON-lines file; with --rate or --concurrency only their lengths.", "FILE"
        ),
    ] = None,
    requests: Annotated[str | None, traffic_option("How many [1000, or all of the trace].", "N")] = None,
    input: Annotated[
        str | None, traffic_option("Prompt tokens: N, lognormal:MEAN:CV, or a trace [2048].", "LENGTH")
    ] = None,
    output: Annotated[str | None, traffic_option("Generated tokens: the same forms [256].", "LENGTH")] = None,
    engine: EngineName = None,
    max_batch_tokens: MaxBatchTokens = None,
    max_sequences: MaxSequences = None,
    seed: Annotated[int, typer.Option(help="Decides every draw.", min=0)] = 0,
    json_: Annotated[bool, typer.Option("--json", help="Print the whole record as JSON.")] = False,
    csv: Annotated[Path | None, typer.Option(help="Write one line per request to a CSV file.")] = None,
    steps: Annotated[Path | None, typer.Option(help="Write one line per step of the engine to a CSV file.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write the simulation as one HTML page.")] = None,
) -> None:
    """Simulate MODEL on DEVICE serving requests one by one: queueing, batching, preemption, each request's times."""
    from ..io.engines import DEFAULT_ENGINE
    from ..io.files import write_text
    from ..report.simulation_record import requests_table, simulation_record, steps_table
    from ..serving.replay import replay
    from .screen_simulation import simulation_screen

    check_files(csv=csv, steps=steps, html=html)
    case, served = _served(asked, engine or DEFAULT_ENGINE, max_batch_tokens, max_sequences)
    lengths = {"input": input, "output": output}
    if trace is None:
        lengths = {name: text or str(asked.numbers[name][0]) for name, text in lengths.items()}
    most = case.model.max_context
    workload = _workload(
        rate, arrival_cv, concurrency, trace, requests, lengths["input"], lengths["output"], seed, most
    )
    with bar("simulating", share=True) as tell:
        found = replay(served, workload, progress=lambda share: tell(share, 1.0))
    command = called()
    record = simulation_record(found, served, case=case, command=command)
    run = found.simulation
    if csv is not None:
        write_text(csv, _csv(requests_table(run)))
    if steps is not None:
        write_text(steps, _csv(steps_table(run)))
    if html is not None:
        from ..report.pages import write_page

        write_page(record, html)
    if json_:
        print_json(record)
    else:
        typer.echo(simulation_screen(record))
    name_files(csv, steps, html)


def _workload(
    rate: str | None,
    arrival_cv: str | None,
    concurrency: str | None,
    trace: Path | None,
    requests: str | None,
    input: str | None,
    output: str | None,
    seed: int,
    most: float,
) -> Any:
    """The Workload that the options make, of requests of up to `most` tokens on average.

    Errors: RooflineError where they contradict each other or none says what.
    """
    from ..io.traces import is_request_log, read_request_log, read_trace
    from ..serving.lengths import Lengths
    from ..serving.replay import Drawn, Traced
    from ..serving.traffic import ClosedLoop, OpenLoop, Traffic
    from .lengths import parse_length

    if rate is not None and concurrency is not None:
        raise RooflineError("rate, concurrency: an open loop has a rate, a closed one a concurrency. Give one of them.")
    if arrival_cv is not None and rate is None:
        raise RooflineError("arrival-cv: it is about arrivals at a rate. Give --rate as well.")
    if trace is None and rate is None and concurrency is None:
        raise RooflineError("rate, concurrency, trace: none says how requests come. Try: --rate 10")
    if trace is not None and (input is not None or output is not None):
        raise RooflineError("trace: it has its own lengths. Leave out --input and --output, or give it as one of them.")
    traffic: Traffic | None = None
    if rate is not None:
        cv = 0.0 if arrival_cv == "0" else number("arrival-cv", arrival_cv or 1.0)
        traffic = OpenLoop(number("rate", rate), cv**2)
    if concurrency is not None:
        traffic = ClosedLoop(number("concurrency", concurrency, low=1.0, whole=True))
    count = None if requests is None else int(number("requests", requests, low=1.0, whole=True))
    if trace is not None:
        found = read_request_log(trace).trace if is_request_log(trace) else read_trace(trace)
        return Traced(found, traffic, count, seed)
    assert traffic is not None
    assert input is not None and output is not None
    lengths = Lengths(parse_length("input", input), parse_length("output", output))
    mean = float(lengths.prompt.mean + lengths.output.mean)
    if mean > most:
        raise RooflineError(
            f"input + output: {mean:.0f} tokens exceed the {most:.0f} that the model was made for. Accepted: up to "
            f"{most:.0f}; shorten --input or --output."
        )
    return Drawn(traffic, lengths, count or 1000, seed)


def _served(asked: Request, engine: str, max_batch_tokens: str | None, max_sequences: str | None) -> Any:
    """The Case asked for, and its model served by `engine` under the limits asked for."""
    from ..simulator import served_case

    several = [field for field, values in asked.numbers.items() if len(values) > 1]
    if several:
        raise RooflineError(f"{several[0]}: a simulation is of one deployment. Give one number.")
    given: dict[str, Any] = {field: values[0] for field, values in asked.numbers.items()} | dict(asked.names)
    given |= {"batch": 1, "input": 1, "output": 1}  # requests bring their own lengths

    def limit(field: str, text: str | None) -> float | None:
        return None if text is None else number(field, text, low=1.0, whole=True)

    return served_case(
        asked.model,
        asked.device,
        engine,
        max_batch_token=limit("max-batch-tokens", max_batch_tokens),
        max_sequence=limit("max-sequences", max_sequences),
        **given,
    )


def _csv(columns: Mapping[str, Sequence[Any]]) -> str:
    """Columns as CSV."""
    from ..io.files import csv_text

    return csv_text(columns, zip(*columns.values(), strict=True))
