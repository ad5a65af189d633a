"""The page of a validation: predictions beside measurements, a pure rendering of the record that it holds."""

from collections.abc import Iterator

from .figures import Figure
from .html import Contents
from .parts import LIST, OBJECT, ROWS, Record, check_parts, plain
from .roof_figures import measured_under_roofs
from .tables import Column, Table, table
from .validation_figures import coverage, error_by_size, errors, measured_and_predicted

_PARTS = {
    "devices": ROWS,
    "overall": OBJECT,
    "families": ROWS,
    "groups": ROWS,
    "bound_agreement": ROWS,
    "excluded": ROWS,
    "faster_than_physics": ROWS,
    "points": ROWS,
    "placed?": ROWS,
    "devices.*.roofs?": OBJECT,
    "devices.*.roofs?.matrix_flop_per_s": OBJECT,
    "notices": LIST,
    "provenance": OBJECT,
}

_NAMES = (
    Column("family", "family", None, "kind of kernel"),
    Column("device", "device", None, "whose profile made the prediction"),
    Column("dtype", "format", None, "number format of operands, and of weights or cache where it differs"),
)
_ERRORS = (
    Column("n", "rows", "", "rows compared"),
    Column("median_ape", "median", "%", "median of |predicted / measured - 1|"),
    Column("mape", "mean", "%", "mean of |predicted / measured - 1|"),
    Column("p90_ape", "90 % below", "%", "90 % quantile of |predicted / measured - 1|"),
    Column("bias", "bias", "%", "median of predicted / measured - 1; negative is too fast"),
    Column("total_bias", "bias of total", "%", "error of the summed time"),
    Column("coverage", "in band", "%", "share of measurements inside the predicted band"),
    Column("roofline_median_ape", "bare roofline", "%", "median error of the bare roofline on the same rows"),
)
_FAMILY_COLUMNS = (
    *_NAMES,
    Column("library", "measured with", None, "library and release whose kernels were measured"),
    *_ERRORS,
    Column("bound_agreement", "bound agrees", "%", "see the table of doublings"),
    Column("repeat_median_ape", "repeat noise", "%", "median difference of two measurements of one shape"),
    Column("faster_than_physics", "faster than physics", "", "rows excluded"),
    Column("band_source", "band from", None, "what the predicted band was found on"),
)
_GROUP_COLUMNS = (*_NAMES, Column("regime", "bound", None, "the resource that binds the prediction"), *_ERRORS)
_DOUBLING_COLUMNS = (
    *_NAMES,
    Column("dimension", "doubled", None, "the dimension that doubles while all others stay"),
    Column("pairs", "pairs", "", "pairs of rows that differ in nothing else"),
    Column("agreement", "agree", "%", "share in which both times grow by more than √2, or both do not"),
)
_FASTER_COLUMNS = (
    *_NAMES,
    Column("key", "record", None, "file and line"),
    Column("measured_s", "measured", "s", "measured time"),
    Column("roofline_s", "physical limit", "s", "shortest time that the datasheet allows"),
)
_EXCLUDED_COLUMNS = (
    Column("reason", "why", None, "why rows were not compared"),
    Column("n", "rows", "", "rows, or files where no row could be read"),
)


def contents(record: Record) -> Contents:
    """What the page of a `roofline.validation/1` record shows. Errors: RooflineError for a damaged record."""
    check_parts(record, _PARTS, "validate")
    record = plain(record)
    figures: dict[str, Figure] = {
        "errors-plot": errors(record["families"]),
        "coverage-plot": coverage(record["families"], record.get("band")),
    }
    shown = []
    for i, (device, family, series, rows) in enumerate(_sections(record)):
        figures |= {f"scatter-{i}": measured_and_predicted(series), f"error-{i}": error_by_size(series, rows)}
        placed = [entry for entry in record.get("placed") or () if _is(entry, device, family)]
        roofs = next((held.get("roofs") for held in record["devices"] if str(held.get("name")) == device), None)
        if placed and roofs:
            figures[f"roofline-{i}"] = measured_under_roofs(placed, roofs)
        shown.append({"device": device, "family": family, "rows": rows, "placed": f"roofline-{i}" in figures})
    return Contents("validation.html.j2", record, figures, {"sections": shown, "tables": _tables(record)})


def _sections(record: Record) -> Iterator[tuple[str, str, list[Record], list[Record]]]:
    """Device, family, its series of points and its rows of statistics, in the same order of formats."""
    names = dict.fromkeys((str(entry.get("device")), str(entry.get("family"))) for entry in record["points"])
    for device, family in names:
        series = [entry for entry in record["points"] if _is(entry, device, family)]
        order = {str(entry.get("dtype")): i for i, entry in enumerate(series)}
        rows = [entry for entry in record["families"] if _is(entry, device, family)]
        yield device, family, series, sorted(rows, key=lambda row: order.get(str(row.get("dtype")), len(order)))


def _is(entry: Record, device: str, family: str) -> bool:
    return str(entry.get("device")) == device and str(entry.get("family")) == family


def _tables(record: Record) -> dict[str, Table]:
    return {
        name: table(name, caption, columns, record[part])
        for name, caption, columns, part in (
            ("families", "Errors by family and format", _FAMILY_COLUMNS, "families"),
            ("regimes", "Errors by what binds the prediction", _GROUP_COLUMNS, "groups"),
            ("doublings", "Whether time follows when one dimension doubles", _DOUBLING_COLUMNS, "bound_agreement"),
            ("faster", "Rows faster than the physical limit", _FASTER_COLUMNS, "faster_than_physics"),
            ("excluded", "Rows not compared, by reason", _EXCLUDED_COLUMNS, "excluded"),
        )
    }
