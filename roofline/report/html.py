"""A record as one HTML file: opens offline, asks the network for nothing, and is the same for the same record.

Later kinds of report add a template that extends base.html.j2, and a function beside `render_prediction`.
"""

import base64
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import RooflineError
from ..errors import clip as clip_value
from . import format as text
from .figures import Figure, Record, memory, roofline, time_by_kernel, unplaced
from .record import SCHEMA
from .tables import band_table, kernel_table

_TEMPLATES = Path(__file__).parent / "templates"
OBJECT, LIST, ROWS = "an object", "a list", "a list of objects"
_PARTS = {
    "scenario": OBJECT,
    "scenario.parallelism": OBJECT,
    "scenario.precision": OBJECT,
    "memory": OBJECT,
    "memory.changes": ROWS,
    "phases": OBJECT,
    "band": OBJECT,
    "band.families": OBJECT,
    "flips": ROWS,
    "roofs": OBJECT,
    "roofs.matrix_flop_per_s": OBJECT,
    "not_modelled": LIST,
    "assumptions": LIST,
    "provenance": OBJECT,
}
_PHASE_PARTS = {"kernels": ROWS, "bound_share": OBJECT}
"""What the page walks through, and the type it must have. Any other value is shown, whatever it is."""

_BOUND = {
    "compute": "compute",
    "memory": "memory bandwidth",
    "link": "the links between devices",
    "overhead": "fixed costs (launches, latency)",
}


def render_prediction(record: Record) -> str:
    """The page of a `roofline.prediction/1` record. The record it embeds gives the same page again.

    Errors: RooflineError for another schema, or a record with a part missing or of the wrong type.
    """
    _check(record)
    record = plain(record)
    phases = {name: phase for name, phase in record["phases"].items() if phase}
    figures = {"roofline-plot": roofline(record)}
    figures |= {f"time-{i}": time_by_kernel(phase) for i, phase in enumerate(phases.values())}
    figures["memory-plot"] = memory(record["memory"])
    return page(
        "prediction.html.j2",
        record,
        figures,
        phases=phases,
        tables=[kernel_table(name, phase) for name, phase in phases.items()],
        bands=band_table(record["band"]),
        unplaced=unplaced(record),
        provenance={
            **{name: record.get(name) for name in ("model", "device", "schema")},
            **{name: held for name, held in record["provenance"].items() if name != "command"},
        },
    )


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: NaN and infinities become their names, lone surrogates become "?"."""
    match value:
        case Mapping():
            return {plain(str(key)): plain(held) for key, held in value.items()}
        case str():
            return value.encode("utf-8", "replace").decode()
        case Sequence():
            return [plain(held) for held in value]
        case float() if not math.isfinite(value):
            return text.plain(value)
    return value


def script_json(value: Any) -> str:
    """`value` as JSON that no HTML parser reads as markup: ASCII, without `<`, `>` and `&`."""
    dense = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return dense.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def check_parts(record: Record, schema: str, parts: Mapping[str, str], command: str) -> None:
    """Errors: RooflineError where `record` is of another schema or a part, by its dotted path, is not of its kind;
    `command` makes such records.
    """
    if record.get("schema") != schema:
        raise _malformed("schema", record.get("schema"), schema, command)
    for path, kind in parts.items():
        _expect(record, path.split("."), kind, command)


def _check(record: Record) -> None:
    check_parts(record, SCHEMA, _PARTS, "predict")
    for family in record["band"]["families"]:
        _expect(record, ["band", "families", family], OBJECT, "predict")
    for name, phase in record["phases"].items():
        if phase is not None:
            _expect(record, ["phases", name], OBJECT, "predict")
            for part, kind in _PHASE_PARTS.items():
                _expect(record, ["phases", name, part], kind, "predict")


def _expect(record: Record, path: Sequence[str], kind: str, command: str) -> None:
    part: Any = record
    for key in path:
        part = part.get(key)
    whole = isinstance(part, Mapping if kind == OBJECT else list)
    if not whole or (kind == ROWS and not all(isinstance(row, Mapping) for row in part)):
        raise _malformed(".".join(path), part, kind, command)


def _malformed(path: str, value: Any, accepted: str, command: str) -> RooflineError:
    return RooflineError(
        f"record: {clip_value(path)} is {clip_value(value)}, which cannot be shown as a page. "
        f"Accepted: {accepted}. Make the record again with `roofline {command} .. --json`."
    )


def _flat(value: Record, path: str = "") -> Iterator[tuple[str, str]]:
    """Leaves of nested objects as (words, text): parallelism.tp is "parallelism tp"."""
    for key, held in value.items():
        words = f"{path} {key}".strip().replace("_", " ")
        if isinstance(held, Mapping):
            yield from _flat(held, words)
        else:
            yield words, text.count(held)


def _unbroken(shown: Callable[..., str]) -> Callable[..., str]:
    """The formatter `shown`, its number and unit kept on one line."""
    return lambda value, *more: shown(value, *more).replace(" ", "\u00a0")


def _ratio(above: Any, below: Any) -> str:
    a, b = text.finite(above), text.finite(below)
    return text.plain(None) if a is None or not b else f"{text.number(a / b)}\u00a0×"


def _span(pair: Any) -> str:
    """A range of seconds as text."""
    return " to ".join(map(text.seconds, pair)) if isinstance(pair, list) else text.plain(pair)


PLOTLY = Path(__file__).parent / "static" / "plotly-cartesian.min.js"
"""plotly.js 4.1.1, its bundle of two-dimensional charts (MIT licence beside it), as its publisher ships it.

Kept here, not taken from the plotly package: that costs 70 MB for one file, its other bundle makes pages three times as
large, and a page must stay the same byte for byte whatever is installed.
"""


def _inline_scripts() -> dict[str, str]:
    sources = {"plotly": PLOTLY.read_text("utf-8"), "behaviour": (_TEMPLATES / "page.js").read_text("utf-8")}
    return {name: source.replace("\r\n", "\n").replace("</script", "<\\/script") for name, source in sources.items()}


def _policy(scripts: Iterable[str]) -> str:
    """A Content-Security-Policy under which only `scripts` run and nothing is fetched, whatever the record says."""
    digests = (base64.b64encode(hashlib.sha256(source.encode()).digest()).decode() for source in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def page(template: str, record: Record, figures: Mapping[str, Figure], **shown: Any) -> str:
    """A template filled with a plain record, its figures, and what else it shows, as one file."""
    from jinja2 import Environment, FileSystemLoader
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    with_unit = (text.seconds, text.size, text.percent, text.money, text.quantity)
    environment.filters.update({f.__name__: _unbroken(f) for f in with_unit})
    environment.filters.update({f.__name__: f for f in (text.number, text.count, text.clip)})
    environment.filters["bound"] = lambda name: _BOUND.get(str(name), name)
    environment.globals.update(flat=_flat, ratio=_ratio, span=_span, finite=text.finite)
    scripts = _inline_scripts()
    return environment.get_template(template).render(
        record=record,
        policy=_policy(scripts.values()),
        scripts=[Markup(source) for source in scripts.values()],
        style=Markup((_TEMPLATES / "page.css").read_text("utf-8")),
        data={"record": Markup(script_json(record)), "figures": Markup(script_json(plain(figures)))},
        **shown,
    )
