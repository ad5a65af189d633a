"""The page of a prediction: a pure rendering of the record that it holds."""

from .figures import Figure
from .html import Contents
from .kernel_figures import longest, roofline, unplaced, waterfall
from .parts import LIST, OBJECT, ROWS, Record, check_parts, listed, plain
from .scenario_figures import decode_map, latency_and_throughput, memory
from .serving_figures import curve as load_curve
from .serving_figures import first_token
from .tables import SPREAD_COLUMNS, band_table, fact_table, kernel_table, spread_rows, table

PREDICTION_PARTS = {
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
    "serving?": OBJECT,
    "serving?.settings": OBJECT,
    "serving?.assumptions": LIST,
    "decode_map?": OBJECT,
    "batch_curve?": OBJECT,
    "sources?": OBJECT,
    "sources.facts?": ROWS,
    "flips": ROWS,
    "roofs": OBJECT,
    "roofs.matrix_flop_per_s": OBJECT,
    "not_modelled": LIST,
    "assumptions": LIST,
    "provenance": OBJECT,
}


_SPREADS = (
    ("ttft_s", "TTFT: to the first token"),
    ("queue_s", "wait in the queue"),
    ("tpot_s", "TPOT: per output token of a request"),
    ("itl_s", "ITL: gap between two tokens"),
)


def contents(record: Record) -> Contents:
    """What the page of a `roofline.prediction/1` record shows. Errors: RooflineError for a damaged record."""
    check_parts(record, PREDICTION_PARTS, "predict")
    record = plain(record)
    phases = {name: phase for name, phase in record["phases"].items() if phase}
    figures = {"roofline-plot": roofline(record)}
    figures |= {f"time-{i}": waterfall(phase) for i, phase in enumerate(phases.values())}
    figures["memory-plot"] = memory(record["memory"])
    batch = record["scenario"].get("batch")
    serving = record.get("serving") or {}
    around = {
        "first-plot": first_token(serving),
        "load-plot": load_curve(serving),
        "map-plot": decode_map(record["decode_map"], batch) if record.get("decode_map") else None,
        "curve-plot": _curve(record, batch) if record.get("batch_curve") else None,
    }
    figures |= {name: figure for name, figure in around.items() if figure is not None}
    sources = record.get("sources") or {}
    shown = {
        "phases": phases,
        "top": {name: longest(phase) for name, phase in phases.items()},
        "tables": [kernel_table(name, phase) for name, phase in phases.items()],
        "bands": band_table(record["band"]),
        "facts_table": fact_table(listed(sources, "facts")),
        "spreads": table("serving", "What requests see", SPREAD_COLUMNS, spread_rows(serving, _SPREADS)),
        "unplaced": unplaced(record),
        "drawn": set(figures),
        "provenance": {
            **{name: record.get(name) for name in ("model", "device", "schema")},
            **{name: held for name, held in record["provenance"].items() if name != "command"},
        },
    }
    return Contents("prediction.html.j2", record, figures, shown)


def _curve(record: Record, batch: object) -> Figure | None:
    name = str(record.get("device"))
    return latency_and_throughput({name: record["batch_curve"]}, chosen={name: batch})
