"""A hardware profile (schema roofline.device/1) from what was measured of this machine."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from ..errors import RooflineError
from ..io.profile_schema import NAME_PATTERN, SCHEMA
from ..io.units import format_quantity, parse_quantity
from ..structs import Dtype
from .microbench import BANDWIDTH, Rate

WATT_PER_CORE = 5.0
"""Assumed where nothing tells the power: server processors take 3 to 6 W per core."""

WATT_PER_GPU = 400.0
"""Assumed where the driver does not tell the power limit."""

KERNELS = {
    "numpy": (
        "NumPy: ufuncs run on one thread. OpenBLAS: interface/gemm.c, "
        "kernel/x86_64/sgemm_small_kernel_permit_skylakex.c; measured: a single row is multiplied by itself"
    ),
    "torch": (
        "torch: aten/src/ATen/TensorIterator.h, GRAIN_SIZE = 32768; aten/src/ATen/native/cpu/layer_norm_kernel.cpp. "
        "MKL: measured, up to three rows are multiplied one by one"
    ),
}
"""Where the kernel facts of a library come from."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What the system says of itself. `level_byte`: capacity of every cache level of the whole device, nearest first;
    `available_byte`: memory that nothing else uses now; `power_w` None where the system does not say; `kernels`: what
    is known of the kernels of a library, by library, family and format.
    """

    title: str
    vendor: str
    structure: str
    form_factor: str
    unit: str
    unit_count: int
    clock_hz: float
    level_byte: dict[str, float]
    memory_byte: float
    available_byte: float
    power_w: float | None
    description: str
    day: date
    kernels: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Measured:
    """Everything that was measured: `rates` in fp32, `narrow` the GEMM rates in other formats that beat fp32, `levels`
    the working set of each memory level.
    """

    rates: tuple[Rate, ...]
    narrow: dict[Dtype, Rate]
    levels: dict[str, float]


def profile_text(name: str, machine: Machine, measured: Measured) -> str:
    """The TOML text of a complete profile called `name`; every number with its benchmark, date and machine as source.

    A rate is that of the fastest sample (what the machine has been seen to do), an efficiency the fast side of the
    samples over it. Every measured rate is listed as a comment. Errors: RooflineError for a name that cannot be one, or
    where a benchmark is missing (the run was interrupted too early).
    """
    if not NAME_PATTERN.fullmatch(name):
        raise RooflineError(
            f"output: {name!r} cannot name a profile. Accepted: up to 40 of a-z, 0-9, - and ., then .toml."
        )
    return "\n".join((*_head(name, machine), *_Writer(machine, measured).lines(), *_listed(measured.rates))) + "\n"


def _head(name: str, machine: Machine) -> Iterator[str]:
    yield f"# Measured by `roofline measure host` on {machine.day}. Rates are those of the fastest sample."
    yield f'schema = "{SCHEMA}"'
    yield f'name = "{name}"'
    yield f"title = {_quoted(machine.title)}"
    yield f"vendor = {_quoted(machine.vendor)}"
    yield f'structure = "{machine.structure}"'
    yield f'form_factor = "{machine.form_factor}"'
    yield f"year = {machine.day.year}  # of the measurement"
    yield "aliases = []"
    yield "unsupported = []"


class _Writer:
    """Writes facts and remembers the sources that they cite."""

    def __init__(self, machine: Machine, measured: Measured) -> None:
        self.machine, self.measured = machine, measured
        self.sources: dict[str, str] = {}

    def lines(self) -> Iterator[str]:
        """All tables of the profile after its head."""
        machine, gemm = self.machine, self._best("gemm")
        peak = gemm.best_per_s
        yield "\n[units]"
        yield self._system("count", machine.unit_count, "", f"{machine.unit_count} {machine.unit}")
        yield self._system("clock", machine.clock_hz, "Hz")
        yield "\n[matrix]"
        yield self._rate("fp32", gemm, "FLOP/s")
        for dtype, rate in self.measured.narrow.items():
            yield self._rate(dtype.value, rate, "FLOP/s", f"gemm-{dtype}")
        yield "\n[vector]"
        yield "# The vector units are what multiplies matrices here." if machine.structure == "cpu" else ""
        yield self._rate("fp32", gemm, "FLOP/s")
        yield "\n[upcast]"
        for dtype in Dtype:
            if dtype is not Dtype.FP32 and dtype not in self.measured.narrow:
                yield f'{dtype} = "fp32"'
        yield from self._levels()
        yield "\n[memory.dram]"
        dram = self._fastest_bandwidth(self.measured.levels["DRAM"])
        yield self._system("capacity", machine.memory_byte, "B")
        yield self._rate("bandwidth", dram, "B/s", f"{dram.benchmark}-dram")
        used = max(machine.memory_byte - machine.available_byte, 0.0) / machine.memory_byte
        yield self._system("reserve_fraction", used, "", f"{used:.3f}")
        yield from self._power()
        yield "\n[efficiency]"
        yield self._fraction("matrix", gemm.fast_per_s / peak, "gemm")
        yield self._fraction("vector", self._best("softmax", "softmax").fast_per_s / peak, "softmax")
        yield self._fraction("dram", dram.fast_per_s / dram.best_per_s, f"{dram.benchmark}-dram")
        yield self._fact("link", 1.0, "1", "assumed", "no-link", "not used: the profile has no link")
        call = self._best("call", "call").samples.fast_s
        yield self._fact("kernel_overhead", call, format_quantity(call, "s"), "measured", "call", "")
        yield from self._kernels()
        yield "\n[sources]"
        for key, text in self.sources.items():
            yield f"{key} = {_quoted(text)}"

    def _kernels(self) -> Iterator[str]:
        """Facts of the libraries' kernels (timing.cpu says what they mean)."""
        for library, families in self.machine.kernels.items():
            key = f"{library}-kernels"
            self.sources[key] = KERNELS.get(library, "as the library documents them")
            yield f'\n[kernels.{library}]\nsource = "{key}"'
            for family, formats in families.items():
                for label, facts in formats.items():
                    listed = ", ".join(f"{name} = {value!r}" for name, value in facts.items())
                    yield f'{family}."{label}" = {{ {listed} }}'

    def _levels(self) -> Iterator[str]:
        """The last two cache levels: what is nearer goes through them too fast to matter to a kernel."""
        names = list(self.machine.level_byte)
        tables = (
            dict(zip(("memory.on_chip", "memory.last_level_cache"), names[-2:], strict=False))
            if len(names) > 1
            else ({"memory.last_level_cache": names[0]} if names else {})
        )
        for table, level in tables.items():
            yield f"\n[{table}]"
            yield f"# {level}"
            byte = self.machine.level_byte[level]
            yield self._system("capacity", byte, "B", format_quantity(byte, "B", binary=True))
            if level in self.measured.levels:
                rate = self._fastest_bandwidth(self.measured.levels[level])
                yield self._rate("bandwidth", rate, "B/s", f"{rate.benchmark}-{level.lower()}")

    def _power(self) -> Iterator[str]:
        yield "\n[power]"
        machine = self.machine
        if machine.power_w is not None:
            yield self._system("tdp", machine.power_w, "W")
            return
        watt = WATT_PER_CORE * machine.unit_count if machine.structure == "cpu" else WATT_PER_GPU
        printed = (
            f"{machine.unit_count} {machine.unit} * {WATT_PER_CORE:g} W"
            if machine.structure == "cpu"
            else f"{watt:g} W"
        )
        why = "general knowledge, no document at hand: the system does not tell its power"
        yield self._fact("tdp", watt, printed, "assumed", "power", why)

    def _best(self, benchmark: str, key: str = "gemm") -> Rate:
        """The fastest rate of one benchmark over all sizes, threads and libraries; cited as `key`."""
        return self._cite(key, lambda rate: rate.benchmark == benchmark, benchmark)

    def _fastest_bandwidth(self, byte: float) -> Rate:
        found = self._of(lambda rate: rate.benchmark in BANDWIDTH and rate.size == byte, f"bandwidth of {byte:g} B")
        return max(found, key=lambda rate: rate.best_per_s)

    def _of(self, accepted: Callable[[Rate], bool], what: str) -> Sequence[Rate]:
        found = [rate for rate in self.measured.rates if accepted(rate)]
        if not found:
            raise RooflineError(f"measure: {what} was not measured (interrupted?). Run it again to the end.")
        return found

    def _cite(self, key: str, accepted: Callable[[Rate], bool], what: str) -> Rate:
        rate = max(self._of(accepted, what), key=lambda rate: rate.best_per_s)
        self.sources[key] = _citation(rate, self.machine)
        return rate

    def _rate(self, field: str, rate: Rate, unit: str, key: str = "gemm") -> str:
        return self._fact(
            field,
            rate.best_per_s,
            format_quantity(rate.best_per_s, unit),
            "measured",
            key,
            _citation(rate, self.machine),
        )

    def _system(self, field: str, value: float, unit: str, printed: str = "") -> str:
        text = printed or format_quantity(value, unit)
        return self._fact(field, value, text, "measured", "system", f"as the system tells, {self.machine.description}")

    def _fraction(self, field: str, value: float, key: str) -> str:
        text = f"{min(max(value, 0.001), 1.0):.3g}"
        return self._fact(field, float(text), text, "measured", key, "")

    def _fact(self, field: str, value: float, printed: str, kind: str, key: str, source: str) -> str:
        """One line; the value is what the printed text says, so that both agree to the last digit."""
        if source:
            self.sources[key] = source
        value = parse_quantity(printed)
        day = f", date = {self.machine.day}" if kind == "measured" else ""
        return f'{field} = {{ value = {value!r}, printed = "{printed}", kind = "{kind}", source = "{key}"{day} }}'


def _citation(rate: Rate, machine: Machine) -> str:
    """Benchmark, size, threads, samples, day and machine of a rate, in one line."""
    size = format_quantity(rate.size, "B") if rate.benchmark in BANDWIDTH else f"size {rate.size:g}"
    return (
        f"roofline measure host: {rate.benchmark}, {size}, {rate.library}, threads: {rate.threads}, "
        f"{rate.samples.seconds.size} samples, {machine.day}, {machine.description}"
    )


def _listed(rates: Sequence[Rate]) -> Iterator[str]:
    """Every measured rate, as comments: fast side and fastest sample, per second."""
    yield "\n# All that was measured, per second: benchmark, size, library, threads, fast side, fastest sample, samples"
    for rate in rates:
        yield (
            f"# {rate.benchmark:8} {rate.size:<12g} {rate.library:6} {rate.threads:3} {rate.fast_per_s:10.4g} "
            f"{rate.best_per_s:10.4g} {rate.samples.seconds.size:4}"
        )


def _quoted(text: str) -> str:
    """`text` as a TOML string of one printable line."""
    clean = "".join(character if character.isprintable() else " " for character in text)[:380]
    return '"' + clean.replace("\\", "\\\\").replace('"', '\\"') + '"'
