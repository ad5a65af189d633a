"""Records beside their predictions, and the rows that no prediction should be judged by."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..calibrate.models import key_of, record_time
from ..calibrate.rows import PHYSICS_TOLERANCE
from ..device import Device
from ..io.records import Records
from ..structs import Array
from ..timing import BOUNDS, Calibration

FASTER_THAN_PHYSICS = "faster than the physical limit"
"""Why a row is excluded: below the time that the datasheet's peaks allow for the bytes and FLOP it must move."""


@dataclass(frozen=True, slots=True, eq=False)
class Paired:
    """One group of records with its predictions by `device`, a value per row.

    `regime`: the resource that binds the prediction. `excluded`: faster than physics allows. `fitted`: whether the
    calibration has a model for these records, or the datasheet had to do.
    """

    records: Records
    device: str
    fitted: bool
    band_source: str
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


def pair(records: Records, device: Device, calibration: Calibration) -> Paired:
    """`records` beside the predictions of `device` under `calibration`, in the loop in which they were measured.

    Errors: RooflineError where their kernel has no model.
    """
    time, band = record_time(records, device, calibration)
    bounds = np.array([str(bound) for bound in BOUNDS])
    shape = records.measured_s.shape
    total_s, roofline_s = np.broadcast_to(time.total_s, shape), np.broadcast_to(time.roofline_s, shape)
    return Paired(
        records=records,
        device=device.name,
        fitted=key_of(records) in calibration.models,
        band_source=band.source,
        predicted_s=total_s,
        low_s=np.maximum(total_s * band.low, roofline_s),
        high_s=total_s * band.high,
        roofline_s=roofline_s,
        regime=bounds[np.broadcast_to(time.bound_index, shape)],
        excluded=records.measured_s < roofline_s * (1.0 - PHYSICS_TOLERANCE),
    )
