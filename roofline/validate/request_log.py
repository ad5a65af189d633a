"""A request log beside its simulation: TTFT and TPOT of every request, as family `serving`."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..calibrate.rows import PHYSICS_TOLERANCE
from ..device import Device
from ..io.datasets.source import PROFILE_OF
from ..io.records import DIMENSIONS, Family, Precision, Records
from ..serving.replay import Traced, bare, replay
from ..serving.step import ServedModel
from ..structs import Array, Dtype
from ..timing.loop import MODEL_STEP
from ..trace import RequestLog
from .pair import Paired

QUEUED = 0.5
"""Share of TTFT spent waiting from which a request counts as queued."""


def device_of_log(path: Path) -> str | None:
    """The profile of the device that a folder above a log names, as LLMServingSim's do; None where none does."""
    names = [part.name for part in (path.resolve(), *path.resolve().parents)]
    return next((PROFILE_OF[name] for name in names if name in PROFILE_OF), None)


def pair_log(log: RequestLog, served: ServedModel, model: str, device: Device) -> tuple[Paired, Paired]:
    """TTFT and TPOT of the log's requests beside those of their simulation, with the preset of the engine as it is.

    Low and high: the same requests with every step at the ends of the engine's band. `roofline_s`: the bare prefill of
    a request's own prompt, and the bare decode step of one sequence at mid-generation. `regime`: whether the simulated
    request spends QUEUED of its TTFT waiting. Requests of one token have no TPOT and are left out of it.
    Errors: as serving.replay.
    """
    found, floor = replay(served, Traced(log.trace)), bare(served)
    inputs, outputs = log.trace.input_token, log.trace.output_token
    floors = {
        "TTFT": floor.prefill_step_s(inputs).total_s,
        "TPOT": floor.decode_step_s(1.0, inputs + outputs / 2.0).total_s,
    }
    runs = (found.simulation, found.low, found.high)
    times = {"TTFT": [run.ttft_s for run in runs], "TPOT": [run.tpot_s for run in runs]}
    measured = {"TTFT": log.ttft_s, "TPOT": log.tpot_s}
    queued = found.simulation.queue_s > QUEUED * found.simulation.ttft_s
    regime = np.where(queued, "queued", "straight through")
    ttft, tpot = (
        _paired(
            name, log, model, device, measured[name], times[name], floors[name], regime, served.engine.tpot_band.source
        )
        for name in ("TTFT", "TPOT")
    )
    return ttft, tpot


def _paired(
    metric: str,
    log: RequestLog,
    model: str,
    device: Device,
    measured_s: Array,
    times: list[Array],
    floor_s: Array,
    regime: NDArray[np.str_],
    band: str,
) -> Paired:
    rows = np.isfinite(measured_s)
    said, engine = log.settings, log.settings.engine or "engine"
    sizes = {"input_token": log.trace.input_token, "output_token": log.trace.output_token}
    whole = {"tensor_parallel": float(said.tp or 1), "concurrency": float(said.max_sequence or 0)}
    dims = {
        name: sizes[name][rows] if name in sizes else np.full(int(rows.sum()), whole.get(name, 1.0))
        for name in DIMENSIONS[Family.SERVING]
    }
    predicted, low, high = (np.maximum(each, floor_s)[rows] for each in times)
    records = Records(
        family=Family.SERVING,
        device=device.name,
        backend=engine,
        version=said.version or "",
        kernel=model,
        precision=Precision(f"{metric} {model} {engine} log", Dtype.BF16, Dtype.BF16, Dtype.BF16),
        loop=MODEL_STEP,
        dims=dims,
        measured_s=measured_s[rows],
        line=np.flatnonzero(rows).astype(np.float64) + 1.0,
        source=log.trace.source,
        digest="",
    )
    return Paired(
        records=records,
        device=device.name,
        fitted=True,
        band_source=band,
        predicted_s=predicted,
        low_s=np.minimum(low, predicted),
        high_s=np.maximum(high, predicted),
        roofline_s=np.minimum(floor_s[rows], predicted),
        regime=regime[rows],
        excluded=measured_s[rows] < floor_s[rows] * (1.0 - PHYSICS_TOLERANCE),
    )
