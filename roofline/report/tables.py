"""Tables made of the rows of a record: what is shown, and the raw SI value behind it for sorting, CSV and copies."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import format as text
from .kernel_figures import step_s
from .parts import Record


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table. `key` heads it in CSV; `unit` is the SI unit of its numbers, None for text."""

    key: str
    title: str
    unit: str | None
    help: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table ready to be shown: for each column a heading, its unit and the unit's size in SI, and for each cell its
    text and raw value.

    `source`: the dotted path in the record of the columns of which `rows` are only the first; `total`: how many there
    are. The page's script shows the rest, sorts and searches it: a browser would crawl under thousands of rows.
    """

    name: str
    caption: str
    columns: tuple[tuple[Column, str, float], ...]
    rows: tuple[tuple[tuple[str, str | float | None], ...], ...]
    source: str = ""
    total: int = 0


_KERNEL_COLUMNS = (
    Column("name", "kernel", None, "name of the kernel"),
    Column("kind", "kind", None, "family of the kernel"),
    Column("bound", "bound", None, "the resource that takes longest"),
    Column("count", "count", "", "executions per step"),
    Column("step_s", "per step", "s", "count times the time of one execution"),
    Column("share", "share", "%", "share of the step's time"),
    Column("total_s", "time", "s", "time of one execution"),
    Column("low_s", "at least", "s", "lower end of the error band of one execution"),
    Column("high_s", "at most", "s", "upper end of the error band of one execution"),
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
    Column("extrapolated", "extrapolated", None, "sizes outside the range that was measured: the band is wider"),
    Column("intensity_flop_per_byte", "intensity", "FLOP/B", "FLOP per byte of memory traffic"),
)

_BAND_COLUMNS = (
    Column("family", "kernel family", None, "kernels that are timed by the same model"),
    Column("low", "from", "", "lower end of measured over predicted time"),
    Column("high", "to", "", "upper end of measured over predicted time"),
    Column("source", "found on", None, "the measurements behind it"),
)


_FACT_COLUMNS = (
    Column("fact", "fact", None, "field of the device's profile"),
    Column("printed", "as printed", None, "the figure as its source prints it, or arithmetic on printed figures"),
    Column("kind", "kind", None, "datasheet, measured, derived from printed figures, or assumed"),
    Column("source", "source", None, "where the figure is from"),
    Column("date", "date", None, "when it held, where that matters"),
)


def fact_table(facts: Sequence[Record]) -> Table:
    """Every fact of a device's profile with what its source prints."""
    return table("facts", "Facts of the device, each with its source", _FACT_COLUMNS, facts)


def kernel_table(name: str, phase: Record) -> Table:
    """Every kernel of a phase with all that its record says, its time per step and its share of it."""
    total_s = text.finite(phase.get("total_s"))
    rows = []
    for kernel in phase["kernels"]:
        time_s = step_s(kernel)
        share = time_s / total_s if time_s is not None and total_s else None
        rows.append({**kernel, "step_s": time_s, "share": share})
    return table(f"{name}-kernels", f"{name}: every kernel of a step", _KERNEL_COLUMNS, rows)


def band_table(band: Record) -> Table:
    """The error band of each kernel family: measured over predicted time, and what it was found on."""
    rows = [{"family": family, **found} for family, found in band["families"].items()]
    return table("bands", "Measured over predicted time, by kernel family", _BAND_COLUMNS, rows)


LARGE, FIRST = 200, 50
"""A table of more rows than LARGE shows the FIRST of them until it is asked for more."""


def table(name: str, caption: str, columns: Iterable[Column], rows: Sequence[Record], source: str = "") -> Table:
    """`rows` as a Table, each numeric column in the one unit that suits its largest value.

    `source`: where the record keeps them as columns, should they be too many to show at once.
    """
    scaled = [(c, *text.column_unit((row.get(c.key) for row in rows), c.unit or "")) for c in columns]
    large = bool(source) and len(rows) > LARGE
    return Table(
        name=name,
        caption=caption,
        columns=tuple(scaled),
        rows=tuple(
            tuple(_cell(row.get(column.key), column, scale) for column, _, scale in scaled)
            for row in rows[: FIRST if large else None]
        ),
        source=source if large else "",
        total=len(rows),
    )


def _cell(value: Any, column: Column, scale: float) -> tuple[str, str | float | None]:
    """A cell: numbers with three significant digits, counts with all of them."""
    found = text.finite(value)
    if isinstance(value, bool):
        return ("yes" if value else "no"), str(value).lower()
    if column.unit is None or found is None:
        return text.plain(value), None if value is None else str(value)
    return text.number(found / scale) if column.unit else text.count(found), value


SPREAD_COLUMNS = (
    Column("name", "figure", None, "what is spread over requests"),
    Column("mean", "mean", "s", "mean over requests"),
    Column("p50", "p50", "s", "half of the requests are below"),
    Column("p95", "p95", "s", "95 of 100 requests are below"),
    Column("p99", "p99", "s", "99 of 100 requests are below"),
)
"""Columns of a table of durations that requests see."""


def spread_rows(record: Record, names: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
    """A row for each duration (key, title) of which `record` has a spread."""
    return [{"name": title, **spread} for key, title in names if isinstance(spread := record.get(key), Mapping)]
