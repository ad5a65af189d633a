"""How long kernels take: the parts that overlap, the part that does not, and the total."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from ..structs import Array


class Bound(StrEnum):
    """The resource that takes longest; `overhead` where a fixed cost (launch, synchronisation) exceeds the work."""

    COMPUTE = "compute"
    MEMORY = "memory"
    LINK = "link"
    OVERHEAD = "overhead"


BOUNDS = tuple(Bound)
"""The order in which `Time.bound_index` counts."""


@dataclass(frozen=True, slots=True)
class Time:
    """Seconds of one execution of each kernel; elementwise, any shape.

    `compute_s`, `memory_s`, `link_s`, `overhead_s` are kept apart because they overlap, more or less; `total_s` says
    how they combine in the timing model at hand and is never below `roofline_s`, the bare roofline
    max(FLOP / peak, byte / DRAM bandwidth, link byte / link bandwidth) from datasheet rates alone. Bytes that
    the last-level cache can hand from kernel to kernel are not DRAM's where a fitted model knows of it (pointwise).
    """

    compute_s: Array
    memory_s: Array
    link_s: Array
    overhead_s: Array
    total_s: Array
    roofline_s: Array

    @property
    def bound_index(self) -> NDArray[np.intp]:
        """Index into BOUNDS of the longest part."""
        parts = np.stack(np.broadcast_arrays(self.compute_s, self.memory_s, self.link_s, self.overhead_s))
        index: NDArray[np.intp] = np.argmax(parts, axis=0)
        return index
