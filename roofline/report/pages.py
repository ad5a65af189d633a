"""Which page shows which record: the one way from a record to its HTML file."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import RooflineError, clip, unknown
from . import (
    comparison_page,
    diff_page,
    explanation_page,
    plan_page,
    prediction_page,
    sensitivity_page,
    simulation_page,
    this_machine,
    validation_page,
)
from .html import Contents, html_of
from .parts import Record

PAGES: dict[str, Callable[[Record], Contents]] = {
    "roofline.prediction/1": prediction_page.contents,
    "roofline.predictions/1": comparison_page.list_contents,
    "roofline.comparison/1": comparison_page.contents,
    "roofline.plan/1": plan_page.contents,
    "roofline.simulation/1": simulation_page.contents,
    "roofline.sensitivity/1": sensitivity_page.contents,
    "roofline.diff/1": diff_page.contents,
    "roofline.explanation/1": explanation_page.contents,
    "roofline.validation/1": validation_page.contents,
    "roofline.this_machine/1": this_machine.contents,
}
"""The schemas that have a page, and what makes its contents."""

_LARGEST_RECORD_BYTE = 100_000_000


def render(record: Record, plotly: str = "") -> str:
    """The page of `record`. The record that it embeds gives the same page again.

    `plotly`: the name of a copy of html.PLOTLY beside the page, for folders of many pages; "" puts it into the page.
    Errors: RooflineError for a schema without a page, or a record with a part missing or of the wrong kind.
    """
    return html_of(_contents(record), plotly)


def write_page(record: Record, path: Path, plotly: str = "") -> None:
    """Writes the page of `record`. Errors: as `render`, or where `path` cannot be written."""
    from ..io.files import write_text

    write_text(path, render(record, plotly))


def read_record(path: Path) -> dict[str, Any]:
    """The record in a JSON file. Errors: RooflineError for a file that cannot be read or is no JSON object."""
    try:
        if path.stat().st_size > _LARGEST_RECORD_BYTE:
            raise RooflineError(f"record: {path} has over {_LARGEST_RECORD_BYTE / 1e6:.0f} MB: no record is so large.")
        found = json.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise RooflineError(f"record: cannot read {path}: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise RooflineError(f"record: {path} is not UTF-8 text (byte {error.start}).") from None
    except RecursionError:
        raise RooflineError(f"record: {path} is nested too deeply for a record.") from None
    except ValueError as error:
        raise RooflineError(
            f"record: {path} is not valid JSON: {error}. Give what a command printed with --json."
        ) from None
    if not isinstance(found, dict):
        raise RooflineError(f"record: {path} holds {clip(found)}. Accepted: the JSON object that --json prints.")
    return found


def _contents(record: Record) -> Contents:
    schema = record.get("schema")
    if isinstance(schema, str) and schema in PAGES:
        return PAGES[schema](record)
    kind = re.fullmatch(r"(roofline\.\w+)/\w+", schema) if isinstance(schema, str) else None
    known = [name for name in PAGES if kind and name.startswith(f"{kind[1]}/")]
    if known:
        raise RooflineError(
            f"schema: {clip(schema)} is of another version of roofline. Accepted: {', '.join(known)}. Make the "
            "record again, or use that version."
        )
    raise unknown("schema", schema, PAGES, "Give a record that a command printed with --json.")
