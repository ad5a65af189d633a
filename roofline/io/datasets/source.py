"""One file of a data set: where it is, what it hashes to, its columns as arrays, and records made of them."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ...errors import RooflineError, clip
from ...structs import Array, Dtype, Number
from ...timing.loop import BenchmarkLoop
from ..records import Family, Precision, Records, Refused, checked

Mask = NDArray[np.bool_]
Text = NDArray[np.str_]
Result = tuple[tuple[Records, ...], tuple[Refused, ...]]


@dataclass(frozen=True, slots=True)
class Source:
    """A file: `name` is its path relative to the directory that was read, `digest` the SHA-256 of its bytes."""

    path: Path
    name: str
    digest: str


PROFILE_OF = {
    "NVIDIA A100-SXM4-80GB": "a100-sxm-80gb",
    "NVIDIA H100 80GB HBM3": "h100-sxm",
    "a100": "a100-sxm-80gb",
    "a100_dgx": "a100-sxm-80gb",
    "A100": "a100-sxm-80gb",
    "MI210": "mi210",
    "TPU-v6e-1": "tpu-v6e",
    "RTXPRO6000": "rtx-pro-6000",
}
"""Name of the hardware profile for what a data set calls the device."""


def profile_name(device: str) -> str:
    """The hardware profile's name for a data set's name of a device; another name becomes lower case with dashes."""
    return PROFILE_OF.get(device, "-".join(device.lower().replace("_", " ").split()))


def plain(dtype: Dtype) -> Precision:
    """One format for everything."""
    return Precision(dtype.value, dtype, dtype, dtype)


@dataclass(frozen=True, slots=True)
class Table:
    """The columns of a file, as numbers or as text; `line` says where each row stands in it."""

    source: Source
    columns: Mapping[str, Array | Text]
    line: Array

    def text(self, name: str) -> Text:
        """A column of text. Errors: RooflineError where it is missing or holds numbers."""
        values = self._column(name)
        if values.dtype.kind != "U":
            raise RooflineError(f"{self.source.name}: column {name!r} holds numbers, not text.")
        return cast(Text, values)

    def number(self, name: str, default: float | None = None) -> Array:
        """A column as float64, empty cells as NaN; where there is no such column, `default` unless that is None.

        Errors: RooflineError where it is missing or a cell is not a number.
        """
        if default is not None and name not in self.columns:
            return np.full(self.line.shape, default)
        values = self._column(name)
        if values.dtype.kind != "U":
            return cast(Array, values)
        try:
            return np.where(values == "", "nan", values).astype(np.float64)
        except ValueError as error:
            cell = next(cell for cell in values.tolist() if not _is_number(cell))
            line = self.line[int(np.argmax(values == cell))]
            raise RooflineError(
                f"{self.source.name}:{line:.0f}: column {name!r} holds {clip(cell)}, not a number."
            ) from error

    def rows(self, take: Mask) -> "Table":
        """The table without the rows outside `take`."""
        columns = {name: values[take] for name, values in self.columns.items()}
        return Table(self.source, columns, self.line[take])

    def refuse(self, rows: Mask, reason: str) -> tuple[Refused, ...]:
        """One Refused for `rows`, none where it is empty."""
        if not rows.any():
            return ()
        first = self.line[int(np.argmax(rows))]
        return (Refused(reason, int(rows.sum()), f"{self.source.name}:{first:.0f}"),)

    def _column(self, name: str) -> Array | Text:
        if name not in self.columns:
            found = ", ".join(self.columns)[:300]
            raise RooflineError(f"{self.source.name}: column {name!r} is missing. Found: {found or 'none'}.")
        return self.columns[name]


def _is_number(cell: str) -> bool:
    try:
        float(cell or "nan")
    except ValueError:
        return False
    return True


def build(
    table: Table,
    measured_s: Array,
    take: Mask,
    *,
    family: Family,
    device: str,
    backend: str,
    version: str,
    kernel: str,
    precision: Precision,
    loop: BenchmarkLoop,
    **dims: Number,
) -> Result:
    """Records of the rows in `take` (none where it is empty); dimensions broadcast, unusable rows are refused."""
    rows = np.flatnonzero(take)
    if rows.size == 0:
        return (), ()
    every = Records(
        family=family,
        device=device,
        backend=backend,
        version=version,
        kernel=kernel,
        precision=precision,
        loop=loop,
        dims={name: np.broadcast_to(np.float64(value), table.line.shape) for name, value in dims.items()},
        measured_s=measured_s,
        line=table.line,
        source=table.source.name,
        digest=table.source.digest,
    )
    good, refused = checked(every.take(rows))
    return ((good,) if good.size else ()), refused


def join(results: Iterable[Result]) -> Result:
    """All records and all refusals of several results, in order."""
    listed = list(results)
    return (
        tuple(records for found, _ in listed for records in found),
        tuple(refused for _, left in listed for refused in left),
    )


def each_combination(*columns: Text) -> Iterable[tuple[tuple[str, ...], Mask]]:
    """Each distinct combination of the text columns' values, sorted, with the mask of its rows."""
    joined = np.stack(columns, axis=1)
    distinct, index = np.unique(joined, axis=0, return_inverse=True)
    for position, values in enumerate(distinct):
        yield tuple(values.tolist()), index.reshape(-1) == position


def csv_table(source: Source, header: Sequence[str] | None = None) -> Table:
    """A CSV file as a table of text; `header` names the columns of a file that does not.

    Errors: RooflineError where the file is not text, or a row has another number of cells than the header.
    """
    try:
        with source.path.open(newline="", encoding="utf-8-sig") as stream:
            rows = [[cell.strip() for cell in row] for row in csv.reader(stream)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise RooflineError(f"{source.name}: not a readable CSV file ({error}).") from error
    named = header is None
    if header is None:
        header = rows[0] if rows else []
    body = [(line, row) for line, row in enumerate(rows, start=1) if row and not (named and line == 1)]
    for line, row in body:
        if len(row) != len(header):
            raise RooflineError(f"{source.name}:{line}: {len(row)} cells, but {len(header)} columns. Is it cut off?")
    cells = np.array([row for _, row in body], dtype=str).reshape(len(body), len(header))
    columns = {name: cells[:, position] for position, name in enumerate(header)}
    return Table(source, columns, np.array([line for line, _ in body], dtype=np.float64))
