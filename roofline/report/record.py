"""A prediction as a plain record: stable, versioned, SI units in the keys. JSON, CSV and pages are made from it."""

from collections.abc import Mapping
from dataclasses import asdict
from math import isfinite
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..economics import TokenCost
from ..outcome import Case
from ..prediction import Phase, Prediction
from ..roofs import roofs_record
from ..service import Service

if TYPE_CHECKING:
    from ..structs import Array
    from ..sweep import BatchCurve, DecodeMap

SCHEMA = "roofline.prediction/1"

PRECISION_FIELDS = ("weights", "experts", "activations", "kv")
"""The formats that a scenario states."""

KERNEL_FIELDS = (
    "name",
    "kind",
    "count",
    "flop",
    "matrix_flop",
    "read_byte",
    "write_byte",
    "weight_byte",
    "kv_byte",
    "link_byte",
    "intensity_flop_per_byte",
    "compute_s",
    "memory_s",
    "link_s",
    "overhead_s",
    "total_s",
    "low_s",
    "high_s",
    "roofline_s",
    "bound",
    "extrapolated",
)
"""Fields of a kernel row, in the order of JSON and CSV."""


ALLOCATION = "input tokens pay for the device-seconds of prefill, output tokens for those of decode"
"""How a bill is divided between the tokens that were read and those that were written."""


def _bands(prediction: Prediction) -> dict[str, Any]:
    """Band and source per kernel family and format: the fits, then what holds for kernels without one."""
    fits = {
        f"{family} {label}": {
            **asdict(fitted.band),
            "backend": fitted.evidence.backend,
            "median_ape": fitted.evidence.median_ape,
            "unseen_rows": fitted.evidence.unseen_rows,
            "transferred_from": fitted.transferred_from,
        }
        for (family, label), fitted in sorted(prediction.calibration.models.items())
    }
    return fits | {f"{family} without a fit": asdict(band) for family, band in prediction.calibration.bands.items()}


def _phase(phase: Phase | None) -> dict[str, Any] | None:
    if phase is None:
        return None
    return {
        "total_s": phase.total_s,
        "roofline_s": phase.roofline_s,
        "bound": str(phase.bound),
        "bound_share": {str(bound): share for bound, share in phase.bound_share.items()},
        "mfu": phase.mfu,
        "mbu": phase.mbu,
        "kernels": [
            {name: str(value) if name == "bound" else value for name in KERNEL_FIELDS for value in [getattr(row, name)]}
            for row in phase.kernels
        ],
    }


def case_record(case: Case) -> dict[str, Any]:
    """What is asked of a case: numbers, split, formats and library."""
    scenario = case.scenario
    return {
        "batch": scenario.batch,
        "input_token": scenario.input_token,
        "output_token": scenario.output_token,
        "parallelism": asdict(scenario.parallelism),
        "precision": {name: str(getattr(scenario.precision, name)) for name in PRECISION_FIELDS},
        "attention": str(scenario.attention),
        "backend": case.calibration.backend or None,
    }


def _of(cost: TokenCost | None, figure: str) -> float | None:
    """One figure of a phase's cost; None where there is no such phase."""
    value = None if cost is None else getattr(cost, figure)
    return None if value is None else float(value)


def site_record(prediction: Prediction) -> dict[str, Any]:
    """Price, power and carbon behind the money, with where the price is from; `price` None where none is known."""
    site, inputs, outputs = prediction.site, prediction.input_cost, prediction.output_cost
    return {
        "price": None if site.citation is None else asdict(site.citation),
        "usd_per_device_hour_prefill": _of(inputs, "usd_per_device_hour"),
        "usd_per_device_hour_decode": _of(outputs, "usd_per_device_hour"),
        "power_w_prefill": _of(inputs, "power_w"),
        "power_w_decode": _of(outputs, "power_w"),
        "idle_power_w": prediction.device.idle_power_w,
        "rated_power_w": prediction.device.power_w,
        "pue": float(site.pue),
        "carbon_kg_per_joule": None if site.carbon_kg_per_joule is None else float(site.carbon_kg_per_joule),
        "grid": site.grid,
        "grid_source": site.grid_source,
        "allocation": ALLOCATION,
    }


def _digits(values: "Array") -> Any:
    """Values with four significant digits, nested as the array is: enough for a figure."""
    return (
        [float(f"{value:.4g}") for value in values.tolist()] if values.ndim == 1 else [_digits(row) for row in values]
    )


def _map(found: "DecodeMap") -> dict[str, Any]:
    return {
        "batch": found.batch.tolist(),
        "context": found.context.tolist(),
        "tpot_s": _digits(found.tpot_s),
        "bound": found.bound.tolist(),
        "max_batch": found.max_batch.tolist(),
        "scenario_context": found.scenario_context,
    }


def _curve(found: "BatchCurve") -> dict[str, Any]:
    return {
        "batch": found.batch.tolist(),
        "ttft_s": _digits(found.ttft_s),
        "tpot_s": _digits(found.tpot_s),
        "output_token_per_s": _digits(found.batch / found.tpot_s),
        "fits": found.fits.tolist(),
    }


SERVICE_COVERAGE = 0.8
"""Share of served measurements that the band of a service holds."""


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None


def service_record(service: Service) -> dict[str, Any]:
    """The steady state under traffic. Times that have no bound (above saturation) are null."""
    from ..serving.steady import TRUSTED_UTILISATION  # a plain prediction does without

    times = {
        name: {key: _finite(value) for key, value in asdict(getattr(service, name)).items()}
        for name in ("ttft_s", "tpot_s", "itl_s", "queue_s")
    }
    shown = asdict(service) | times | {"settings": dict(service.settings)}
    curve = {key: value if key == "quantity" else [_finite(x) for x in value] for key, value in shown["curve"].items()}
    band = {
        "coverage": SERVICE_COVERAGE,
        "ttft_s": _band(service.ttft_s.mean, service.ttft_band),
        "tpot_s": _band(service.tpot_s.mean, service.tpot_band),
        "summary": service.band_source,
    }
    for name in ("ttft_band", "tpot_band", "band_source"):
        del shown[name]
    shown |= {"curve": curve, "band": band, "assumptions": list(service.assumptions)}
    return shown | {"trusted_utilisation": TRUSTED_UTILISATION}


def _band(mean_s: float, band: tuple[float, float]) -> list[float] | None:
    """The ends of the band of a mean time; None where it has no bound."""
    return [mean_s * end for end in band] if isfinite(mean_s) else None


def prediction_record(
    prediction: Prediction,
    command: str = "",
    *,
    decode_map: "DecodeMap | None" = None,
    batch_curve: "BatchCurve | None" = None,
    sources: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The record of `prediction`: JSON-ready, `schema` roofline.prediction/1.

    `command`: the command line that made it, kept so that a page can say how to reproduce itself. The rest is what
    --json and --html add to a single prediction: its surroundings, and where its facts are from (io.sources); null
    where it is not given.
    """
    capacity, device = prediction.capacity, prediction.device
    spread, held = prediction.scenario.parallelism, capacity.footprint
    return {
        "schema": SCHEMA,
        "model": prediction.model.name,
        "device": device.name,
        "device_count": spread.device_count,
        "scenario": case_record(prediction.case),
        "ttft_s": prediction.ttft_s,
        "tpot_s": prediction.tpot_s,
        "e2e_s": prediction.e2e_s,
        "output_token_per_s": prediction.output_token_per_s,
        "output_token_per_s_per_user": prediction.output_token_per_s_per_user,
        "output_token_per_s_per_device": prediction.output_token_per_s_per_device,
        "input_token_per_s": prediction.input_token_per_s,
        "joule_per_output_token": _of(prediction.output_cost, "joule_per_token"),
        "joule_per_input_token": _of(prediction.input_cost, "joule_per_token"),
        "usd_per_mtok_input": _of(prediction.input_cost, "usd_per_mtok"),
        "usd_per_mtok_output": _of(prediction.output_cost, "usd_per_mtok"),
        "carbon_kg_per_mtok_input": _of(prediction.input_cost, "carbon_kg_per_mtok"),
        "carbon_kg_per_mtok_output": _of(prediction.output_cost, "carbon_kg_per_mtok"),
        "site": site_record(prediction),
        "band": {
            "coverage": prediction.calibration.coverage,
            "ttft_s": list(prediction.ttft_band_s),
            "tpot_s": None if prediction.tpot_band_s is None else list(prediction.tpot_band_s),
            "summary": prediction.calibration.summary,
            "families": _bands(prediction),
        },
        "fits": capacity.fits,
        "memory": {
            "weight_byte": float(held.weight_byte),
            "kv_byte": float(held.kv_byte),
            "activation_byte": float(held.activation_byte),
            "reserve_byte": float(held.reserve_byte),
            "capacity_byte": float(held.capacity_byte),
            "free_byte": float(held.free_byte),
            "max_batch": capacity.max_batch,
            "max_context": capacity.max_context,
            "largest_term": capacity.largest_term,
            "changes": [asdict(change) for change in capacity.changes],
        },
        "phases": {"prefill": _phase(prediction.prefill), "decode": _phase(prediction.decode)},
        "flips": [
            {"quantity": flip.quantity, "value": flip.value, "bound": str(flip.bound)} for flip in prediction.flips
        ],
        "roofs": roofs_record(device),
        "serving": None if prediction.serving is None else service_record(prediction.serving),
        "decode_map": None if decode_map is None else _map(decode_map),
        "batch_curve": None if batch_curve is None else _curve(batch_curve),
        "not_modelled": list(prediction.not_modelled),
        "assumptions": list(prediction.assumptions),
        "sources": sources,
        "provenance": {
            "package_version": __version__,
            "profile_digest": device.digest,
            "device_title": device.title,
            "command": command,
        },
    }
