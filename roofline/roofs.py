"""The roofs of a device as records of predictions and validations hold them."""

from typing import Any

from .device import Device


def roofs_record(device: Device) -> dict[str, Any]:
    """Peak FLOP/s by format and of the vector units, and byte/s of DRAM and of the memory levels above it."""
    return {
        "matrix_flop_per_s": {str(dtype): rate for dtype, rate in device.matrix_flop_per_s.items()},
        "vector_flop_per_s": device.vector_flop_per_s,
        "dram_byte_per_s": device.dram.bandwidth_byte_per_s,
        "levels": _levels(device),
    }


def _levels(device: Device) -> list[dict[str, Any]]:
    """Memory levels above DRAM whose bandwidth the profile states, the slowest first."""
    named = (("cache", device.last_level_cache), ("on-chip memory", device.on_chip))
    return [
        {"name": name, "capacity_byte": level.capacity_byte, "byte_per_s": level.bandwidth_byte_per_s}
        for name, level in named
        if level is not None and level.bandwidth_byte_per_s is not None
    ]
