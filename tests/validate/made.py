"""Records made by hand or from known predictions, for the tests of validation."""

from dataclasses import replace
from typing import Any

import numpy as np

from roofline.calibrate.models import record_time
from roofline.device import Device
from roofline.io.records import Family, Precision, Records
from roofline.structs import Array, Dtype
from roofline.timing import Calibration
from roofline.timing.loop import BenchmarkLoop
from roofline.validate.pair import Paired

BF16 = Precision("bf16", Dtype.BF16, Dtype.BF16, Dtype.BF16)


def gemms(size: int = 200, seed: int = 0, device: str = "a100-sxm-80gb", **changes: Any) -> Records:
    """GEMM records of random shapes that all took one second."""
    generator = np.random.default_rng(seed)
    return replace(
        Records(
            family=Family.GEMM,
            device=device,
            backend="vllm",
            version="9",
            kernel="gemm",
            precision=BF16,
            loop=BenchmarkLoop(),
            dims={
                "m": np.exp(generator.uniform(0, np.log(8192), size)).round(),
                "n": 128.0 * generator.integers(1, 128, size),
                "k": 128.0 * generator.integers(1, 128, size),
                "copies": np.ones(size),
            },
            measured_s=np.ones(size),
            line=np.arange(size) + 1.0,
            source="made.json",
            digest="0",
        ),
        **changes,
    )


def measured(records: Records, device: Device, calibration: Calibration, noise: float = 0.0, seed: int = 1) -> Records:
    """`records` with the times that are predicted for them, spread by a log-normal `noise`."""
    time = record_time(records, device, calibration)[0]
    spread = np.exp(noise * np.random.default_rng(seed).standard_normal(records.size))
    return replace(records, measured_s=np.maximum(time.total_s * spread, time.roofline_s))


def paired(
    measured_s: Any, predicted_s: Any, *, dims: dict[str, Array] | None = None, excluded: Any = False, **bands: Any
) -> Paired:
    """A pair with the given times; band ± 25 %, bare roofline half of the prediction, unless told otherwise."""
    times, prediction = np.array(measured_s, dtype=float), np.array(predicted_s, dtype=float)
    size = times.size
    records = gemms(size, measured_s=times, dims=dims or gemms(size).dims)
    return Paired(
        records=records,
        device=records.device,
        fitted=True,
        band_source="made",
        predicted_s=prediction,
        low_s=np.array(bands.get("low_s", 0.75 * prediction)),
        high_s=np.array(bands.get("high_s", 1.25 * prediction)),
        roofline_s=np.array(bands.get("roofline_s", 0.5 * prediction)),
        regime=np.array(bands.get("regime", ["compute"] * size)),
        excluded=np.broadcast_to(np.array(excluded), times.shape),
    )
