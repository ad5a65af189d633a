"""Plausibility of a device profile: the mistakes that datasheets and catalogues invite. Pure, except `lint_profile`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import RooflineError
from ..structs import FLOP_PER_FMA, Dtype
from .profile_schema import Fact, Profile
from .profiles import load_profile
from .units import format_quantity

TOLERANCE = 0.03
"""Printed rates are rounded: 733 / 362.05 counts as 2."""
DOUBLED = 1.25
"""A sparse rate or one with fp16 accumulation is twice too high; a wrong clock or unit count is off by less."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One suspicion. An error is a number that cannot be right; a warning is one that rarely is."""

    severity: Literal["error", "warning"]
    field: str
    found: str
    why: str
    fix: str


def lint_profile(path: str | Path) -> tuple[Finding, ...]:
    """Every finding in a profile file (or shipped profile), errors first. What the schema refuses is a finding too.

    Errors: RooflineError where there is no such profile or file.
    """
    origin = f"{path}: "
    try:
        return lint(load_profile(path))
    except RooflineError as error:
        if not str(error).startswith(origin):
            raise
        lines = [line.removeprefix(origin) for line in str(error).splitlines()]
        return tuple(_refused(line) for line in lines if not line.startswith("…"))


def lint(profile: Profile) -> tuple[Finding, ...]:
    """Every finding in a profile that loads, errors first."""
    checks = (_dense, _accumulation, _clock, _array, _ratios, _vector, _capacity, _dram, _direction, _nic, _power)
    found = [finding for check in (*checks, _price, _efficiency) for finding in check(profile)]
    return tuple(sorted(found, key=lambda finding: finding.severity))


def _refused(line: str) -> Finding:
    field, _, problem = line.partition(": ")
    return Finding("error", field, problem or line, "a profile with this does not load", "write what is accepted")


def _wide(profile: Profile) -> Iterator[tuple[Dtype, Fact, float]]:
    """The 16-bit matrix rates with the FLOP per compute unit and clock that each implies."""
    for dtype in (Dtype.BF16, Dtype.FP16):
        if dtype in profile.matrix:
            fact = profile.matrix[dtype]
            yield dtype, fact, fact.value / (profile.units.count.value * profile.units.clock.value)


DENSEST_FLOP_PER_CLOCK: dict[str, tuple[tuple[int, float], ...]] = {
    "nvidia": ((2017, 1024.0), (2020, 2048.0), (2022, 4096.0), (2024, 8192.0)),  # V100, A100, H100, B200
    "amd": ((2020, 1024.0), (2023, 2048.0), (2025, 4096.0)),  # MI210, MI300X, MI355X
}
"""Dense 16-bit FLOP per SM or CU and clock of the densest part from a year on."""


def _dense(profile: Profile) -> Iterator[Finding]:
    """A 16-bit rate beyond the densest part of its year, or one that only sparsity gives beside GDDR memory."""
    limits = [limit for year, limit in DENSEST_FLOP_PER_CLOCK.get(profile.vendor.lower(), ()) if year <= profile.year]
    for dtype, fact, per_clock in _wide(profile):
        over_vector = fact.value / profile.vector.fp32.value
        if limits and per_clock > limits[-1] * DOUBLED:
            why = f"{per_clock:.0f} FLOP per unit and clock; no dense {profile.vendor} unit up to {profile.year} does "
            why += f"more than {limits[-1]:.0f}"
        elif profile.vendor.lower() == "nvidia" and profile.year >= 2020 and 6.5 < over_vector < 9.5:
            why = f"{over_vector:.1f} times the fp32 vector rate; since 2020 dense NVIDIA parts have 2 or 4 (GDDR) or "
            why += "14 and more (HBM)"
        else:
            continue
        yield Finding("error", f"matrix.{dtype}", fact.printed, why, "give the dense rate, half of a 2:4 sparse one")


def _accumulation(profile: Profile) -> Iterator[Finding]:
    """GeForce runs 16-bit matrices at 512 FLOP per SM and clock with fp32 accumulation, at 1024 with fp16."""
    for dtype, fact, per_clock in _wide(profile):
        if "geforce" in profile.title.lower() and per_clock > 512.0 * DOUBLED:
            yield Finding(
                "error",
                f"matrix.{dtype}",
                fact.printed,
                f"{per_clock:.0f} FLOP per SM and clock is the rate with fp16 accumulation",
                "give the rate with fp32 accumulation, half of it",
            )


def _clock(profile: Profile) -> Iterator[Finding]:
    """On a GPU, rate / (units * clock) is a power of two: anything else is another part's unit count or clock."""
    for dtype, fact, per_clock in _wide(profile):
        nearest = min((2.0**power for power in range(6, 15)), key=lambda power: abs(per_clock / power - 1.0))
        if profile.structure == "gpu" and abs(per_clock / nearest - 1.0) > TOLERANCE:
            yield Finding(
                "warning",
                f"matrix.{dtype}",
                f"{fact.printed} / ({profile.units.count.printed} * {profile.units.clock.printed})",
                f"is {per_clock:.0f} FLOP per unit and clock; hardware does {nearest:.0f}",
                "count enabled units, not those of the whole die, and take the clock of the matrix rate",
            )


def _array(profile: Profile) -> Iterator[Finding]:
    """A systolic rate is arrays * rows * columns * 2 * clock."""
    row, column = profile.units.array_row, profile.units.array_column
    if profile.structure != "systolic" or row is None or column is None:
        return
    for dtype, fact, per_clock in _wide(profile):
        array = row.value * column.value * FLOP_PER_FMA
        if abs(per_clock / array - 1.0) > TOLERANCE:
            yield Finding(
                "warning",
                f"matrix.{dtype}",
                f"{fact.printed} is {per_clock:.0f} FLOP per array and clock",
                f"an array of {row.value:.0f} x {column.value:.0f} does {array:.0f}",
                "check the count of arrays (per chip, not per core) and the clock",
            )


RATIOS: tuple[tuple[Dtype, Dtype, tuple[float, ...]], ...] = (
    (Dtype.BF16, Dtype.TF32, (1.0, 2.0)),
    (Dtype.FP16, Dtype.BF16, (1.0,)),
    (Dtype.FP8, Dtype.BF16, (1.0, 2.0)),
    (Dtype.FP4, Dtype.FP8, (1.0, 2.0)),
    (Dtype.INT8, Dtype.BF16, (0.5, 1.0, 2.0, 4.0)),  # 0.5: DP4A; 4: GeForce, whose 16-bit rate is halved
    (Dtype.INT4, Dtype.INT8, (1.0, 2.0)),
)
"""(narrow, wide, dense rate of narrow / rate of wide) as hardware has it."""


def _ratios(profile: Profile) -> Iterator[Finding]:
    """Rates of formats out of proportion: twice too high is one sparse rate in a dense table."""
    for narrow, wide, accepted in RATIOS:
        if narrow not in profile.matrix or wide not in profile.matrix:
            continue
        ratio = profile.matrix[narrow].value / profile.matrix[wide].value
        if min(abs(ratio / known - 1.0) for known in accepted) <= TOLERANCE:
            continue
        shown = " or ".join(f"{known:g}" for known in accepted)
        if ratio > accepted[-1]:
            why, fix = f"dense hardware has {shown}; this looks sparse", "give dense rates for both"
        elif ratio < accepted[0]:
            why, fix = f"dense hardware has {shown}; a narrower format is not slower", "check both rates"
        else:
            why, fix = f"dense hardware has {shown}", "check both rates and their sources"
        certain = ratio > accepted[-1] or ratio < accepted[0]
        found = f"{profile.matrix[narrow].printed} is {ratio:.3g} times the {wide} rate"
        yield Finding("error" if certain else "warning", f"matrix.{narrow}", found, why, fix)


def _vector(profile: Profile) -> Iterator[Finding]:
    """A matrix rate that is no higher than the vector rate: a catalogue's CUDA-core figure."""
    for dtype, fact, _ in _wide(profile):
        if profile.structure == "gpu" and fact.value <= profile.vector.fp32.value * (1.0 + TOLERANCE):
            yield Finding(
                "error",
                f"matrix.{dtype}",
                fact.printed,
                "is no higher than the fp32 vector rate: a rate of the vector cores, not of the matrix units",
                "give the tensor or matrix rate",
            )


def _capacity(profile: Profile) -> Iterator[Finding]:
    """A decimal capacity written as binary: memory chips come in multiples of 4 GiB per device, 141 GiB is 141 GB."""
    fact = profile.memory.dram.capacity
    gib = fact.value / 2.0**30
    if "GiB" in fact.printed and gib >= 32.0 and gib % 4.0:
        yield Finding(
            "error",
            "memory.dram.capacity",
            f"{fact.printed}, {format_quantity(fact.value, 'B')}",
            "devices are built from stacks and chips that add up to a multiple of 4 GiB; this is a figure in GB",
            f"write {fact.printed.replace('GiB', 'GB')} unless software reports these GiB",
        )


def _dram(profile: Profile) -> Iterator[Finding]:
    """Bandwidth printed in powers of two, and the time to read the memory once out of the range of its kind."""
    dram = profile.memory.dram
    if "iB/s" in dram.bandwidth.printed:
        yield Finding(
            "warning",
            "memory.dram.bandwidth",
            dram.bandwidth.printed,
            "memory bandwidth follows from pins and clock and is decimal; sources that write GiB/s mean GB/s",
            f"write {dram.bandwidth.printed.replace('iB/s', 'B/s')} unless it was measured in GiB/s",
        )
    read_s = dram.capacity.value / dram.bandwidth.value
    low, high = (0.01, 0.15) if profile.structure in ("gpu", "systolic") else (0.01, 20.0)
    if not low <= read_s <= high:
        yield Finding(
            "error",
            "memory.dram",
            f"{dram.capacity.printed} at {dram.bandwidth.printed} is read in {format_quantity(read_s, 's')}",
            f"known devices of this structure take {format_quantity(low, 's')} to {format_quantity(high, 's')}",
            "check the unit of both (Gb/s is bits, GB/s bytes; one device, not the server)",
        )


BOTH_DIRECTIONS: tuple[tuple[str, tuple[str, ...], int, int, float, str], ...] = (
    ("NVIDIA", ("sxm",), 2017, 2019, 300e9, "NVLink 2"),
    ("NVIDIA", ("sxm",), 2020, 2021, 600e9, "NVLink 3"),
    ("NVIDIA", ("sxm", "superchip"), 2022, 2023, 900e9, "NVLink 4"),
    ("NVIDIA", ("sxm", "superchip"), 2024, 2025, 1800e9, "NVLink 5"),
    ("NVIDIA", ("pcie",), 2020, 2025, 600e9, "an NVLink bridge"),
    ("NVIDIA", ("pcie",), 2020, 2025, 112.5e9, "an NVLink bridge of a GA102 card"),
    ("NVIDIA", ("pcie", "low-profile"), 2017, 2021, 64e9, "PCIe Gen4 x16"),
    ("NVIDIA", ("pcie", "low-profile"), 2017, 2025, 128e9, "PCIe Gen5 x16"),
    ("AMD", ("pcie",), 2020, 2025, 128e9, "PCIe Gen5 x16"),
    ("AMD", ("oam",), 2023, 2024, 896e9, "7 xGMI links"),
    ("AMD", ("oam",), 2025, 2025, 1071e9, "7 xGMI links"),
    ("Google", ("module",), 2023, 2023, 400e9, "the interconnect of TPU v5e"),
    ("Google", ("module",), 2023, 2025, 1200e9, "the interconnect of TPU v5p and TPU7x"),
    ("Google", ("module",), 2024, 2024, 800e9, "the interconnect of TPU v6e"),
    ("AWS", ("module",), 2024, 2024, 1280e9, "NeuronLink-v3"),
    ("Intel", ("oam",), 2022, 2022, 600e9, "24 ports of 100 Gb/s"),
    ("Intel", ("oam",), 2024, 2024, 1200e9, "24 ports of 200 Gb/s"),
)
"""(vendor, form factors, first year, last year, sum of both directions in byte/s, what it is)."""


def _direction(profile: Profile) -> Iterator[Finding]:
    """A link rate that counts both directions."""
    link = profile.link.intra_node
    if link is None:
        return
    maker, form, year = profile.vendor.lower(), profile.form_factor, profile.year
    for vendor, forms, first, last, both, what in BOTH_DIRECTIONS:
        same = vendor.lower() == maker and form in forms and first <= year <= last
        if same and abs(link.bandwidth.value / both - 1.0) < 0.005:
            yield Finding(
                "error",
                "link.intra_node.bandwidth",
                link.bandwidth.printed,
                f"is the sum of both directions of {what}",
                f"write {link.bandwidth.printed} / 2, kind derived",
            )


def _nic(profile: Profile) -> Iterator[Finding]:
    """A network rate in bits taken for bytes."""
    link = profile.link.inter_node
    if link is not None and link.bandwidth.value > 200e9:
        yield Finding(
            "error",
            "link.inter_node.bandwidth",
            link.bandwidth.printed,
            "no network card of one device carries more than 200 GB/s; cards are sold in bits (400 Gb/s is 50 GB/s)",
            "write Gb/s",
        )


POWER_LIMIT_W = {
    "low-profile": (75.0, "a low-profile card is fed by the slot"),
    "pcie": (600.0, "a dual-slot card has one 12V-2x6 connector"),
    "sxm": (1400.0, "the largest SXM module (B300) takes 1400 W"),
    "oam": (1500.0, "the largest OAM module takes 1400 to 1500 W"),
    "superchip": (1400.0, "one GPU of a superchip takes 1200 to 1400 W; 2700 W is one CPU with two GPUs"),
    "module": (1500.0, "no such module is known"),
    "board": (600.0, "no such board is known"),
    "socket": (600.0, "no CPU socket is specified higher"),
}


def _power(profile: Profile) -> Iterator[Finding]:
    """Power beyond what the form factor can feed and cool, or an idle power above it."""
    tdp, idle = profile.power.tdp, profile.power.idle
    limit, why = POWER_LIMIT_W[profile.form_factor]
    if tdp.value > limit:
        fix = "check the form factor, and that the figure is for one device"
        yield Finding("error", "power.tdp", f"{tdp.printed} in form factor {profile.form_factor}", why, fix)
    if idle is not None and idle.value >= tdp.value:
        yield Finding("error", "power.idle", idle.printed, f"is not below the TDP of {tdp.printed}", "check both")


def _price(profile: Profile) -> Iterator[Finding]:
    """A price without its date, or the price of a whole instance."""
    if profile.price is None:
        return
    fact = profile.price.on_demand
    if fact.date is None:
        why = "prices of the same device differ sixfold between places and years"
        yield Finding("error", "price.on_demand", fact.printed, why, "add date = YYYY-MM-DD, the day it was read")
    if fact.value > 40.0:
        why = "no cloud asks more than 30 USD/h for one device"
        yield Finding("warning", "price.on_demand", fact.printed, why, "divide by the devices of the instance")


def _efficiency(profile: Profile) -> Iterator[Finding]:
    """Fractions and overheads that belong to a framework or a small shape rather than to the device."""
    for name in ("matrix", "vector", "dram", "link"):
        fact: Fact = getattr(profile.efficiency, name)
        if fact.value < 0.2:
            why = "well-tuned kernels reach more than a fifth of the datasheet rate"
            yield Finding("warning", f"efficiency.{name}", fact.printed, why, "measure a large, well-shaped kernel")
    overhead, launched = profile.efficiency.kernel_overhead, profile.structure in ("gpu", "systolic")
    if overhead.value > 20e-6:
        why = "a launch costs 1 to 5 us; more is the framework around it"
        fix = "measure a small kernel in a stream or graph"
        yield Finding("error", "efficiency.kernel_overhead", overhead.printed, why, fix)
    elif launched and overhead.value < 0.3e-6:
        why = "no launched kernel has been measured below 1 us"
        yield Finding("warning", "efficiency.kernel_overhead", overhead.printed, why, "check the unit")
