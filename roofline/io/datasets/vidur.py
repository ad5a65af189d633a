"""Reader of microsoft/vidur's profiling tables: CSV with `time_stats.LAYER.median` in milliseconds.

What the tables do not say is from that project's profiler: fp16; `mlp_up_proj` is gate and up in one product; times
are those of the GPU kernels (no host time), rounded to whole microseconds; each layer runs once per pass over the
block, so its weights come from DRAM; an all-reduce's `size` is bytes; collectives are launched one by one from the
host after a barrier, without a graph, so that a rank's kernel waits for the others to start (collectives_wrapper.py:
DISABLE_GRAPH). `n_kv_head` may be missing (then MHA).
"""

from dataclasses import replace

import numpy as np

from ...errors import RooflineError
from ...structs import Dtype, Number
from ...timing.loop import MODEL_STEP
from ..records import Family
from .layers import Kernel, ModelShape, layer
from .source import PROFILE_OF, Result, Source, Table, build, csv_table, join, plain

_MS = 1e-3
_PREFIX, _SUFFIX = "time_stats.", ".median"
_COLLECTIVES = frozenset({"all_reduce", "all_gather", "reduce_scatter", "all_to_all"})


def claims(source: Source) -> bool:
    """Whether `source` is one of these tables, by its header."""
    if source.path.suffix != ".csv":
        return False
    with source.path.open("rb") as stream:
        return _PREFIX.encode() in stream.readline(1 << 16)


def read(source: Source) -> Result:
    """All records of one table. Errors: RooflineError where a column is missing or a cell is not a number."""
    table = csv_table(source)
    measured = [name for name in table.columns if name.startswith(_PREFIX) and name.endswith(_SUFFIX)]
    names = [name.removeprefix(_PREFIX).removesuffix(_SUFFIX) for name in measured]
    kernels = (_collectives if "collective" in table.columns else _layers)(table, names)
    results: list[Result] = []
    for column, kernel in kernels.items():
        if kernel is None:
            results.append(((), table.refuse(table.line > 0, f"layer {column!r} is of no known kernel")))
            continue
        family, dims = kernel
        measured_s = table.number(f"{_PREFIX}{column}{_SUFFIX}") * _MS
        floor_s = float(np.fmin.reduce(measured_s, initial=np.inf)) if column in _COLLECTIVES else 0.0
        found = build(
            table,
            measured_s,
            table.line > 0,
            family=family,
            device=_device(source),
            backend="vidur",
            version="",
            kernel=column,
            precision=plain(Dtype.FP16),
            loop=replace(MODEL_STEP, launch_floor_s=floor_s),
            **dims,
        )
        results.append(found)
    return join(results)


def _layers(table: Table, names: list[str]) -> dict[str, Kernel | None]:
    heads, hidden, gated = table.number("n_head"), table.number("n_embd"), table.text("use_gated_mlp")
    shape = ModelShape(
        hidden=hidden,
        width=table.number("n_expanded_embd"),
        heads=heads,
        kv_heads=table.number("n_kv_head") if "n_kv_head" in table.columns else heads,
        head_dim=hidden / heads,
        vocabulary=table.number("vocab_size"),
        gated=np.where(gated == "True", 1.0, 0.0),
    )
    row, share = table.number("num_tokens"), table.number("num_tensor_parallel_workers")
    return {name: layer(name, row, shape, share) for name in names}


def _collectives(table: Table, names: list[str]) -> dict[str, Kernel | None]:
    dims: dict[str, Number] = {
        "payload_byte": table.number("size"),
        "group_size": table.number("num_workers"),
        "node_size": table.number("devices_per_node"),
    }
    return {name: (Family(name), dims) if name in _COLLECTIVES else None for name in names}


def _device(source: Source) -> str:
    """The profile of the first folder above the file that names a known device."""
    known = [part for part in reversed(source.path.resolve().parts) if part in PROFILE_OF]
    if not known:
        raise RooflineError(f"{source.name}: no folder above it names a device, as in compute/a100/MODEL/mlp.csv.")
    return PROFILE_OF[known[0]]
