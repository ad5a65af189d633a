"""The calibration of a device: what was measured of its kernels, or how wrong predictions without that were."""

import tomllib
from functools import cache
from pathlib import Path

from ..device import Device
from ..timing import Band, Calibration, KernelFamily

UNCALIBRATED = Path(__file__).parent.parent / "data" / "uncalibrated.toml"


@cache
def uncalibrated() -> Calibration:
    """Datasheet timing with the bands that it had where it could be checked; printed by benchmarks/uncalibrated.py."""
    table = tomllib.loads(UNCALIBRATED.read_text("utf-8"))
    bands = {
        KernelFamily(name): Band(float(entry["low"]), float(entry["high"]), str(entry["source"]))
        for name, entry in table["families"].items()
    }
    return Calibration(bands, str(table["summary"]))


def load_calibration(device: Device) -> Calibration:
    """The Calibration of `device`."""
    return uncalibrated()
