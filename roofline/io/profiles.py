"""Read a device profile (TOML) into a Device, or into a Profile with every fact and its source."""

import hashlib
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..device import Cpu, Dataflow, Device, Efficiency, Gpu, Link, MemoryLevel, Structure, Systolic
from ..errors import RooflineError, clip, nearest
from .device_index import device_from, indexed_entry

if TYPE_CHECKING:
    from .profile_schema import Level, LinkTable, Profile

_SIZE_LIMIT_BYTE = 1_000_000
_PROBLEM_LIMIT = 20


def load_device(name_or_path: str | Path) -> Device:
    """The Device of a shipped profile (name or alias, any case) or of a .toml file given by its path.

    Errors: RooflineError for an unknown name (with the nearest one), a path that is not a readable .toml file, broken
    TOML, or content that the schema refuses, each problem on its own line.
    """
    return load_target(name_or_path).device


@dataclass(frozen=True, slots=True)
class Target:
    """A profile ready for predictions: its numbers, and its [calibration] and [kernels] tables as the file has them.

    `like`: the device whose calibration stands in where there is none ("": none does), with the `kernels` that
    libraries run on this one.
    """

    device: Device
    calibration: Mapping[str, Any]
    like: str
    kernels: Mapping[str, Any]


def load_target(name_or_path: str | Path) -> Target:
    """The Target of a shipped profile or of a .toml file. Errors: as load_device."""
    text = _read(profile_path(name_or_path))
    digest = profile_digest(text)
    known = indexed_entry(digest)
    if known is not None:
        return Target(device_from(known["device"]), known["calibration"], known["like"], known["kernels"])
    return target_of(_parse(text, str(name_or_path)), digest)


def target_of(profile: "Profile", digest: str) -> Target:
    """What a validated profile says."""
    return Target(device_of(profile, digest), profile.calibration, profile.like or "", profile.kernels)


def profile_digest(text: bytes) -> str:
    """The first twelve hexadecimal digits of the SHA-256 of a profile's bytes."""
    return hashlib.sha256(text).hexdigest()[:12]


def load_profile(name_or_path: str | Path) -> "Profile":
    """The profile with every fact, its printed text, kind and source. Errors: as `load_device`."""
    return _parse(_read(profile_path(name_or_path)), str(name_or_path))


def profile_names() -> tuple[str, ...]:
    """The names of the shipped profiles, sorted: the stems of the files."""
    files = os.listdir(profile_folder())
    return tuple(sorted(name.removesuffix(".toml") for name in files if name.endswith(".toml")))


def profile_folder() -> Path:
    """Where the shipped profiles are: inside the installed package, or at the root of a checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "hardware_profiles", package.parent / "hardware_profiles"):
        if folder.is_dir():
            return folder
    raise RooflineError(f"hardware_profiles: no such folder beside {package}; reinstall roofline.")


def profile_path(name_or_path: str | Path) -> Path:
    """The file that a profile name, an alias or a path means. Errors: RooflineError as `load_device`."""
    text = str(name_or_path)
    if text.lower().endswith(".toml"):
        path = Path(text)
        if not path.is_file():
            raise RooflineError(f"device: no file {clip(text)}. Accepted: a profile name or an existing .toml file.")
        return path
    if "/" in text or "\\" in text or ".." in text or "\0" in text:
        raise RooflineError(f"device: {clip(text)} is not a profile name, and a path must end in .toml.")
    folder, wanted = profile_folder(), text.strip().lower()
    names = profile_names()
    if wanted in names:
        return folder / f"{wanted}.toml"
    aliases = {alias.lower(): name for name in names for alias in _aliases(folder / f"{name}.toml")}
    if wanted in aliases:
        return folder / f"{aliases[wanted]}.toml"
    match = nearest(wanted[:200], [*names, *aliases])
    hint = f" Did you mean {match!r}?" if match else ""
    raise RooflineError(
        f"device: {clip(text)} is not known.{hint} Accepted: one of {len(names)} profiles (`roofline hardware list` "
        "shows them) or a .toml file."
    )


def _aliases(path: Path) -> tuple[str, ...]:
    """The aliases a file declares, none where they are unclear. The rest is not parsed: 40 whole files take 30 ms."""
    try:
        found = re.search(r"^aliases\s*=\s*\[[^\]]*\]", path.read_text(encoding="utf-8"), re.MULTILINE)
        names = tomllib.loads(found.group())["aliases"] if found else []
    except (OSError, ValueError):
        return ()
    return tuple(name for name in names if isinstance(name, str))


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            text = file.read(_SIZE_LIMIT_BYTE + 1)
    except OSError as error:
        raise RooflineError(f"device: cannot read {clip(str(path))}: {error.strerror}.") from None
    if len(text) > _SIZE_LIMIT_BYTE:
        raise RooflineError(f"device: {clip(str(path))} is larger than 1 MB; a profile has a few kB.")
    return text


def _parse(text: bytes, origin: str) -> "Profile":
    from .profile_schema import Profile  # pydantic takes 75 ms: only when a profile is read
    from .toml_schema import validated

    profile = validated(Profile, text, origin, "a profile")
    stem = Path(origin).stem
    if origin.lower().endswith(".toml") and stem != profile.name:
        raise RooflineError(f"{origin}: name: {profile.name!r} is not the file's name; accepted: {stem!r}.")
    return profile


def device_of(profile: "Profile", digest: str) -> Device:
    """The numbers of a profile."""
    memory, link, efficiency = profile.memory, profile.link, profile.efficiency
    return Device(
        name=profile.name,
        title=profile.title,
        structure=_structure(profile),
        unit_count=profile.units.count.value,
        clock_hz=profile.units.clock.value,
        matrix_flop_per_s={dtype: fact.value for dtype, fact in profile.matrix.items()},
        vector_flop_per_s=profile.vector.fp32.value,
        upcast=dict(profile.upcast),
        on_chip=_level(memory.on_chip),
        last_level_cache=_level(memory.last_level_cache),
        dram=MemoryLevel(memory.dram.capacity.value, memory.dram.bandwidth.value),
        reserve_fraction=memory.dram.reserve_fraction.value,
        intra_node=_link(link.intra_node),
        inter_node=_link(link.inter_node),
        power_w=profile.power.tdp.value,
        idle_power_w=profile.power.idle.value if profile.power.idle else None,
        price_usd_per_hour=profile.price.on_demand.value if profile.price else None,
        efficiency=Efficiency(
            matrix=efficiency.matrix.value,
            vector=efficiency.vector.value,
            dram=efficiency.dram.value,
            link=efficiency.link.value,
            kernel_overhead_s=efficiency.kernel_overhead.value,
        ),
        digest=digest,
        assumptions=tuple(
            f"{path} = {fact.printed}: assumed ({profile.sources[fact.source]})"
            for path, fact in profile.facts()
            if fact.kind == "assumed"
        ),
        usable_byte=memory.dram.usable.value if memory.dram.usable else None,
    )


def _structure(profile: "Profile") -> Structure:
    match profile.structure:
        case "gpu":
            return Gpu()
        case "systolic":
            row, column = profile.units.array_row, profile.units.array_column
            assert row and column  # the schema has refused a systolic device without them
            return Systolic(row.value, column.value)
        case "dataflow":
            return Dataflow()
        case "cpu":
            return Cpu()


def _level(level: "Level | None") -> MemoryLevel | None:
    if level is None:
        return None
    return MemoryLevel(level.capacity.value, level.bandwidth.value if level.bandwidth else None)


def _link(link: "LinkTable | None") -> Link | None:
    if link is None:
        return None
    return Link(link.bandwidth.value, link.domain_size.value, link.latency.value)
