"""What commands do alike with what they made: files checked before the work, records printed, files told at the end."""

import json
import shlex
import sys
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import typer

from ..errors import RooflineError
from ..io.files import require_writable


def called() -> str:
    """The command line that is running, as a record's provenance states it."""
    return shlex.join(["roofline", *sys.argv[1:]])


def check_files(**files: Path | None) -> None:
    """Files that options name, before the work that fills them; None: not asked for.

    Errors: RooflineError where two are the same file, or one could not be written.
    """
    asked = {option: path for option, path in files.items() if path is not None}
    for (one, path), (other, again) in combinations(asked.items(), 2):
        if path.absolute() == again.absolute():
            raise RooflineError(f"{one}, {other}: both would be written to the same file, {path}. Give two files.")
    for path in asked.values():
        require_writable(path)


def print_json(record: Mapping[str, Any]) -> None:
    """A record on stdout. JSON has no infinity and no NaN: they are the record's fault (ValueError)."""
    typer.echo(json.dumps(record, indent=1, allow_nan=False))


def name_files(*paths: Path | None) -> None:
    """Say on stderr which files were written; None: not asked for."""
    for path in paths:
        if path is not None:
            typer.echo(f"wrote {path}", err=True)
