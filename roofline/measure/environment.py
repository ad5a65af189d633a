"""The machine and its state: what every record file says of where it was measured, and how many threads compute."""

import ctypes
import hashlib
import os
import platform
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import sleep
from typing import Any

import numpy as np

from ..errors import RooflineError
from ..io.datasets.own import Environment

_CPU = Path("/sys/devices/system/cpu")
_SIZE = {"K": 2**10, "M": 2**20, "G": 2**30}
_THREAD_CALLS = (
    ("scipy_openblas_set_num_threads64_", "scipy_openblas_get_num_threads64_"),
    ("scipy_openblas_set_num_threads", "scipy_openblas_get_num_threads"),
    ("openblas_set_num_threads64_", "openblas_get_num_threads64_"),
    ("openblas_set_num_threads", "openblas_get_num_threads"),
)


@dataclass(frozen=True, slots=True)
class CacheLevel:
    """One level of data cache: bytes of one instance, and how many CPUs share it."""

    name: str
    byte: float
    shared_by: int


def caches() -> tuple[CacheLevel, ...]:
    """The data caches of the first CPU, nearest first; empty where the system does not say."""
    found = []
    for index in sorted(_CPU.glob("cpu0/cache/index*")):
        if _text(index / "type") != "Instruction":
            level, size = _text(index / "level"), _text(index / "size") or "0"
            name = f"L{level}{'d' if level == '1' else ''}"
            byte = float(size[:-1]) * _SIZE[size[-1]] if size[-1] in _SIZE else float(size)
            found.append(CacheLevel(name, byte, _cpu_count(_text(index / "shared_cpu_list") or "0")))
    return tuple(found)


def last_level_byte() -> float:
    """Bytes of the largest cache that a CPU sees; 32 MiB where the system does not say."""
    return max((level.byte for level in caches()), default=32.0 * 2**20)


def cores() -> tuple[int, ...]:
    """The CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def busy_cores(seconds: float = 1.0) -> float:
    """How many cores' worth of time the whole system uses now, seen over `seconds` in which this process sleeps; the
    one-minute load where the system does not say.
    """
    before = _idle_share()
    sleep(seconds)
    after = _idle_share()
    if before is None or after is None:
        return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    (idle, every), (idle_before, every_before) = after, before
    return (os.cpu_count() or 1) * (1.0 - (idle - idle_before) / max(every - every_before, 1.0))


def _idle_share() -> tuple[float, float] | None:
    """Idle (and waiting for a disk) and all ticks of all CPUs since the start (man proc, /proc/stat)."""
    ticks = [float(part) for part in (_text(Path("/proc/stat")) or "cpu").splitlines()[0].split()[1:9]]
    return (ticks[3] + ticks[4], sum(ticks)) if len(ticks) == 8 else None


def memory_byte() -> tuple[float, float]:
    """Main memory: all of it, and what is available now. Errors: RooflineError where the system does not say."""
    text = _text(Path("/proc/meminfo")) or ""
    found = {
        name: float(value) * 1024.0 for name, value in re.findall(r"^(MemTotal|MemAvailable):\s+(\d+) kB", text, re.M)
    }
    if len(found) < 2:
        raise RooflineError("memory: /proc/meminfo does not tell how much there is. Measuring a host needs Linux.")
    return found["MemTotal"], found["MemAvailable"]


def cpu_fields() -> Mapping[str, str]:
    """What /proc/cpuinfo says of the first CPU; empty elsewhere than on Linux."""
    text = _text(Path("/proc/cpuinfo")) or ""
    pairs = (line.split(":", 1) for line in text.split("\n\n")[0].splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, value in pairs}


def bind(available: tuple[int, ...], count: int) -> None:
    """Bind every thread of this process to the first `count` of the CPUs `available`, where the system can.

    Errors: RooflineError where there are fewer.
    """
    if not 1 <= count <= len(available):
        raise RooflineError(
            f"threads: {count} is not accepted. Accepted: 1 to {len(available)}, the CPUs of this process."
        )
    if hasattr(os, "sched_setaffinity"):
        for task in os.listdir("/proc/self/task"):
            os.sched_setaffinity(int(task), available[:count])


def use_blas_threads(count: int) -> None:
    """Let NumPy's BLAS compute with `count` threads. Errors: RooflineError where it cannot be told."""
    controls = tuple(_blas_controls())
    for set_threads, get_threads in controls:
        set_threads(count)
        if get_threads() != count:
            raise RooflineError(
                f"threads: NumPy's BLAS runs {get_threads()} threads, not {count}. Set OMP_NUM_THREADS."
            )
    if not controls and os.environ.get("OMP_NUM_THREADS") != str(count):
        raise RooflineError(
            "threads: NumPy's BLAS is not OpenBLAS and cannot be told its threads from here. Start with "
            f"OMP_NUM_THREADS={count} MKL_NUM_THREADS={count} in the environment."
        )


def _blas_controls() -> Iterator[tuple[Any, Any]]:
    """(set, get) of every OpenBLAS that this process has loaded."""
    maps = _text(Path("/proc/self/maps")) or ""
    for path in sorted(set(re.findall(r"\S*openblas\S*\.so\S*", maps))):
        blas = ctypes.CDLL(path)
        for set_name, get_name in _THREAD_CALLS:
            if hasattr(blas, set_name):
                yield getattr(blas, set_name), getattr(blas, get_name)
                break


def blas_name() -> str:
    """The BLAS that NumPy was built with, and its version."""
    blas = np.show_config(mode="dicts").get("Build Dependencies", {}).get("blas", {})
    return f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip()


def environment(
    device: str, threads: int, library_version: Mapping[str, str], accelerator: str | None = None
) -> Environment:
    """The Environment now. `device`: the name of the hardware profile that records of this machine belong to."""
    fields = cpu_fields()
    model = fields.get("model name") or platform.processor() or platform.machine()
    levels = caches()
    total, _ = memory_byte()
    identity = "|".join(
        (model, str(os.cpu_count()), *(f"{level.name}={level.byte:.0f}" for level in levels), accelerator or "")
    )
    versions = {"python": platform.python_version(), "numpy": np.__version__, **library_version}
    return Environment(
        machine_id=hashlib.sha256(f"{identity}|{_text(Path('/etc/machine-id')) or ''}".encode()).hexdigest()[:16],
        device=device,
        cpu_model=f"{model} (family {fields.get('cpu family', '?')}, model {fields.get('model', '?')})",
        core_count=os.cpu_count() or 1,
        cache_byte={level.name: level.byte for level in levels},
        library_version=versions,
        blas=blas_name(),
        governor=_text(_CPU / "cpu0/cpufreq/scaling_governor"),
        load=os.getloadavg()[0],
        thread_count=threads,
        affinity=cores(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        accelerator=accelerator,
        memory_byte=total,
        virtualization=virtualization(),
    )


def virtualization() -> str | None:
    """What hints at a virtual machine or a container ("hypervisor", "docker", …), or None."""
    hints = []
    if "hypervisor" in cpu_fields().get("flags", "").split():
        hints.append(_text(Path("/sys/class/dmi/id/sys_vendor")) or "hypervisor")
    if Path("/.dockerenv").exists() or re.search(
        r"docker|kubepods|containerd|lxc", _text(Path("/proc/1/cgroup")) or ""
    ):
        hints.append("container")
    return ", ".join(hints) or None


def _text(path: Path) -> str | None:
    """The content of a small system file, or None."""
    try:
        return path.read_text("utf-8", errors="replace").strip()
    except OSError:
        return None


def _cpu_count(listed: str) -> int:
    """How many CPUs a list such as "0-3,8" names."""
    ends = (part.split("-") for part in listed.split(","))
    return sum(int(end[-1]) - int(end[0]) + 1 for end in ends)
