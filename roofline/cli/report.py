"""`roofline report`: the page of a record that a command printed with --json."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import RooflineError


def report_command(
    record: Annotated[Path, typer.Argument(help="A JSON file that a command wrote with --json.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Where the page goes [beside the record].")
    ] = None,
) -> None:
    """Show RECORD as one HTML page: the same, byte for byte, as --html of the command that made it."""
    from ..report.pages import read_record, write_page

    target = record.with_suffix(".html") if output is None else output
    if target.absolute() == record.absolute():
        raise RooflineError(f"output: {target} is the record itself. Give another file with -o.")
    write_page(read_record(record), target)
    typer.echo(f"wrote {target}", err=True)
