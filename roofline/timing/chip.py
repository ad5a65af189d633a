"""The datasheet numbers of a device that the timing models scale their parameters by."""

from dataclasses import dataclass

from ..device import Device
from ..errors import RooflineError
from ..structs import Dtype


@dataclass(frozen=True, slots=True)
class Chip:
    """A device seen from inside, for one arithmetic format.

    `flop_per_clock`, `vector_flop_per_clock`: dense FLOP per compute unit and clock of the matrix units, and of the
    vector units in fp32.
    """

    unit_count: float
    clock_hz: float
    flop_per_clock: float
    dram_byte_per_s: float
    cache_byte: float
    vector_flop_per_clock: float

    @property
    def flop_per_s(self) -> float:
        """Dense peak of the matrix units, FLOP/s."""
        return self.unit_count * self.clock_hz * self.flop_per_clock


def chip_of(device: Device, dtype: Dtype) -> Chip:
    """The Chip of `device` for operands in `dtype`, upcast where the device does so.

    Errors: RooflineError where the profile has no DRAM bandwidth or cannot compute in `dtype`.
    """
    bandwidth = device.dram.bandwidth_byte_per_s
    if bandwidth is None:
        raise RooflineError(f"memory.dram.bandwidth: {device.name} states none; add it to its profile.")
    cache = device.last_level_cache or device.on_chip
    rate = device.matrix_flop_per_s[device.arithmetic(dtype)]
    return Chip(
        unit_count=device.unit_count,
        clock_hz=device.clock_hz,
        flop_per_clock=rate / (device.unit_count * device.clock_hz),
        dram_byte_per_s=bandwidth,
        cache_byte=cache.capacity_byte if cache else 0.0,
        vector_flop_per_clock=device.vector_flop_per_s / (device.unit_count * device.clock_hz),
    )
