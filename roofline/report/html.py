"""A record as one HTML file: opens offline, asks the network for nothing, and is the same for the same record.

Later kinds of report add a template that extends base.html.j2, and a function beside `render_prediction`.
"""

import base64
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import RooflineError
from ..errors import clip as clip_value
from . import format as text
from .figures import Figure, Record, memory, roofline, step_s, time_by_kernel, unplaced
from .record import SCHEMA

_TEMPLATES = Path(__file__).parent / "templates"
_PARTS = {
    "scenario": Mapping,
    "memory": Mapping,
    "phases": Mapping,
    "roofs": Mapping,
    "provenance": Mapping,
    "flips": Sequence,
    "assumptions": Sequence,
    "not_modelled": Sequence,
}
_BOUND = {
    "compute": "compute",
    "memory": "memory bandwidth",
    "link": "the links between devices",
    "overhead": "fixed costs (launches, latency)",
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table. `key` heads it in CSV; `unit` is the SI unit of its numbers, None for text."""

    key: str
    title: str
    unit: str | None
    help: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table ready to be shown: a heading and its unit for each column, and (text, raw value) for each cell."""

    name: str
    caption: str
    columns: tuple[tuple[Column, str], ...]
    rows: tuple[tuple[tuple[str, str | float | None], ...], ...]


_KERNEL_COLUMNS = (
    Column("name", "kernel", None, "name of the kernel"),
    Column("kind", "kind", None, "family of the kernel"),
    Column("bound", "bound", None, "the resource that takes longest"),
    Column("count", "count", "", "executions per step"),
    Column("step_s", "per step", "s", "count times the time of one execution"),
    Column("share", "share", "%", "share of the step's time"),
    Column("total_s", "time", "s", "time of one execution"),
    Column("roofline_s", "bare roofline", "s", "one execution at data-sheet rates, nothing lost"),
    Column("compute_s", "compute", "s", "compute time of one execution"),
    Column("memory_s", "memory", "s", "memory time of one execution"),
    Column("link_s", "link", "s", "link time of one execution"),
    Column("overhead_s", "overhead", "s", "fixed cost of one execution: launch, latency"),
    Column("flop", "work", "FLOP", "floating-point operations of one execution; a fused multiply-add is two"),
    Column("read_byte", "read", "B", "bytes read by one execution"),
    Column("write_byte", "written", "B", "bytes written by one execution"),
    Column("weight_byte", "weights", "B", "bytes of weights read by one execution, part of read"),
    Column("kv_byte", "KV cache", "B", "bytes of the KV cache read and written, part of read and written"),
    Column("link_byte", "sent", "B", "bytes sent to other devices by one execution"),
    Column("intensity_flop_per_byte", "intensity", "FLOP/B", "FLOP per byte of memory traffic"),
)


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
    return _page(
        "prediction.html.j2",
        record,
        figures,
        phases=phases,
        tables=[_kernel_table(name, phase) for name, phase in phases.items()],
        unplaced=unplaced(record),
    )


def write_page(page: str, path: Path | str) -> None:
    """Writes `page` as UTF-8 beside `path` and renames it: `path` holds all of it or is untouched.

    Errors: RooflineError where it cannot be written.
    """
    path = Path(path)
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name[:40]}.", delete=False) as file:
            temporary = file.name
            file.write(page.encode())
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).replace(path)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise RooflineError(
            f"html: {clip_value(str(path))} cannot be written ({error.strerror}). Give a file in a folder you can write to."
        ) from error


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


def _check(record: Record) -> None:
    again = "Make it again with `roofline predict .. --json`."
    if record.get("schema") != SCHEMA:
        raise RooflineError(
            f"record: schema {clip_value(record.get('schema'))} cannot be shown as a page. Accepted: {SCHEMA}. {again}"
        )
    parts = [(name, record.get(name), kind) for name, kind in _PARTS.items()]
    parts.append(("roofs.matrix_flop_per_s", (record.get("roofs") or {}).get("matrix_flop_per_s"), Mapping))
    for name, part, kind in parts:
        if not isinstance(part, kind) or isinstance(part, str):
            accepted = "an object" if kind is Mapping else "a list"
            raise RooflineError(f"record: {name} is {clip_value(part)}. Accepted: {accepted}. {again}")
    for name, phase in record["phases"].items():
        if phase is not None and not all(isinstance(row, Mapping) for row in phase.get("kernels") or [None]):
            raise RooflineError(f"record: phases.{clip_value(name)} has no list of kernels. {again}")


def _kernel_table(name: str, phase: Record) -> Table:
    total_s = text.finite(phase.get("total_s"))
    rows = []
    for kernel in phase["kernels"]:
        time_s = step_s(kernel)
        share = time_s / total_s if time_s is not None and total_s else None
        rows.append({**kernel, "step_s": time_s, "share": share})
    return _table(f"{name}-kernels", f"{name}: every kernel of a step", _KERNEL_COLUMNS, rows)


def _table(name: str, caption: str, columns: Iterable[Column], rows: Sequence[Record]) -> Table:
    """Each numeric column in the one unit that suits its largest value."""
    scaled = [(c, *text.column_unit((row.get(c.key) for row in rows), c.unit or "")) for c in columns]
    return Table(
        name=name,
        caption=caption,
        columns=tuple((column, unit) for column, unit, _ in scaled),
        rows=tuple(tuple(_cell(row.get(column.key), column, scale) for column, _, scale in scaled) for row in rows),
    )


def _cell(value: Any, column: Column, scale: float) -> tuple[str, str | float | None]:
    found = text.finite(value)
    if column.unit is None or found is None:
        return text.plain(value), None if value is None else str(value)
    return text.number(found / scale), value


def _flat(value: Record, path: str = "") -> Iterator[tuple[str, str]]:
    """Leaves of nested objects as (words, text): parallelism.tp is "parallelism tp"."""
    for key, held in value.items():
        words = f"{path} {key}".strip().replace("_", " ")
        if isinstance(held, Mapping):
            yield from _flat(held, words)
        else:
            yield words, text.count(held)


def _ratio(above: Any, below: Any) -> str:
    a, b = text.finite(above), text.finite(below)
    return text.plain(None) if a is None or not b else f"{text.number(a / b)}\u00a0×"


def _inline_scripts() -> dict[str, str]:
    from plotly.offline import get_plotlyjs

    sources = {"plotly": get_plotlyjs(), "behaviour": (_TEMPLATES / "page.js").read_text("utf-8")}
    return {name: source.replace("\r\n", "\n").replace("</script", "<\\/script") for name, source in sources.items()}


def _policy(scripts: Iterable[str]) -> str:
    """A Content-Security-Policy under which only `scripts` run and nothing is fetched, whatever the record says."""
    digests = (base64.b64encode(hashlib.sha256(source.encode()).digest()).decode() for source in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _page(template: str, record: Record, figures: Mapping[str, Figure], **shown: Any) -> str:
    from jinja2 import Environment, FileSystemLoader
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    filters = (text.seconds, text.size, text.percent, text.money, text.number, text.count, text.quantity, text.clip)
    environment.filters.update({f.__name__: f for f in filters})
    environment.filters["bound"] = lambda name: _BOUND.get(str(name), name)
    environment.globals.update(flat=_flat, ratio=_ratio, finite=text.finite)
    scripts = _inline_scripts()
    return environment.get_template(template).render(
        record=record,
        policy=_policy(scripts.values()),
        scripts=[Markup(source) for source in scripts.values()],
        style=Markup((_TEMPLATES / "page.css").read_text("utf-8")),
        data={"record": Markup(script_json(record)), "figures": Markup(script_json(plain(figures)))},
        **shown,
    )
