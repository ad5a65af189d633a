"""The machine as the system describes it, and the sizes of benchmarks that fit it."""

import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from .cpu_kernels import cpu_kernels
from .environment import blas_name, caches, cores, cpu_fields, last_level_byte, memory_byte
from .host_profile import Machine
from .microbench import Sizes

_VENDOR = {"AuthenticAMD": "AMD", "GenuineIntel": "Intel"}


def this_cpu() -> Machine:
    """The processors that this process may use. Errors: RooflineError where the system is not Linux."""
    fields, levels, count = cpu_fields(), caches(), len(cores())
    total, available = memory_byte()
    model = fields.get("model name", "unknown processor")
    description = f"{model}, {count} cores, NumPy {np.__version__}, {blas_name()}"
    return Machine(
        title=f"{model} ({count} cores, measured)",
        vendor=_VENDOR.get(fields.get("vendor_id", ""), fields.get("vendor_id", "unknown")),
        structure="cpu",
        form_factor="socket",
        unit="cores",
        unit_count=count,
        clock_hz=float(fields.get("cpu MHz", "1000")) * 1e6,
        level_byte={level.name: level.byte * max(count // level.shared_by, 1) for level in levels},
        memory_byte=total,
        available_byte=available,
        power_w=None,
        description=description,
        day=datetime.now(UTC).date(),
        kernels=cpu_kernels(),
    )


def this_gpu(torch: Any) -> Machine:
    """The current CUDA device, from torch and, where it runs, nvidia-smi."""
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    available, total = torch.cuda.mem_get_info()
    told = nvidia_smi("clocks.max.sm", "power.limit")
    description = f"{properties.name}, torch {torch.__version__}, CUDA {torch.version.cuda}"
    power_w = told[1] if told else None
    return Machine(
        title=f"{properties.name} (measured)",
        vendor="NVIDIA",
        structure="gpu",
        form_factor="sxm" if power_w is not None and power_w > 450.0 else "pcie",
        unit="SM",
        unit_count=properties.multi_processor_count,
        clock_hz=told[0] * 1e6 if told else 1.5e9,
        level_byte={"L2": float(properties.L2_cache_size)},
        memory_byte=float(total),
        available_byte=float(available),
        power_w=power_w,
        description=description,
        day=datetime.now(UTC).date(),
    )


def nvidia_smi(*queries: str) -> tuple[float, ...] | None:
    """Numbers that the driver tells of the first GPU, or None where it does not run."""
    command = ["nvidia-smi", "--id=0", f"--query-gpu={','.join(queries)}", "--format=csv,noheader,nounits"]
    try:
        text = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
        return tuple(float(part) for part in text.split(","))
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def sizes(machine: Machine, quick: bool) -> Sizes:
    """Orders of products up to 2048 (8192 on a GPU), and for each memory level a working set that lies in it: 60 % of
    one instance of a cache, eight times the largest cache for DRAM.
    """
    largest = max(machine.level_byte.values(), default=last_level_byte())
    dram = min(max(8.0 * largest, 128e6), 0.1 * machine.available_byte)
    match machine.structure:
        case "gpu":
            found = Sizes(
                (1024, 2048, 4096, 8192), 1 << 22, {name: 0.5 * byte for name, byte in machine.level_byte.items()}
            )
        case _:
            found = Sizes((128, 256, 512, 1024, 2048), 1 << 16, {level.name: 0.6 * level.byte for level in caches()})
    orders = found.gemm[:-1] if quick else found.gemm
    return replace(found, gemm=orders, level_byte={**found.level_byte, "DRAM": dram})
