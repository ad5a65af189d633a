"""The TOML schema `roofline.device/1`: every number of a device is a Fact with its printed text, kind and source."""

import datetime
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from ..errors import RooflineError
from ..structs import Dtype
from .units import describe, dimension_of, parse_printed

SCHEMA = "roofline.device/1"
RELATIVE_TOLERANCE = 1e-9

StructureName = Literal["gpu", "systolic", "dataflow", "cpu"]
FormFactor = Literal["sxm", "oam", "pcie", "low-profile", "superchip", "module", "board", "socket"]
Kind = Literal["datasheet", "measured", "derived", "assumed"]
NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9.-]{0,39}")
Name = Annotated[str, Field(pattern=rf"^{NAME_PATTERN.pattern}$")]


def _printable(text: str) -> str:
    if text.strip() in ("", "?"):
        raise ValueError("is a blank; fill it")
    if not text.isprintable():
        raise ValueError(f"{ascii(text)[:60]} has control characters; accepted: one line of printable text")
    return text


Line = Annotated[str, Field(min_length=1, max_length=400), AfterValidator(_printable)]


class Table(BaseModel):
    """A TOML table: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Fact(Table):
    """One number, as the source prints it and in SI. `derived`: `printed` is arithmetic on printed figures."""

    value: Annotated[float, Field(strict=True, allow_inf_nan=False)]
    printed: Annotated[str, Field(min_length=1, max_length=200)]
    kind: Kind
    source: Line
    date: datetime.date | None = None


def within(unit: str, low: float, high: float) -> AfterValidator:
    """Accepts a Fact whose text has the dimension of `unit`, says `value`, and lies in [low, high]."""
    wanted = dimension_of(unit) if unit else ()

    def check(fact: Fact) -> Fact:
        if not low <= fact.value <= high:
            raise ValueError(f"value {fact.value!r} is out of range; accepted: {low:g} to {high:g} {unit}".rstrip())
        try:
            read = parse_printed(fact.printed)
        except RooflineError as error:
            raise ValueError(f"printed {error}") from None
        if read.dimension != wanted:
            given, needed = describe(read.dimension), describe(wanted)
            raise ValueError(f"printed {fact.printed!r} is {given}; accepted: {needed}, for example in {unit or '1'}")
        if abs(read.value - fact.value) > RELATIVE_TOLERANCE * abs(fact.value):
            hint = _confusion(fact.value, read.value)
            raise ValueError(f"value {fact.value!r} is not what printed {fact.printed!r} says: {read.value!r}{hint}")
        return fact

    return AfterValidator(check)


def _confusion(value: float, read: float) -> str:
    """The usual reason for two numbers to differ as these do."""
    ratio = max(value, read) / min(value, read) if min(value, read) > 0.0 else 0.0
    if any(abs(ratio / 1.024**power - 1.0) < 1e-6 for power in (1, 2, 3, 4)):
        return " (GB is 10^9 byte, GiB is 2^30)"
    if abs(ratio / 8.0 - 1.0) < 1e-6:
        return " (b is a bit, B is a byte)"
    return ""


Count = Annotated[Fact, within("", 1.0, 1e7)]
Fraction = Annotated[Fact, within("", 0.0, 1.0)]
Efficient = Annotated[Fact, within("", 0.001, 1.0)]
Clock = Annotated[Fact, within("Hz", 1e6, 1e11)]
Rate = Annotated[Fact, within("FLOP/s", 1e8, 1e18)]
Capacity = Annotated[Fact, within("B", 1e3, 1e15)]
Bandwidth = Annotated[Fact, within("B/s", 1e6, 1e18)]
Latency = Annotated[Fact, within("s", 0.0, 1.0)]
Power = Annotated[Fact, within("W", 0.1, 1e5)]
Price = Annotated[Fact, within("USD/h", 0.0, 1e4)]


class Units(Table):
    """Compute units (SM, CU, MXU, DSP, core) and the clock that with them gives the matrix rates."""

    count: Count
    clock: Clock
    array_row: Count | None = None
    array_column: Count | None = None


class Vector(Table):
    """Rate of the vector units in fp32."""

    fp32: Rate


class Level(Table):
    """One level of on-chip memory of the whole device."""

    capacity: Capacity
    bandwidth: Bandwidth | None = None


class Dram(Table):
    """Off-chip memory. `reserve_fraction`: what the serving engine leaves unused. `usable`: what software sees where
    that is not the nominal capacity.
    """

    capacity: Capacity
    usable: Capacity | None = None
    bandwidth: Bandwidth
    reserve_fraction: Fraction


class Memory(Table):
    """The levels of memory, nearest first."""

    on_chip: Level | None = None
    last_level_cache: Level | None = None
    dram: Dram


class LinkTable(Table):
    """One direction of one device's connection. `latency`: one hop. `domain_size`: devices that reach each other."""

    bandwidth: Bandwidth
    domain_size: Count
    latency: Latency


class Links(Table):
    """Connections inside a node (or pod) and between nodes; absent where there is none."""

    intra_node: LinkTable | None = None
    inter_node: LinkTable | None = None


class PowerTable(Table):
    """Board power: `tdp` is the sustained limit."""

    tdp: Power
    idle: Power | None = None


class PriceTable(Table):
    """What one device costs per hour."""

    on_demand: Price


class EfficiencyTable(Table):
    """Fractions of the datasheet rates that well-tuned kernels reach, and the fixed cost of one kernel."""

    matrix: Efficient
    vector: Efficient
    dram: Efficient
    link: Efficient
    kernel_overhead: Latency


class Profile(Table):
    """A device profile: the content of one file. `like`: the profile whose calibration is the best prior for it.

    `kernels`: which kernels libraries run on this device, by library, with a source each (io.calibration reads them).
    """

    schema_: Annotated[Literal["roofline.device/1"], Field(alias="schema")]
    name: Name
    title: Line
    vendor: Line
    structure: StructureName
    form_factor: FormFactor
    year: Annotated[int, Field(strict=True, ge=2000, le=2100)]
    aliases: tuple[Name, ...] = ()
    like: Name | None = None
    units: Units
    matrix: dict[Dtype, Rate]
    vector: Vector
    upcast: dict[Dtype, Dtype] = {}
    unsupported: tuple[Dtype, ...] = ()
    memory: Memory
    link: Links = Links()
    power: PowerTable
    price: PriceTable | None = None
    efficiency: EfficiencyTable
    sources: dict[Name, Line]
    kernels: dict[Name, dict[str, Any]] = {}
    calibration: dict[str, Any] = {}

    @model_validator(mode="after")
    def _consistent(self) -> "Profile":
        problems = [*_dtype_problems(self), *_source_problems(self)]
        if self.structure == "systolic" and not (self.units.array_row and self.units.array_column):
            problems.append("units: a systolic device needs array_row and array_column")
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def facts(self) -> Iterator[tuple[str, Fact]]:
        """Every fact with its field path, in the order of the schema."""
        yield from _facts("", self)


def _facts(path: str, node: object) -> Iterator[tuple[str, Fact]]:
    if isinstance(node, Fact):
        yield path, node
    elif isinstance(node, BaseModel):
        for key in type(node).model_fields:
            if key not in ("calibration", "kernels"):
                yield from _facts(f"{path}.{key}" if path else key, getattr(node, key))
    elif isinstance(node, dict):
        for key, value in node.items():
            yield from _facts(f"{path}.{key}", value)


def _dtype_problems(profile: Profile) -> Iterator[str]:
    """Every number format must be stated exactly once, and an upcast must end in a format with a rate."""
    for dtype in Dtype:
        stated = [
            table
            for table, keys in (
                ("matrix", tuple(profile.matrix)),
                ("upcast", tuple(profile.upcast)),
                ("unsupported", profile.unsupported),
            )
            for key in keys
            if key is dtype
        ]
        if not stated:
            yield f"{dtype}: not stated; accepted: a rate in [matrix], a wider format in [upcast], or unsupported"
        elif len(stated) > 1:
            yield f"{dtype}: stated {len(stated)} times ({', '.join(stated)}); accepted: exactly once"
    for narrow, wide in profile.upcast.items():
        if wide not in profile.matrix:
            yield f"upcast.{narrow}: {wide} has no rate in [matrix]; accepted: {', '.join(sorted(profile.matrix))}"


def _source_problems(profile: Profile) -> Iterator[str]:
    """Every cited source must be in [sources], and every one there must be cited."""
    cited = set()
    known = ", ".join(profile.sources) or "none yet"
    for path, fact in profile.facts():
        cited.add(fact.source)
        if fact.source not in profile.sources:
            yield f"{path}.source: {fact.source!r} is not in [sources]; accepted: {known}"
    for library, table in profile.kernels.items():
        source = str(table.get("source"))
        cited.add(source)
        if source not in profile.sources:
            yield f"kernels.{library}.source: {source!r} is not in [sources]; accepted: {known}"
    for unused in sorted(set(profile.sources) - cited):
        yield f"sources.{unused}: no fact cites it; remove it or cite it"
