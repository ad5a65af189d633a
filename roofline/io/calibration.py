"""The calibration of a device: fits stored in its profile, a relative's parameters, or the datasheet with its band."""

import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

from ..device import Cpu, Dataflow, Device, Gpu, Systolic
from ..errors import RooflineError, clip, unknown
from ..timing import Band, Calibration, KernelFamily
from ..timing.calibration import DATASHEET_FAMILY, Borrowing, Evidence, Fitted, Formats, Key, Parameters
from ..timing.parameter import ParameterFacts, facts_of, kernel_facts_of
from ..timing.transfer import transferred, widened
from .profiles import Target, load_target

UNCALIBRATED = Path(__file__).parent.parent / "data" / "uncalibrated.toml"
TRANSFER = Path(__file__).parent.parent / "data" / "transfer.toml"
FORMATS = Path(__file__).parent.parent / "data" / "formats.toml"

_TYPES: dict[str, type] = {kind.__name__: kind for kind in get_args(Parameters)}


@cache
def uncalibrated() -> Calibration:
    """Datasheet timing with the bands that it had where it could be checked; printed by benchmarks/uncalibrated.py."""
    table = tomllib.loads(UNCALIBRATED.read_text("utf-8"))
    bands = {
        KernelFamily(name): Band(min(entry["low"], 1.0), max(entry["high"], 1.0), str(entry["source"]))
        for name, entry in table["families"].items()
    }
    return Calibration(bands, str(table["summary"]))


@cache
def typical_times() -> Mapping[KernelFamily, tuple[float, Band]]:
    """By family, the median of measured over datasheet time where that could be checked, and the band around it. Nine
    of ten kernels took longer than datasheet timing says: without the median, a prediction is the best case.

    Families whose band is borrowed are left out: nothing was measured of them.
    """
    table = tomllib.loads(UNCALIBRATED.read_text("utf-8"))["families"]
    return {
        KernelFamily(name): (middle, Band(entry["low"] / middle, entry["high"] / middle, str(entry["source"])))
        for name, entry in table.items()
        for middle in (entry.get("typical"),)
        if middle is not None
    }


DEFAULT = "backend"
"""The key of a profile's [calibration] that names the library to predict with where none is asked for; the other keys
are libraries, each with its fits by family and format."""


def calibration_of(table: Mapping[str, Any], origin: str, backend: str | None = None) -> Calibration:
    """The Calibration that a profile's [calibration] table holds, over datasheet timing for what it does not.

    Kernels are those of `backend` (without one, of the library that the profile names); what it was not measured for
    comes from that library, and then from the others in the order of their names.
    Errors: RooflineError naming the entry and field that is not understood, or a backend that the table has not.
    """
    base = uncalibrated()
    names = _libraries(table, origin)
    if not names:
        return base
    if backend is not None and backend not in names:
        raise _unknown_backend(backend, names, origin)
    chosen: dict[Key, tuple[str, Any]] = {}
    for name in (backend or names[0], *names):
        for family, labels in table[name].items():
            for label, entry in labels.items():
                chosen.setdefault((family, label), (name, entry))
    models = {
        key: _fitted(entry, name, f"{origin}: calibration.{name}.{'.'.join(key)}")
        for key, (name, entry) in chosen.items()
    }
    found = Calibration(base.bands, base.summary, models, base.coverage, backend or names[0])
    return replace(found, summary=_summary(found, names))


def _libraries(table: Mapping[str, Any], origin: str) -> tuple[str, ...]:
    """The libraries that a [calibration] table has fits of, the default first, the others by name."""
    names = sorted(name for name in table if name != DEFAULT)
    if names and table.get(DEFAULT) not in names:
        raise RooflineError(
            f"{origin}: calibration.{DEFAULT}: {clip(table.get(DEFAULT))} is not accepted. Accepted: the library to "
            f"predict with, one of {', '.join(names)}."
        )
    return tuple(sorted(names, key=lambda name: name != table[DEFAULT]))


def _unknown_backend(backend: str, names: Sequence[str], origin: str) -> RooflineError:
    if names:
        return unknown("backend", backend, names)
    return RooflineError(f"backend: {origin} is calibrated for no library, so none can be chosen. Leave backend out.")


def backends_of(target: Target) -> tuple[str, ...]:
    """The libraries whose kernels a profile is calibrated for, else those of the one that it is like; the default
    first.
    """
    own = _libraries(target.calibration, target.device.name)
    return own or (backends_of(load_target(target.like)) if target.like else ())


def load_calibration(target: Target, backend: str | None = None) -> Calibration:
    """The Calibration of a profile: its own fits; for kernels without one, those of the device that it is `like`,
    scaled by both datasheets and with the band that such transfers had; else datasheet timing, at the median of what
    kernels of such a family took where it could be checked.

    `backend`: the library whose kernels are predicted, one of backends_of; without it, the first of them.
    Errors: RooflineError for another backend.
    """
    names, origin = backends_of(target), target.device.name
    if backend is not None and backend not in names:
        raise _unknown_backend(backend, names, origin)
    asked = backend if backend in _libraries(target.calibration, origin) else None
    own = replace(calibration_of(target.calibration, origin, asked), formats=Formats(target.device, format_bands()))
    if not target.like:
        return _typical(own, target.device)
    relative = load_target(target.like)
    lent = load_calibration(relative, backend if backend in backends_of(relative) else None).models
    bands = transfer_bands()
    models = {
        key: widened(fitted, bands.get(key[0], own.bands[DATASHEET_FAMILY.get(key[0], KernelFamily.POINTWISE)]))
        for key, fitted in carried_over(lent, relative, target).items()
        if key not in own.models
    } | dict(own.models)
    found = replace(own, models=models, backend=backend or next(iter(names), ""))
    return _typical(replace(found, summary=_summary(found, names)), target.device)


def every_fit(target: Target) -> dict[tuple[str, Key], Fitted]:
    """The fits that predictions for a profile can use, of every library: its own, and those carried over to it."""
    loaded = (load_calibration(target, name) for name in backends_of(target))
    return {
        (fitted.evidence.backend, key): fitted for calibration in loaded for key, fitted in calibration.models.items()
    }


def _typical(found: Calibration, device: Device) -> Calibration:
    """`found` with the families that it has no fit of at the median of what their kernels took elsewhere.

    That was measured on GPUs. Arrays are launched and fed from DRAM alike; CPUs and dataflow designs are others,
    whose own efficiencies are all there is.
    """
    match device.structure:
        case Gpu() | Systolic():
            fitted = {DATASHEET_FAMILY.get(family, KernelFamily.POINTWISE) for family, _ in found.models}
            typical = {family: entry for family, entry in typical_times().items() if family not in fitted}
            bands = {**found.bands, **{family: band for family, (_, band) in typical.items()}}
            factors = {family: middle for family, (middle, _) in typical.items()}
            return replace(found, bands=bands, typical=factors, summary=found.summary + _typical_said(factors))
        case Cpu() | Dataflow():
            return found


def _typical_said(factors: Mapping[KernelFamily, float]) -> str:
    """What people are told of `factors`; nothing of none."""
    said = ", ".join(f"{str(family).replace('_', ' ')} {middle:.2g}" for family, middle in factors.items())
    return f" Kernels of families without a fit take the median of A100 and H100 over datasheet time ({said})." * bool(
        said
    )


def carried_over(models: Mapping[Key, Fitted], source: Target, target: Target) -> dict[Key, Fitted]:
    """The fits of `source` for `target`: parameters scaled by both datasheets, kernels as the target's profile declares
    them for the same library (the source's where it says nothing).

    Errors: RooflineError for a declared kernel that is not known.
    """
    found = {}
    for (family, label), fitted in transferred(models, source.device, target.device).items():
        backend = fitted.evidence.backend
        where = f"{target.device.name}: kernels.{backend}.{family}.{label}"
        declared = declared_kernels(target, backend).get((family, label), {})
        found[family, label] = replace(fitted, parameters=_with_kernels(fitted.parameters, declared, where))
    return found


def declared_kernels(target: Target, backend: str) -> dict[Key, Mapping[str, Any]]:
    """The kernels that a profile says a library runs on the device: for each family and format, facts by name."""
    table = target.kernels.get(backend, {})
    return {
        (family, label): facts
        for family, labels in table.items()
        if isinstance(labels, Mapping)  # beside them stands the table's source
        for label, facts in labels.items()
    }


def _with_kernels(parameters: Parameters, declared: Mapping[str, Any], where: str) -> Parameters:
    """`parameters` with other kernel facts, given by name; a table of them for another kernel's parameters inside."""
    accepted, hints = kernel_facts_of(parameters), get_type_hints(type(parameters))
    for name in declared:
        if name not in accepted:
            raise unknown(where, name, accepted)
    values: dict[str, Any] = {
        name: _with_kernels(accepted[name], value, f"{where}.{name}")
        if is_dataclass(accepted[name])
        else _named(hints[name], value, f"{where}.{name}")
        for name, value in declared.items()
    }
    return replace(parameters, **values)


def _named(hint: Any, value: Any, where: str) -> Any:
    """A kernel fact: the member of an enumeration that `value` names, else the value itself."""
    if not (isinstance(hint, type) and issubclass(hint, Enum)):
        return value
    if value not in hint.__members__:
        raise unknown(where, value, hint.__members__)
    return hint[value]


@cache
def transfer_bands() -> Mapping[str, Band]:
    """The band of each family when parameters of one device predicted another; printed by benchmarks/transfer.py."""
    table = tomllib.loads(TRANSFER.read_text("utf-8")) if TRANSFER.exists() else {"families": {}}
    return {name: Band(**entry) for name, entry in table["families"].items()}


@cache
def format_bands() -> Mapping[tuple[str, Borrowing], Band]:
    """The band of each family when a fit of one format predicted another; printed by benchmarks/formats.py."""
    table = tomllib.loads(FORMATS.read_text("utf-8")) if FORMATS.exists() else {"families": {}}
    return {
        (family, Borrowing(kind)): Band(**entry)
        for family, kinds in table["families"].items()
        for kind, entry in kinds.items()
    }


def _summary(calibration: Calibration, backends: Sequence[str]) -> str:
    """One line: whose kernels are predicted, what was fitted to which data, and how well unseen rows were met."""
    models = calibration.models
    own = [fitted for fitted in models.values() if not fitted.transferred_from]
    lent = sorted({fitted.transferred_from for fitted in models.values()} - {""})
    others = [name for name in backends if name != calibration.backend]
    also = f" (--backend takes {' or '.join(others)} too)" if others else ""
    parts = []
    if own:
        errors = [fitted.evidence.median_ape for fitted in own]
        count = Counter(fitted.evidence.backend for fitted in own)
        borrowed = [f"{number} of {name}" for name, number in sorted(count.items()) if name != calibration.backend]
        among = f" ({', '.join(borrowed)})" if borrowed else ""
        parts.append(
            f"{len(own)} families calibrated{among}, median error {min(errors):.1%} to {max(errors):.1%} on unseen rows"
        )
    if lent:
        parts.append(f"{len(models) - len(own)} families carried over from {', '.join(lent)}, band widened")
    if not parts:
        return calibration.summary
    return f"Kernels of {calibration.backend}{also}: {'; '.join(parts)}; others from the datasheet."


def _fitted(entry: Any, backend: str, where: str) -> Fitted:
    if not isinstance(entry, dict):
        raise RooflineError(f"{where}: {clip(entry)} is not a table.")
    missing = {"type", "parameters", "band", "evidence"} - entry.keys()
    if missing:
        raise RooflineError(f"{where}: missing {', '.join(sorted(missing))}. Make it anew with roofline calibrate.")
    if entry["type"] not in _TYPES:
        raise unknown(f"{where}.type", entry["type"], _TYPES)
    evidence = dict(entry["evidence"])
    try:
        evidence["undetermined"] = tuple(evidence["undetermined"])
        for key in ("ranges", "beyond", "below"):
            ends = evidence.get(key, {}) if key == "below" else evidence[key]  # older profiles do not say
            evidence[key] = {name: (float(low), float(high)) for name, (low, high) in ends.items()}
        return Fitted(
            parameters=_parameters(_TYPES[entry["type"]], entry["parameters"], f"{where}.parameters"),
            band=Band(**entry["band"]),
            evidence=Evidence(backend=backend, **evidence),
            transferred_from=str(entry.get("transferred_from", "")),
        )
    except (TypeError, ValueError, KeyError) as error:
        raise RooflineError(f"{where}: {clip(str(error), 160)}. Make it anew with roofline calibrate.") from None


def _parameters(kind: type, table: Any, where: str) -> Any:
    """A parameter dataclass from its table: numbers within their bounds, kernel facts by name."""
    hints, bounds = _fields_of(kind)
    for name in table:
        if name not in hints:
            raise unknown(where, name, hints)
    values: dict[str, Any] = {}
    for name, value in table.items():
        hint = hints[name]
        if name in bounds:
            low, high = bounds[name].low, bounds[name].high
            if isinstance(value, bool) or not isinstance(value, int | float) or not low * 0.99 <= value <= high * 1.01:
                raise RooflineError(f"{where}.{name}: {clip(value)} is not accepted. Accepted: {low:g} to {high:g}.")
        if is_dataclass(hint):
            values[name] = _parameters(hint, value, f"{where}.{name}")  # type: ignore[arg-type]
        else:
            values[name] = _named(hint, value, f"{where}.{name}")
    return kind(**values)


@lru_cache(maxsize=64)
def _fields_of(kind: type) -> tuple[Mapping[str, Any], Mapping[str, ParameterFacts]]:
    """The types of the fields of a parameter dataclass, and the facts of those that are fitted; looked up once a kind:
    a profile has dozens of fits.
    """
    return get_type_hints(kind), facts_of(kind)


def fitted_table(fitted: Fitted) -> dict[str, Any]:
    """A fit as plain TOML values, without its library; calibration_of turns it back."""
    evidence = {entry.name: getattr(fitted.evidence, entry.name) for entry in fields(Evidence)}
    del evidence["backend"]  # the fit stands under its name
    evidence["undetermined"] = list(fitted.evidence.undetermined)
    for key in ("ranges", "beyond", "below"):
        evidence[key] = {name: list(ends) for name, ends in getattr(fitted.evidence, key).items()}
    table: dict[str, Any] = {"type": type(fitted.parameters).__name__}
    if fitted.transferred_from:
        table["transferred_from"] = fitted.transferred_from
    return table | {
        "band": {entry.name: getattr(fitted.band, entry.name) for entry in fields(Band)},
        "parameters": _table(fitted.parameters),
        "evidence": evidence,
    }


def _table(parameters: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for entry in fields(parameters):
        value = getattr(parameters, entry.name)
        match value:
            case Enum():
                found[entry.name] = value.name
            case _ if is_dataclass(value):
                found[entry.name] = _table(value)
            case _:
                found[entry.name] = value
    return found


def calibration_text(backend: str, fits: Iterable[tuple[Key, Fitted]]) -> str:
    """The [calibration] tables of a profile as TOML: fits of any libraries, and that of `backend` as the default.

    Fractions with four significant digits, whole numbers exactly.
    """
    lines = ["# Fitted by `roofline calibrate`; do not edit.", "[calibration]", f"{DEFAULT} = {_value(backend)}"]
    for (family, label), fitted in sorted(fits, key=lambda item: (item[1].evidence.backend, item[0])):
        lines += _toml(f'calibration.{fitted.evidence.backend}.{family}."{label}"', fitted_table(fitted))
    return "\n".join(lines) + "\n"


def _toml(name: str, table: Mapping[str, Any]) -> Iterator[str]:
    inner = {key: value for key, value in table.items() if isinstance(value, dict)}
    yield f"\n[{name}]"
    for key, value in table.items():
        if key not in inner:
            yield f"{key} = {_value(value)}"
    for key, value in inner.items():
        yield from _toml(f"{name}.{key}", value)


def _value(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case int():
            return str(value)
        case float():
            return repr(value if value.is_integer() else float(f"{value:.4g}"))  # 8388608 bytes are a fact, exactly
        case str():
            escaped = value.replace("\\", "\\\\").replace('"', '\\"')
            return f'"{escaped}"'
        case list():
            return f"[{', '.join(_value(item) for item in value)}]"
        case _:
            raise TypeError(f"no TOML for {type(value).__name__}")
