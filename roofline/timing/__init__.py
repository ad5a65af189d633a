"""How long it takes: the time of every kernel of a step on a device."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..device import Device
from ..kernels import KernelGroup, Work
from ..kernels.attention import MixedAttention
from ..structs import Array, Number
from .calibrated import calibrated_time
from .calibration import Band, Calibration, KernelFamily, Key, family_of, keys_of, latent_keys
from .confidence import Confidence, Outside, confidence_of
from .datasheet import WorkingSet, datasheet_time
from .formats import fit_of, with_fits
from .time import BOUNDS, Bound, Time

__all__ = [
    "BOUNDS",
    "Band",
    "Bound",
    "Calibration",
    "Confidence",
    "KernelFamily",
    "Key",
    "Outside",
    "StepTime",
    "Time",
    "WorkingSet",
    "family_of",
    "fit_of",
    "keys_of",
    "latent_keys",
    "runs_as_one",
    "sum_over_kernels",
    "time_step",
    "typical_time",
    "with_fits",
]


@dataclass(frozen=True, slots=True)
class StepTime:
    """The kernels of one step with their times, group by group, and the calibration that gave them.

    `stage_s`: seconds of the step on a device of each pipeline stage, shape (*scenarios, stages).
    """

    groups: tuple[KernelGroup, ...]
    times: tuple[Time, ...]
    calibration: Calibration
    stage_s: Array

    def then(self, other: "StepTime") -> "StepTime":
        """The kernels of both, one after another; both under one calibration."""
        groups, times = self.groups + other.groups, self.times + other.times
        return StepTime(groups, times, self.calibration, self.stage_s + other.stage_s)

    @property
    def confidences(self) -> tuple[Confidence, ...]:
        """How sure the times of each group are; derived when asked for, since a grid never asks."""
        return tuple(confidence_of(group.work, self.calibration) for group in self.groups)

    @property
    def stage_roofline_s(self) -> Array:
        """The same under the bare roofline: the sum of each kernel's datasheet limit."""
        return sum_over_kernels(self.groups, tuple(time.roofline_s for time in self.times))

    @property
    def stage_band_s(self) -> tuple[Array, Array]:
        """The step's time at the low and at the high end of every kernel's band.

        Errors of kernels are taken to go together: the same kernel repeats in every layer, so nothing averages out.
        Never below the bare roofline.
        """
        bands = tuple(found.band for found in self.confidences)
        low = (
            np.maximum(time.total_s * band.low, time.roofline_s) for time, band in zip(self.times, bands, strict=True)
        )
        high = (time.total_s * band.high for time, band in zip(self.times, bands, strict=True))
        return sum_over_kernels(self.groups, tuple(low)), sum_over_kernels(self.groups, tuple(high))

    @property
    def stage_bound_s(self) -> Array:
        """Seconds spent in kernels that each resource binds, shape (*scenarios, stages, resources) in BOUNDS order."""
        return np.stack(
            np.broadcast_arrays(
                *(
                    sum_over_kernels(self.groups, tuple(time.total_s * (time.bound_index == i) for time in self.times))
                    for i in range(len(BOUNDS))
                )
            ),
            axis=-1,
        )


def sum_over_kernels(groups: Sequence[KernelGroup], values: Sequence[Number]) -> Array:
    """The sum of count · value over all kernels, per pipeline stage, shape (*scenarios, stages).

    Groups are added one by one, so that what does not vary along an axis is not repeated along it.
    """
    total: Array = np.zeros(1)
    for group, value in zip(groups, values, strict=True):
        size = len(group.names)
        if np.shape(value)[-1:] != (size,):  # one value for all kernels of the group
            value = np.broadcast_to(value, (*np.shape(value)[:-1], size))
        total = total + value @ group.count.T
    return total


def time_step(
    groups: Sequence[KernelGroup], device: Device, calibration: Calibration, working_set: WorkingSet
) -> StepTime:
    """The time of every kernel of a step: by its fit where the calibration has one, or one of another format, else
    from the datasheet.

    Errors: InfeasibleError where the device lacks what a kernel needs.
    """
    groups = tuple(launch for group in groups for launch in _launches(group, calibration))
    times = tuple(_time_group(group, device, calibration, working_set) for group in groups)
    return StepTime(groups, times, calibration, sum_over_kernels(groups, tuple(time.total_s for time in times)))


def runs_as_one(work: Work, calibration: Calibration) -> bool:
    """Whether attention over prompts and decodes is one launch: where the library's was measured so."""
    return isinstance(work, MixedAttention) and all(fit_of(key, calibration) for key in keys_of(work))


def _launches(group: KernelGroup, calibration: Calibration) -> tuple[KernelGroup, ...]:
    """The launches of a group: its own, or one for prompts and one for decodes."""
    match group.work:
        case MixedAttention() as work if not runs_as_one(work, calibration):
            return tuple(
                replace(group, names=tuple(f"{name}[{i}]" for name in group.names), work=part)
                for i, part in enumerate(work.parts)
            )
        case _:
            return (group,)


def _time_group(group: KernelGroup, device: Device, calibration: Calibration, working_set: WorkingSet) -> Time:
    """Times of one group. Its kernels may be of several kinds, fitted or not."""
    fits = [fit_of(key, calibration) for key in keys_of(group.work)]
    present = [fit for fit in fits if fit is not None]
    if present and len(present) == len(fits):
        return calibrated_time(group.work, device, present)
    plain = typical_time(datasheet_time(group, device, working_set), group.work, calibration)
    if not present:
        return plain
    filled = [present[0] if fit is None else fit for fit in fits]
    chosen = np.array([fit is not None for fit in fits])
    fitted = calibrated_time(group.work, device, filled)
    return Time(*(np.where(chosen, getattr(fitted, name), getattr(plain, name)) for name in Time.__slots__))


def typical_time(time: Time, work: Work, calibration: Calibration) -> Time:
    """Datasheet `time` of `work` with its total at the median of what such kernels took, never below the roofline."""
    typical = calibration.typical.get(family_of(work), 1.0)
    return replace(time, total_s=np.maximum(time.total_s * typical, time.roofline_s))
