"""`roofline compare`: the same work on several devices, side by side."""

from collections.abc import Mapping
from pathlib import Path
from textwrap import wrap
from typing import Annotated, Any

import typer

from ..errors import RooflineError
from ..report.record import prediction_record
from .options import takes_scenario
from .output import called, check_files, name_files, print_json
from .scenario import Request
from .screen import WIDTH, rendered


@takes_scenario
def compare_command(
    asked: Request,
    json_: Annotated[bool, typer.Option("--json", help="Print the whole record as JSON.")] = False,
    csv: Annotated[Path | None, typer.Option(help="Write the key figures, a line per device, to a CSV file.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write the comparison as one HTML page.")] = None,
) -> None:
    """Compare devices on the same work: MODEL and DEVICE,DEVICE:8,.. with time, bound, cost and energy of each."""
    from ..comparison import compare
    from ..io.files import write_text
    from ..report.comparison_record import comparison_csv, comparison_record
    from ..sweep import batch_curve

    several = [name for name, values in asked.numbers.items() if len(values) > 1]
    if several:
        raise RooflineError(f"{several[0]}: a comparison is of one scenario. Give a single number for each flag.")
    check_files(csv=csv, html=html)
    names = [name.strip() for name in asked.device.split(",")]
    compared = compare(asked.model, names, **{name: values[0] for name, values in asked.numbers.items()}, **asked.names)
    curves = json_ or html is not None
    predictions = [
        None
        if (found := entry.prediction) is None
        else prediction_record(found, batch_curve=batch_curve(found) if curves and found.decode else None)
        for entry in compared
    ]
    record = comparison_record(compared, predictions, called())
    if html is not None:
        from ..report.pages import write_page

        write_page(record, html)
    if csv is not None:
        write_text(csv, comparison_csv(record))
    if json_:
        print_json(record)
    else:
        typer.echo(_screen(record))
    name_files(html, csv)
    if not any(device["fits"] for device in record["devices"]):
        raise typer.Exit(1)


def _screen(record: Mapping[str, Any]) -> str:
    """The comparison as text: what is best, a row for each device, and why some are not in the running."""
    from rich.table import Table

    from ..report.comparison_page import findings
    from ..report.format import money, number, seconds

    scenario, devices = record["scenario"], record["devices"]
    table = Table(box=None, pad_edge=False)
    for name in ("device", "TTFT", "TPOT", "band", "decode", "tokens/s/device", "$/Mtok in", "$/Mtok out", "J/token"):
        table.add_column(name, justify="left" if name in ("device", "decode") else "right", no_wrap=True)
    for device in devices:
        table.add_row(
            f"{device['asked'][:40]}{'' if device['fits'] else ' *'}",
            seconds(device["ttft_s"]),
            seconds(device["tpot_s"]),
            _band(device),
            device["decode_bound"] or "–",
            number(device["output_token_per_s_per_device"]),
            money(device["usd_per_mtok_input"]),
            money(device["usd_per_mtok_output"]),
            number(device["joule_per_output_token"]),
        )
    work = (
        f"{record['model']}: batch {scenario['batch']:,}, {scenario['input_token']:,} tokens in, "
        f"{scenario['output_token']:,} out; the band is that of TPOT"
    )
    parts = [work, "", rendered(table), ""]
    for finding in findings(devices):
        parts += wrap(finding, WIDTH)
    for device in devices:
        if device["reason"]:
            parts += wrap(f"* {device['asked']}: {device['reason']}", WIDTH, subsequent_indent="  ")
    return "\n".join([*parts, "", "Next: --html FILE writes a page, --csv FILE the figures, --json all of it."])


def _band(device: Mapping[str, Any]) -> str:
    """The band of TPOT as percentages of it: -8% +11%."""
    tpot_s = device["tpot_s"]
    if not tpot_s or device["tpot_low_s"] is None:
        return "–"
    return f"{device['tpot_low_s'] / tpot_s - 1.0:+.0%} {device['tpot_high_s'] / tpot_s - 1.0:+.0%}"
