"""A device as numbers: what the timing models need of a profile file, in SI units. No facts live here."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .errors import RooflineError
from .structs import Dtype, Number


@dataclass(frozen=True, slots=True)
class Gpu:
    """Many cores that run tiles in waves; every kernel is launched."""


@dataclass(frozen=True, slots=True)
class Systolic:
    """Matrix units of `array_row` x `array_column` multiply-accumulators; shapes are padded to the array."""

    array_row: float
    array_column: float


@dataclass(frozen=True, slots=True)
class Dataflow:
    """A pipeline laid out in space (FPGA): no kernel launches, weights stream from off-chip memory."""


@dataclass(frozen=True, slots=True)
class Cpu:
    """Cores behind a cache hierarchy; the working set decides which level feeds them."""


Structure = Gpu | Systolic | Dataflow | Cpu


@dataclass(frozen=True, slots=True)
class MemoryLevel:
    """One level of memory. `bandwidth_byte_per_s` is None where no source states it."""

    capacity_byte: float
    bandwidth_byte_per_s: float | None


@dataclass(frozen=True, slots=True)
class Link:
    """One direction of one device's connection to the others of its domain."""

    bandwidth_byte_per_s: float
    domain_size: Number
    latency_s: float


@dataclass(frozen=True, slots=True)
class Efficiency:
    """Fractions of the datasheet rates that well-tuned kernels reach, and the fixed cost of one kernel."""

    matrix: float
    vector: float
    dram: float
    link: float
    kernel_overhead_s: float


@dataclass(frozen=True, slots=True)
class Device:
    """One device of a profile file. All rates are dense; links are per direction; capacities are bytes.

    `usable_byte`: DRAM that software sees, where it is not the nominal capacity.
    """

    name: str
    title: str
    structure: Structure
    unit_count: float
    clock_hz: float
    matrix_flop_per_s: Mapping[Dtype, float]
    vector_flop_per_s: float
    upcast: Mapping[Dtype, Dtype]
    on_chip: MemoryLevel | None
    last_level_cache: MemoryLevel | None
    dram: MemoryLevel
    reserve_fraction: float
    intra_node: Link | None
    inter_node: Link | None
    power_w: float
    idle_power_w: float | None
    price_usd_per_hour: float | None
    efficiency: Efficiency
    digest: str
    assumptions: tuple[str, ...] = field(default=())
    usable_byte: float | None = None

    @property
    def visible_byte(self) -> float:
        """DRAM that software sees: what a driver reports, or the nominal capacity."""
        return self.usable_byte or self.dram.capacity_byte

    def arithmetic(self, dtype: Dtype) -> Dtype:
        """The format in which this device computes `dtype` operands: itself, or what it upcasts them to.

        Errors: RooflineError where the profile states neither a rate nor an upcast.
        """
        if dtype in self.matrix_flop_per_s:
            return dtype
        if dtype in self.upcast:
            return self.upcast[dtype]
        native = ", ".join(sorted(self.matrix_flop_per_s))
        upcast = ", ".join(f"{narrow} (as {wide})" for narrow, wide in sorted(self.upcast.items()))
        raise RooflineError(
            f"dtype: {self.name} cannot compute in {dtype}. Accepted: {native}"
            f"{'; stored narrow and upcast: ' + upcast if upcast else ''}."
        )
