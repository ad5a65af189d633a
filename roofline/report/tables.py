"""Tables made of the rows of a record: what is shown, and the raw SI value behind it for sorting, CSV and copies."""

from collections.abc import Iterable, Sequence
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


def table(name: str, caption: str, columns: Iterable[Column], rows: Sequence[Record]) -> Table:
    """`rows` as a Table, each numeric column in the one unit that suits its largest value."""
    scaled = [(c, *text.column_unit((row.get(c.key) for row in rows), c.unit or "")) for c in columns]
    return Table(
        name=name,
        caption=caption,
        columns=tuple((column, unit) for column, unit, _ in scaled),
        rows=tuple(tuple(_cell(row.get(column.key), column, scale) for column, _, scale in scaled) for row in rows),
    )


def _cell(value: Any, column: Column, scale: float) -> tuple[str, str | float | None]:
    """A cell: numbers with three significant digits, counts with all of them."""
    found = text.finite(value)
    if column.unit is None or found is None:
        return text.plain(value), None if value is None else str(value)
    return text.number(found / scale) if column.unit else text.count(found), value
