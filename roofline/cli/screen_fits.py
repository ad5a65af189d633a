"""Calibrated timing models on a screen: their errors on rows not fitted, and their parameters with what each means."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ..errors import RooflineError, unknown
from .screen import rendered

if TYPE_CHECKING:
    from ..timing.calibration import Fitted, Key

Fits = Mapping[tuple[str, "Key"], "Fitted"]
"""Calibrated timing models by library, family and format."""

WIDTH = 200


def errors_table(fits: Fits) -> str:
    """A row for each fit: which data, how many rows, and how far the rows that it had not seen lay from it."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title="errors on rows not fitted", title_justify="left")
    numbers = ("fitted", "unseen", "excluded", "median", "mean", "bias", "80 % band", "in band", "bare roofline")
    for column in ("family", "format", "data"):
        table.add_column(column)
    for column in numbers:
        table.add_column(column, justify="right")
    sometimes = [
        name for name in ("carried over from", "undetermined") if any(_said(fit)[name] for fit in fits.values())
    ]
    for column in sometimes:
        table.add_column(column, overflow="fold")
    for (_, (family, label)), fitted in sorted(fits.items(), key=lambda item: item[0]):
        known = fitted.evidence
        table.add_row(
            *(Text(cell) for cell in (family, label, f"{known.backend} {known.version}".strip())),
            *(f"{count:,}" for count in (known.fitted_rows, known.unseen_rows, known.excluded_rows)),
            f"{known.median_ape:.1%}",
            f"{known.mape:.1%}",
            f"{known.bias:+.1%}",
            _band(fitted),
            f"{known.coverage:.0%}",
            f"{known.roofline_median_ape:.0%}",
            *(
                said
                for column, said in _said(fitted).items()
                if column in {str(entry.header) for entry in table.columns}
            ),
        )
    return rendered(table, width=WIDTH)


def of_family(fits: Fits, family: str, device: str) -> Fits:
    """The fits of one kernel family.

    Errors: RooflineError for a family that no fit is of, with the nearest one.
    """
    families = sorted({name for _, (name, _) in fits})
    if not families:
        raise RooflineError(f"family: nothing is calibrated for {device}, so no family has parameters. Leave it out.")
    if family not in families:
        raise unknown("family", family, families)
    return {key: fitted for key, fitted in fits.items() if key[1][0] == family}


def parameter_tables(fits: Fits) -> str:
    """For each fit: its evidence, its kernel, and every parameter beside what an ideal machine would have."""
    ordered = sorted(fits.items(), key=lambda item: item[0])
    return "\n\n".join("\n".join(_fit_lines(library, key, fitted)) for (library, key), fitted in ordered)


def _fit_lines(library: str, key: "Key", fitted: "Fitted") -> Iterator[str]:
    from rich.table import Table

    from ..timing.parameter import facts_of, kernel_facts_of, value_of

    known = fitted.evidence
    yield f"{' '.join(key)}, {library} {known.version}: {type(fitted.parameters).__name__}, fitted {known.date}"
    if fitted.transferred_from:
        yield f"  carried over from {fitted.transferred_from}, scaled by both datasheets"
    yield f"  data: {known.data} (digest {known.digest})"
    yield (
        f"  {known.fitted_rows:,} rows fitted ({known.fit_fraction:g} of them, by seed {known.seed}), "
        f"{known.unseen_rows:,} not, {known.excluded_rows:,} excluded"
    )
    yield (f"  not fitted: median {known.median_ape:.1%}, mean {known.mape:.1%}, 90 % within {known.p90_ape:.1%}")
    yield f"  80 % band {_band(fitted)}: {fitted.band.source}"
    sizes = ", ".join(f"{name} {low:,.6g} to {high:,.6g}" for name, (low, high) in known.ranges.items())
    yield f"  measured: {sizes}"
    kernel = ", ".join(f"{name} {_plain(value)}" for name, value in kernel_facts_of(fitted.parameters).items())
    if kernel:
        yield f"  kernel: {kernel}"
    table = Table(box=None, pad_edge=False)
    for column in ("parameter", "value", "ideal", "bounds", "unit", "meaning"):
        table.add_column(column, justify="right" if column in ("value", "ideal") else "left", overflow="fold")
    for name, facts in facts_of(type(fitted.parameters)).items():
        mark = " (undetermined)" if name in known.undetermined else ""
        value = f"{value_of(fitted.parameters, name):.4g}"
        bounds = f"{facts.low:.3g} to {facts.high:.3g}"
        table.add_row(name + mark, value, f"{facts.ideal:.3g}", bounds, facts.unit, facts.meaning)
    yield rendered(table, width=WIDTH)


def _band(fitted: "Fitted") -> str:
    return f"{fitted.band.low - 1:+.1%} to {fitted.band.high - 1:+.1%}"


def _said(fitted: "Fitted") -> dict[str, str]:
    """The columns that only some tables need."""
    return {
        "carried over from": fitted.transferred_from,
        "undetermined": ", ".join(fitted.evidence.undetermined),
    }


def _plain(value: object) -> str:
    from enum import Enum

    return value.name if isinstance(value, Enum) else str(value)
