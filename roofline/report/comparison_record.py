"""A comparison of devices as a plain record (schema roofline.comparison/1): key figures of each, and its prediction."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..io.files import csv_text
from .format import finite, size
from .parts import Record

if TYPE_CHECKING:
    from ..comparison import Compared

SCHEMA = "roofline.comparison/1"

_FIGURES = (
    "model",
    "device",
    "device_count",
    "ttft_s",
    "tpot_s",
    "e2e_s",
    "output_token_per_s",
    "output_token_per_s_per_device",
    "output_token_per_s_per_user",
    "input_token_per_s",
    "usd_per_mtok_input",
    "usd_per_mtok_output",
    "joule_per_input_token",
    "joule_per_output_token",
    "fits",
)
"""Figures of a prediction record that stand beside those of other devices as they are."""


def key_figures(prediction: Record) -> dict[str, Any]:
    """What a prediction record is compared by: flat, one value a key, None for what it does not state."""
    memory, phases, band = prediction["memory"], prediction["phases"], prediction["band"]
    found = {name: prediction.get(name) for name in _FIGURES}
    for phase in ("prefill", "decode"):
        held = phases.get(phase) or {}
        found |= {f"{phase}_{name}": held.get(name) for name in ("bound", "roofline_s", "mfu", "mbu")}
    for name in ("ttft", "tpot"):
        ends = band.get(f"{name}_s")
        low, high = ends if isinstance(ends, list) and len(ends) == 2 else (None, None)
        found |= {f"{name}_low_s": low, f"{name}_high_s": high}
    precision = prediction["scenario"].get("precision") or {}
    found |= {name: precision.get(name) for name in ("weights", "activations", "kv")}
    capacity, free = finite(memory.get("capacity_byte")), finite(memory.get("free_byte"))
    used = None if capacity is None or free is None else capacity - free
    return found | {"used_byte": used, "capacity_byte": memory.get("capacity_byte")}


KEY_FIELDS = (
    "asked",
    "reason",
    "model",
    "device",
    "device_count",
    "fits",
    "ttft_s",
    "ttft_low_s",
    "ttft_high_s",
    "tpot_s",
    "tpot_low_s",
    "tpot_high_s",
    "e2e_s",
    "prefill_bound",
    "decode_bound",
    "prefill_roofline_s",
    "decode_roofline_s",
    "prefill_mfu",
    "decode_mbu",
    "output_token_per_s",
    "output_token_per_s_per_device",
    "output_token_per_s_per_user",
    "input_token_per_s",
    "usd_per_mtok_input",
    "usd_per_mtok_output",
    "joule_per_input_token",
    "joule_per_output_token",
    "weights",
    "activations",
    "kv",
    "used_byte",
    "capacity_byte",
)
"""Fields of a device of a comparison, in the order of CSV."""


def _too_large(prediction: Record) -> str:
    """Why a prediction does not fit, and the nearest change under which it would."""
    figures, memory = key_figures(prediction), prediction["memory"]
    needed, held = size(figures["used_byte"]), size(figures["capacity_byte"])
    change = f"; it fits with {memory['changes'][0]['text']}" if memory["changes"] else ""
    return f"does not fit: needs {needed} per device of {held}, most of it {memory['largest_term']}{change}"


def comparison_record(
    compared: Sequence["Compared"], predictions: Iterable[Record | None], command: str = ""
) -> dict[str, Any]:
    """The record of a comparison: JSON-ready, `schema` roofline.comparison/1.

    `predictions`: the record of each device's prediction, None where it has none. A device without a prediction, or on
    which the model does not fit, says so in `reason`.
    """
    devices: list[dict[str, Any]] = []
    for entry, prediction in zip(compared, predictions, strict=True):
        figures = key_figures(prediction) if prediction else {}
        reason = entry.reason or (_too_large(prediction) if prediction and not prediction["fits"] else None)
        held = {name: figures.get(name) for name in KEY_FIELDS}
        devices.append({**held, "asked": entry.asked, "reason": reason, "prediction": prediction})
    first: Record = next(device["prediction"] for device in devices if device["prediction"])
    scenario = {name: first["scenario"][name] for name in ("batch", "input_token", "output_token", "attention")}
    return {
        "schema": SCHEMA,
        "model": first["model"],
        "scenario": scenario,
        "devices": devices,
        "not_modelled": first["not_modelled"],
        "provenance": {"package_version": __version__, "command": command},
    }


def comparison_csv(record: Record) -> str:
    """The key figures of every device, one line each."""
    return csv_text(KEY_FIELDS, ([device[name] for name in KEY_FIELDS] for device in record["devices"]))
