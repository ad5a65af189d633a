"""Calibrated timing models on a screen: their errors on rows not fitted, and their parameters with what each means."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

from ..errors import RooflineError, unknown
from .screen import rendered

if TYPE_CHECKING:
    from ..timing.calibration import Fitted, Key, Parameters

Fits = Mapping[tuple[str, "Key"], "Fitted"]
"""Calibrated timing models by library, family and format."""

WIDTH = 200


def errors_table(fits: Fits) -> str:
    """A row for each fit: which data, how many rows, and how far the rows that it had not seen lay from it."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title="errors on rows not fitted", title_justify="left", caption_justify="left")
    numbers = ("fitted", "unseen", "excluded", "median", "mean", "bias", "80 % band", "in band", "bare roofline")
    for column in ("family", "format", "data"):
        table.add_column(column)
    for column in numbers:
        table.add_column(column, justify="right")
    lent = any(fitted.transferred_from for fitted in fits.values())
    if lent:
        table.add_column("carried over from")
        table.caption = (
            "Carried over: rows and errors are of the device it is from, the band is what carrying it over cost."
        )
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
            *([fitted.transferred_from] if lent else []),
        )
    return rendered(table, width=WIDTH)


def undetermined_lines(fits: Fits) -> Iterator[str]:
    """For each fit with parameters that its rows could not tell, which those are."""
    for (library, key), fitted in sorted(fits.items(), key=lambda item: item[0]):
        if fitted.evidence.undetermined:
            yield f"{' '.join(key)}, {library}: not determined by these rows: {', '.join(fitted.evidence.undetermined)}"


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
    from ..timing.parameter import inner_parameters

    known, own = fitted.evidence, fitted.parameters
    yield f"{' '.join(key)}, {f'{library} {known.version}'.strip()}: {type(own).__name__}, fitted {known.date}"
    if fitted.transferred_from:
        yield f"  carried over from {fitted.transferred_from}, scaled by both datasheets"
    yield f"  data: {known.data} (digest {known.digest})"
    yield (
        f"  {known.fitted_rows:,} rows fitted ({known.fit_fraction:g} of them, by seed {known.seed}), "
        f"{known.unseen_rows:,} not, {known.excluded_rows:,} excluded"
    )
    yield f"  not fitted: median {known.median_ape:.1%}, mean {known.mape:.1%}, 90 % within {known.p90_ape:.1%}"
    yield f"  80 % band {_band(fitted)}: {fitted.band.source}"
    sizes = ", ".join(f"{name} {low:,.6g} to {high:,.6g}" for name, (low, high) in known.ranges.items())
    yield f"  measured: {sizes}"
    yield from _kernel_line(own)
    yield _parameter_table(own, known.undetermined)
    for name, inner in inner_parameters(own).items():
        yield f"{name}, which takes what this kernel leaves: {type(inner).__name__}"
        yield from _kernel_line(inner)
        yield _parameter_table(inner, ())


def _kernel_line(parameters: "Parameters") -> Iterator[str]:
    """The kernel facts in a line, where there are any."""
    facts = ", ".join(_kernel(parameters))
    if facts:
        yield f"  kernel: {facts}"


def _kernel(parameters: "Parameters") -> Iterator[str]:
    """The kernel facts, also of kernels that were fitted together with this one, by "field.name"."""
    from ..timing.parameter import inner_parameters, kernel_facts_of

    inner = inner_parameters(parameters)
    yield from (f"{name} {_plain(value)}" for name, value in kernel_facts_of(parameters).items() if name not in inner)
    for entry in fields(parameters):
        if "parameters" in entry.metadata:
            yield from (f"{entry.name}.{fact}" for fact in _kernel(getattr(parameters, entry.name)))


def _parameter_table(parameters: "Parameters", undetermined: Sequence[str]) -> str:
    """A row for each parameter. What a kind of kernel does not use is never fitted and stays at the prior."""
    from rich.table import Table

    from ..timing.parameter import facts_of, value_of

    table = Table(box=None, pad_edge=False)
    for column in ("parameter", "value", "ideal", "bounds", "unit", "meaning"):
        table.add_column(column, justify="right" if column in ("value", "ideal") else "left", overflow="fold")
    for name, facts in facts_of(type(parameters)).items():
        value = value_of(parameters, name)
        mark = " (undetermined)" if name in undetermined else " (not fitted)" if value == facts.prior else ""
        bounds = f"{facts.low:.3g} to {facts.high:.3g}"
        table.add_row(name + mark, f"{value:.4g}", f"{facts.ideal:.3g}", bounds, facts.unit, facts.meaning)
    return rendered(table, width=WIDTH)


def _band(fitted: "Fitted") -> str:
    return f"{fitted.band.low - 1:+.1%} to {fitted.band.high - 1:+.1%}"


def _plain(value: object) -> str:
    from enum import Enum

    match value:
        case Enum():
            return value.name
        case float():
            return f"{value:,.10g}"
        case _:
            return str(value)
