"""Records beside their predictions, and the rows that no prediction should be judged by."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..calibrate.models import record_time
from ..device import Device
from ..errors import RooflineError
from ..io.records import Records
from ..structs import Array
from ..timing import BOUNDS, Calibration

FASTER_THAN_PHYSICS = "faster than the physical limit"
"""Why a row is excluded: below the time that the datasheet's peaks allow for the bytes and FLOP it must move."""

TOLERANCE = 0.02
"""How far below the limit a time may be before it is a defect of the data: timers and clocks have this much play."""


@dataclass(frozen=True, slots=True, eq=False)
class Paired:
    """One group of records with its predictions, a value per row; `excluded` rows have a non-empty `reason`.

    `regime`: the resource that binds the prediction.
    """

    records: Records
    predicted_s: Array
    low_s: Array
    high_s: Array
    roofline_s: Array
    regime: NDArray[np.str_]
    excluded: NDArray[np.bool_]

    @property
    def measured_s(self) -> Array:
        """Measured seconds."""
        return self.records.measured_s

    def kept(self) -> "Paired":
        """The rows that count."""
        rows = ~self.excluded
        columns = ("predicted_s", "low_s", "high_s", "roofline_s", "regime", "excluded")
        return replace(self, records=self.records.take(rows), **{name: getattr(self, name)[rows] for name in columns})


def pair(records: Records, device: Device, calibration: Calibration, *, force: bool = False) -> Paired:
    """`records` beside the predictions of `device` under `calibration`, in the loop in which they were measured.

    Errors: RooflineError where the records are of another device and `force` is not set, or their kernel has no model.
    """
    if records.device != device.name and not force:
        raise RooflineError(
            f"device: {records.source} was measured on {records.device}, not on {device.name}. Give --device "
            f"{records.device}, or --force to compare all the same."
        )
    time, band = record_time(records, device, calibration)
    bounds = np.array([str(bound) for bound in BOUNDS])
    return Paired(
        records=records,
        predicted_s=time.total_s,
        low_s=np.maximum(time.total_s * band.low, time.roofline_s),
        high_s=time.total_s * band.high,
        roofline_s=time.roofline_s,
        regime=bounds[np.broadcast_to(time.bound_index, records.measured_s.shape)],
        excluded=records.measured_s < time.roofline_s * (1.0 - TOLERANCE),
    )
