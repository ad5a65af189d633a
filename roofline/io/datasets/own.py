"""The project's own measurement records: one JSON file per run, schema `roofline.records/1`.

A file holds the environment once and one entry per measured shape with all raw samples. A measurement knows nothing
of predictions.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np

from ...errors import RooflineError, clip, nearest
from ...structs import Dtype
from ...timing.loop import BenchmarkLoop
from ..files import write_text
from ..records import DIMENSIONS, FAMILY_OF_STEP, Family, Precision, Refused
from .source import Result, Source, Table, build, join

SCHEMA = "roofline.records/1"

FAST_QUANTILE = 0.2
"""The quantile of the samples that stands for an undisturbed machine: contention only ever adds time."""

_MAX_BYTE = 256 * 2**20
_STRICT = {"extra": "forbid"}


@dataclass(frozen=True, slots=True)
class Environment:
    """The machine and its state. `device`: name of its hardware profile; `machine_id` tells two machines apart.

    `cache_byte` by level (L1d, L2, L3), `library_version` by name (numpy, torch, python), `governor` None where the
    system does not say, `load` the one-minute average at the start, `affinity` the cores the process may use,
    `date` in ISO 8601, `accelerator` the GPU's name or None, `memory_byte` all of the main memory, `virtualization`
    what hints at a virtual machine or container, or None.
    """

    machine_id: str
    device: str
    cpu_model: str
    core_count: int
    cache_byte: Mapping[str, float]
    library_version: Mapping[str, str]
    blas: str
    governor: str | None
    load: float
    thread_count: int
    affinity: tuple[int, ...]
    date: str
    accelerator: str | None = None
    memory_byte: float | None = None
    virtualization: str | None = None

    __pydantic_config__ = _STRICT


@dataclass(frozen=True, slots=True)
class Measurement:
    """One measured shape: `family` is a Family, `step` the name the predictor uses, `backend` the library that ran it.

    `operand_copies` as in BenchmarkLoop, None for cold (operands come from DRAM). `low_s` and `high_s` bound the
    median (95 % confidence). `disturbed_s`: samples set apart because a thread waited for a CPU meanwhile.
    """

    family: str
    step: str
    backend: str
    activation: Dtype
    weight: Dtype
    cache: Dtype
    dims: Mapping[str, float]
    operand_copies: float | None
    launch_floor_s: float
    samples_s: tuple[float, ...]
    median_s: float
    low_s: float
    high_s: float
    disturbed_s: tuple[float, ...] = ()

    __pydantic_config__ = _STRICT


@dataclass(frozen=True, slots=True)
class RecordFile:
    """One run: where it was measured and what. `interrupted`: it was stopped before all that was asked for. `seed`: of
    the drawn shapes, None where a model was named.
    """

    schema: str
    environment: Environment
    records: tuple[Measurement, ...]
    interrupted: bool = False
    seed: int | None = None

    __pydantic_config__ = _STRICT


def write(path: Path, file: RecordFile) -> None:
    """Write `file` as JSON to a temporary file beside `path`, then rename it.

    Errors: RooflineError where the folder cannot be written.
    """
    write_text(path, json.dumps(asdict(file), indent=1, allow_nan=False) + "\n")


def load(path: Path) -> RecordFile:
    """The file at `path`, its structure checked (the values of single rows are not: see `read`).

    Errors: RooflineError where it cannot be read, is cut off, of another schema, or where an entry is missing,
    unknown or of the wrong type.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        if path.stat().st_size > _MAX_BYTE:
            raise RooflineError(f"records: {path.name} is larger than {_MAX_BYTE >> 20} MiB; split the run.")
        data = path.read_bytes()
    except OSError as error:
        raise RooflineError(f"records: cannot read {str(path)!r} ({error.strerror}).") from error
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RooflineError(f"records: {path.name} is not readable JSON ({str(error)[:99]}). Is it cut off?") from error
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA:
        raise RooflineError(f"records: {path.name} has schema {clip(schema)}. Accepted: {SCHEMA!r}. Measure again.")
    try:
        return TypeAdapter(RecordFile).validate_json(data, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RooflineError(f"records: {path.name}: {where}: {first['msg']} (found {clip(first['input'])}).") from error


def claims(source: Source) -> bool:
    """Whether `source` is a JSON file whose first lines name a schema of records."""
    if source.path.suffix != ".json" or not source.path.is_file():
        return False
    with source.path.open("rb") as stream:
        return b"roofline.records/" in stream.read(256)


def read(source: Source) -> Result:
    """All records of one file; rows of an unknown family, without a dimension or with bad times are refused.

    `measured_s` is the fast side of the samples (FAST_QUANTILE). Errors: as `load`.
    """
    file = load(source.path)
    good: dict[tuple[object, ...], list[int]] = {}
    bad: list[Refused] = []
    for number, record in enumerate(file.records, start=1):
        reason = _defect(record)
        if reason:
            bad.append(Refused(reason, 1, f"{source.name}:{number}"))
        else:
            formats = (record.activation, record.weight, record.cache)
            loop = (record.operand_copies, record.launch_floor_s)
            good.setdefault((record.family, record.step, record.backend, *formats, *loop), []).append(number)
    found, refused = join(_group(source, file, numbers) for numbers in good.values())
    return found, (*_merged(bad), *refused)


def one_machine(sources: Sequence[Source]) -> None:
    """Errors: RooflineError where files of the project's own records come from different machines."""
    machine = {source.name: load(source.path).environment.machine_id for source in sources if claims(source)}
    if len(set(machine.values())) > 1:
        listed = ", ".join(f"{name} ({machine_id[:12]})" for name, machine_id in list(machine.items())[:4])
        raise RooflineError(f"records: two machines are mixed: {listed}. Keep one machine per folder.")


def _defect(record: Measurement) -> str | None:
    """Why a record cannot be used, or None."""
    if record.family not in list(Family):
        match = nearest(record.family, [family.value for family in Family])
        return f"unknown family {clip(record.family)}" + (f"; did you mean {match!r}?" if match else "")
    step = record.step.removesuffix("_sliding")
    if record.family not in (Family.LAYER, Family.MODEL) and step not in FAMILY_OF_STEP:
        match = nearest(step, list(FAMILY_OF_STEP))
        return f"unknown step {clip(record.step)}" + (f"; did you mean {match!r}?" if match else "")
    missing = set(DIMENSIONS[Family(record.family)]) ^ set(record.dims)
    if missing:
        return f"{record.family} needs the dimensions {', '.join(DIMENSIONS[Family(record.family)])}"
    times = (*record.samples_s, record.median_s, record.low_s, record.high_s)
    if not record.samples_s or not all(np.isfinite(time) and time > 0 for time in times):
        return "a time is missing, zero, negative or not a number"
    if not np.isclose(record.median_s, median(record.samples_s), rtol=1e-6):
        return "median_s is not the median of samples_s"
    if record.samples_s == record.disturbed_s:
        return "a thread waited for a CPU during every sample"
    return None


def _merged(bad: list[Refused]) -> tuple[Refused, ...]:
    """One Refused per reason, with the first example."""
    merged: dict[str, Refused] = {}
    for entry in bad:
        seen = merged.get(entry.reason)
        merged[entry.reason] = replace(seen, n=seen.n + 1) if seen else entry
    return tuple(merged.values())


def _group(source: Source, file: RecordFile, numbers: list[int]) -> Result:
    records = [file.records[number - 1] for number in numbers]
    first = records[0]
    formats = (first.activation, first.weight, first.cache)
    label = first.activation.value if len(set(formats)) == 1 else "/".join(formats)
    copies = np.inf if first.operand_copies is None else first.operand_copies
    return build(
        Table(source, {}, np.array(numbers, dtype=np.float64)),
        np.array([np.quantile(record.samples_s, FAST_QUANTILE) for record in records]),
        np.ones(len(records), dtype=bool),
        family=Family(first.family),
        device=file.environment.device,
        backend=first.backend,
        version=file.environment.library_version.get(first.backend, ""),
        kernel=first.step,
        precision=Precision(label, *formats),
        loop=BenchmarkLoop(operand_copies=copies, launch_floor_s=first.launch_floor_s),
        **{name: np.array([record.dims[name] for record in records]) for name in first.dims},
    )
