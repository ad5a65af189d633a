"""The page of a prediction: a pure rendering of the record that it holds."""

from .figures import memory, roofline, time_by_kernel, unplaced
from .html import Contents
from .parts import LIST, OBJECT, ROWS, Record, check_parts, plain
from .tables import band_table, kernel_table

_PARTS = {
    "scenario": OBJECT,
    "scenario.parallelism": OBJECT,
    "scenario.precision": OBJECT,
    "memory": OBJECT,
    "memory.changes": ROWS,
    "phases": OBJECT,
    "phases.*": OBJECT,
    "phases.*.kernels": ROWS,
    "phases.*.bound_share": OBJECT,
    "band": OBJECT,
    "band.families": OBJECT,
    "band.families.*": OBJECT,
    "flips": ROWS,
    "roofs": OBJECT,
    "roofs.matrix_flop_per_s": OBJECT,
    "not_modelled": LIST,
    "assumptions": LIST,
    "provenance": OBJECT,
}


def contents(record: Record) -> Contents:
    """What the page of a `roofline.prediction/1` record shows. Errors: RooflineError for a damaged record."""
    check_parts(record, _PARTS, "predict")
    record = plain(record)
    phases = {name: phase for name, phase in record["phases"].items() if phase}
    figures = {"roofline-plot": roofline(record)}
    figures |= {f"time-{i}": time_by_kernel(phase) for i, phase in enumerate(phases.values())}
    figures["memory-plot"] = memory(record["memory"])
    shown = {
        "phases": phases,
        "tables": [kernel_table(name, phase) for name, phase in phases.items()],
        "bands": band_table(record["band"]),
        "unplaced": unplaced(record),
        "provenance": {
            **{name: record.get(name) for name in ("model", "device", "schema")},
            **{name: held for name, held in record["provenance"].items() if name != "command"},
        },
    }
    return Contents("prediction.html.j2", record, figures, shown)
