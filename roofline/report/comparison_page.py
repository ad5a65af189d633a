"""The page of a comparison, and of a list of predictions: key figures side by side, a pure rendering of the record."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import RooflineError
from . import format as text
from .comparison_figures import bars, shares, times
from .comparison_record import key_figures
from .figures import Figure
from .html import Contents
from .kernel_figures import roofline
from .parts import OBJECT, ROWS, Record, check_parts, plain
from .prediction_page import PREDICTION_PARTS
from .scenario_figures import latency_and_throughput
from .tables import Column, Table, table

_PARTS = {
    "scenario": OBJECT,
    "devices": ROWS,
    "provenance": OBJECT,
    **{f"devices.*.prediction?.{path}": kind for path, kind in PREDICTION_PARTS.items()},
}
_LIST_PARTS = {
    "predictions": ROWS,
    "provenance": OBJECT,
    **{f"predictions.*.{path}": kind for path, kind in PREDICTION_PARTS.items()},
}

LARGEST_LIST = 100
"""Most predictions of one page: beyond, it would not be read, nor go through as an attachment."""

_ROOFLINES = 12
"""Most rooflines drawn side by side."""

_ANSWER_COLUMNS = (
    Column("label", "device", None, "profile and number of devices"),
    Column("fits", "fits", None, "whether the model, its cache and its activations fit into memory"),
    Column("ttft_s", "TTFT", "s", "time to first token, all prompts together"),
    Column("tpot_s", "TPOT", "s", "time per output token, mid-generation"),
    Column("decode_bound", "bound", None, "the resource that limits decode"),
    Column("output_token_per_s_per_device", "tokens/s per device", "", "output tokens per second and device"),
    Column("usd_per_mtok_input", "$/Mtok in", "", "US dollars for a million prompt tokens"),
    Column("usd_per_mtok_output", "$/Mtok out", "", "US dollars for a million output tokens"),
    Column("joule_per_output_token", "J/token", "", "joules for one output token"),
)
_FULL_COLUMNS = (
    Column("label", "device", None, "profile and number of devices"),
    Column("reason", "remark", None, "why a device is not in the running"),
    Column("device_count", "devices", "", "devices in all"),
    Column("ttft_low_s", "TTFT at least", "s", "lower end of the band"),
    Column("ttft_high_s", "TTFT at most", "s", "upper end of the band"),
    Column("tpot_low_s", "TPOT at least", "s", "lower end of the band"),
    Column("tpot_high_s", "TPOT at most", "s", "upper end of the band"),
    Column("e2e_s", "end to end", "s", "one request, from prompt to last token"),
    Column("prefill_bound", "prefill bound", None, "the resource that limits prefill"),
    Column("prefill_mfu", "MFU in prefill", "%", "share of peak FLOP/s"),
    Column("decode_mbu", "MBU in decode", "%", "share of peak bandwidth"),
    Column("output_token_per_s", "tokens/s in all", "", "output tokens per second"),
    Column("output_token_per_s_per_user", "tokens/s per user", "", "output tokens per second and request"),
    Column("joule_per_input_token", "J/input token", "", "joules for one prompt token"),
    Column("weights", "weights", None, "number format of the weights"),
    Column("kv", "KV cache", None, "number format of the cache"),
    Column("used_byte", "in use", "B", "bytes in use on the fullest device"),
    Column("capacity_byte", "memory", "B", "bytes that one device has"),
)

_COSTS = (
    ("output_token_per_s_per_device", "output tokens/s per device"),
    ("usd_per_mtok_output", "$ per million output tokens"),
    ("usd_per_mtok_input", "$ per million prompt tokens"),
    ("joule_per_output_token", "J per output token"),
)

_BEST = (
    ("tpot_s", "The next token comes soonest from", text.seconds, "TPOT", "decode_bound"),
    ("ttft_s", "The first token comes soonest from", text.seconds, "TTFT", "prefill_bound"),
    ("usd_per_mtok_output", "Output is cheapest from", text.money, "a million tokens", None),
    (
        "joule_per_output_token",
        "Output takes the least energy from",
        lambda value: text.quantity(value, "J"),
        "a token",
        None,
    ),
)


def contents(record: Record) -> Contents:
    """What the page of a `roofline.comparison/1` record shows. Errors: RooflineError for a damaged record."""
    check_parts(record, _PARTS, "compare")
    record = plain(record)
    rows = [{**device, "label": str(device.get("asked"))} for device in record["devices"]]
    return _side_by_side(record, rows, record["scenario"], "devices")


def list_contents(record: Record) -> Contents:
    """What the page of a `roofline.predictions/1` record shows. Errors: RooflineError for a damaged record, or one of
    more than LARGEST_LIST predictions.
    """
    check_parts(record, _LIST_PARTS, "predict")
    record = plain(record)
    predictions = record["predictions"]
    if not 1 <= len(predictions) <= LARGEST_LIST:
        raise RooflineError(
            f"record: 'predictions' has {len(predictions)} of them. Accepted: 1 to {LARGEST_LIST} on one page. Shorten "
            "the lists of numbers."
        )
    settings = [_settings(prediction["scenario"]) for prediction in predictions]
    names = list(dict.fromkeys(name for held in settings for name in held))
    varied = [name for name in names if len({str(held.get(name)) for held in settings}) > 1]
    rows = [
        {
            **key_figures(prediction),
            "label": ", ".join(f"{name} {text.count(held.get(name))}" for name in varied) or "as asked",
            "prediction": prediction,
        }
        for prediction, held in zip(predictions, settings, strict=True)
    ]
    shared = {name: held for name, held in predictions[0]["scenario"].items() if name not in varied}
    return _side_by_side(record, rows, shared, "scenarios")


def _settings(scenario: Record) -> dict[str, Any]:
    """Numbers of a scenario by the words of the command line."""
    spread = scenario.get("parallelism")
    names = (("batch", "batch"), ("input", "input_token"), ("output", "output_token"))
    found = {word: scenario.get(key) for word, key in names}
    return found | (dict(spread) if isinstance(spread, Mapping) else {})


def _side_by_side(record: Record, rows: Sequence[Record], scenario: Record, kind: str) -> Contents:
    predicted = [row for row in rows if row.get("prediction")]
    costs = [(key, title) for key, title in _COSTS if any(text.finite(row.get(key)) is not None for row in predicted)]
    figures: dict[str, Figure] = {
        "ttft-plot": times(predicted, "ttft", "TTFT"),
        "tpot-plot": times(predicted, "tpot", "TPOT"),
        **{f"bars-{i}": bars(predicted, key, title) for i, (key, title) in enumerate(costs)},
        **{
            f"shares-{name}": shares(predicted, name)
            for name in ("prefill", "decode")
            if any(row["prediction"]["phases"].get(name) for row in predicted)
        },
    }
    curves = {row["label"]: _per_device(row["prediction"]) for row in predicted if row["prediction"].get("batch_curve")}
    chosen = {row["label"]: row["prediction"]["scenario"].get("batch") for row in predicted}
    curve = latency_and_throughput(curves, chosen=chosen, title="output tokens/s per device") if curves else None
    if curve is not None:
        figures["curve-plot"] = curve
    drawn = predicted[:_ROOFLINES] if kind == "devices" else []
    figures |= {f"roofline-{i}": figure for i, figure in enumerate(_on_one_scale(drawn))}
    shown = {
        "rows": rows,
        "model": record["model"] if kind == "devices" else rows[0]["model"],
        "not_modelled": predicted[0]["prediction"]["not_modelled"] if predicted else [],
        "kind": kind,
        "work": scenario,
        "findings": findings(rows),
        "answer_table": _table("answer", f"The {kind} side by side", _ANSWER_COLUMNS, rows, kind),
        "full_table": _table("more-figures", f"More figures of the {kind}", _FULL_COLUMNS, rows, kind),
        "rooflines": drawn,
        "bars": [title for _, title in costs],
        "drawn": set(figures),
    }
    return Contents("comparison.html.j2", record, figures, shown)


def _on_one_scale(rows: Sequence[Record]) -> list[Figure]:
    """The rooflines of `rows`, their axes alike so that they can be compared."""
    drawn = [roofline(row["prediction"], height=420) for row in rows]
    for axis in ("xaxis", "yaxis"):
        ranges = [figure["layout"][axis]["range"] for figure in drawn]
        for figure in drawn:
            figure["layout"][axis]["range"] = [min(low for low, _ in ranges), max(high for _, high in ranges)]
    return drawn


def _table(name: str, caption: str, columns: Sequence[Column], rows: Sequence[Record], kind: str) -> Table:
    said = {"True": "yes", "False": "no"}
    told = [{**row, "fits": said.get(str(row.get("fits")), text.MISSING)} for row in rows]
    heading = Column("label", "scenario", None, "what differs from row to row")
    return table(name, caption, columns if kind == "devices" else (heading, *columns[1:]), told)


def _per_device(prediction: Record) -> dict[str, Any]:
    """The curve of a prediction, its throughput for one device."""
    curve, count = prediction["batch_curve"], text.finite(prediction.get("device_count")) or 1.0
    rates = curve.get("output_token_per_s")
    shared = [rate if text.finite(rate) is None else rate / count for rate in rates] if isinstance(rates, list) else []
    return {**curve, "output_token_per_s": shared}


def findings(rows: Sequence[Record]) -> list[str]:
    """Who is best at what among those that fit: with how much, how far ahead, and whether the bands overlap."""
    told = []
    for key, claim, shown, what, bound in _BEST:
        fitting = [row for row in rows if row.get("fits") is True and (text.finite(row.get(key)) or 0.0) > 0.0]
        ranked = sorted(fitting, key=lambda row: row[key])
        if not ranked:
            continue
        best, band = ranked[0], key.removesuffix("_s")
        ends = [text.finite(best.get(f"{band}_{end}_s")) for end in ("low", "high")]
        known = [text.span(ends)] if None not in ends else []
        known += [f"{best[bound]}-bound"] if bound and best.get(bound) else []
        within = f" ({', '.join(known)})" if known else ""
        sentence = f"{claim} {best.get('asked') or best['label']}: {shown(best[key])} {what}{within}"
        if len(ranked) > 1:
            second = ranked[1]
            sentence += (
                f", {text.number(second[key] / best[key])} times ahead of {second.get('asked') or second['label']}"
            )
            high, low = text.finite(best.get(f"{band}_high_s")), text.finite(second.get(f"{band}_low_s"))
            if high is not None and low is not None and high > low:
                sentence += " (their bands overlap)"
        told.append(f"{sentence}.")
    return told
