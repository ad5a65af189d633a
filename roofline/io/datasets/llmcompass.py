"""Reader of PrincetonUniversity/LLMCompass's measurements: `real_hardware/OPERATION_DEVICE.csv`, no header.

Units are those of that project's scripts: matmul prints milliseconds, softmax, layernorm and gelu giga-elements per
second, transformer files hold seconds; GELU's arrays are flat, one row each. Everything is fp16, eager PyTorch with a
synchronisation per call: the shortest time of a file is the host's floor. One GPT-3 layer on four devices, 8 sequences
of 2048 tokens; decode is one token on 3072 (2048 + 1024). Its Q_K_V row is three times the time of one projection.
"""

import numpy as np

from ...errors import RooflineError, clip
from ...structs import Array, Dtype
from ...timing.loop import BenchmarkLoop
from ..records import Family
from .layers import VALUE_BYTE, Kernel, gemm, pointwise
from .source import PROFILE_OF, Mask, Result, Source, Table, build, csv_table, join, plain

_MS, _GIGA = 1e-3, 1e9
_HIDDEN, _HEADS, _SEQUENCES, _PROMPT, _CONTEXT = 12288.0, 24.0, 8.0, 2048.0, 3072.0
_HEAD_DIM, _DEVICES = 128.0, 4.0

_COLUMNS = {
    "matmul": ("m", "k", "n", "time", "rate"),
    "softmax": ("row", "width", "rate"),
    "layernorm": ("row", "width", "rate"),
    "gelu": ("row", "rate"),
    "transformer": ("time",),
    "transformerAR": ("time",),
}


def claims(source: Source) -> bool:
    """Whether `source` is one of these tables, by its name and folder."""
    operation, _, device = source.path.stem.partition("_")
    return source.path.suffix == ".csv" and operation in _COLUMNS and device in PROFILE_OF


def read(source: Source) -> Result:
    """All records of one table. Errors: RooflineError where a cell is not a number or has another unit."""
    operation, _, device = source.path.stem.partition("_")
    table = csv_table(source, _COLUMNS[operation])
    every = table.line > 0
    if operation == "matmul":
        time_s = _milliseconds(table)
        m, k, n = (table.number(name) for name in "mkn")
        return _records(table, device, every, time_s, operation, gemm(m, n, k))
    if operation.startswith("transformer"):
        return _transformer(table, device, operation.endswith("AR"))
    row, rate = table.number("row"), table.number("rate")
    width = table.number("width") if "width" in table.columns else row
    row = row if "width" in table.columns else np.ones(row.shape)
    time_s = np.divide(row * width, rate * _GIGA, out=np.full(row.shape, np.nan), where=rate > 0)
    family = {"softmax": Family.SOFTMAX, "layernorm": Family.NORM, "gelu": Family.ACTIVATION}[operation]
    return _records(table, device, every, time_s, operation, pointwise(family, row, width, width))


def _records(table: Table, device: str, take: Mask, time_s: Array, name: str, kernel: Kernel) -> Result:
    family, dims = kernel
    usable = time_s[np.isfinite(time_s) & (time_s > 0)]
    floor = float(usable.min()) if name in _COLUMNS and usable.size else 0.0
    return build(
        table,
        time_s,
        take,
        family=family,
        device=PROFILE_OF[device],
        backend="pytorch",
        version="",
        kernel=name,
        precision=plain(Dtype.FP16),
        loop=BenchmarkLoop(operand_copies=1.0, launch_floor_s=floor),
        **dims,
    )


def _milliseconds(table: Table) -> Array:
    cells = table.text("time")
    other = ~np.char.endswith(cells, "ms")
    if other.any():
        raise RooflineError(f"{table.source.name}: time {clip(str(cells[other][0]))} is not in ms.")
    stripped = Table(table.source, {"time": np.char.rstrip(cells, "ms")}, table.line)
    return stripped.number("time") * _MS


def _transformer(table: Table, device: str, decode: bool) -> Result:
    """The twelve operations of one layer, in the order of that project's plot script."""
    tokens = _SEQUENCES * (1.0 if decode else _PROMPT)
    new, keys = (1.0, _CONTEXT + 1.0) if decode else (_PROMPT, _PROMPT)
    share, wide, products = _HIDDEN / _DEVICES, 4.0 * _HIDDEN / _DEVICES, _SEQUENCES * _HEADS
    one = np.ones(table.line.shape)
    row = tokens * one

    def per_head(n: float, k: float) -> Kernel:
        return Family.GEMM, {"m": new * one, "n": n, "k": k, "copies": products}

    def reduce() -> Kernel:
        payload = tokens * _HIDDEN * VALUE_BYTE * one
        return Family.ALL_REDUCE, {"payload_byte": payload, "group_size": _DEVICES, "node_size": _DEVICES}

    norm = pointwise(Family.NORM, row, _HIDDEN, _HIDDEN)
    operations: tuple[tuple[str, Kernel, float], ...] = (
        ("qkv_projection", gemm(row, share, _HIDDEN), 3.0),
        ("attention_scores", per_head(keys, _HEAD_DIM), 1.0),
        ("attention_values", per_head(_HEAD_DIM, keys), 1.0),
        ("output_projection", gemm(row, _HIDDEN, share), 1.0),
        ("mlp_up", gemm(row, wide, _HIDDEN), 1.0),
        ("mlp_down", gemm(row, _HIDDEN, wide), 1.0),
        ("softmax", pointwise(Family.SOFTMAX, products * new * one, keys, keys), 1.0),
        ("attention_norm", norm, 1.0),
        ("mlp_norm", norm, 1.0),
        ("gelu", pointwise(Family.ACTIVATION, row, wide, wide), 1.0),
        ("attention_all_reduce", reduce(), 1.0),
        ("mlp_all_reduce", reduce(), 1.0),
    )
    time_s = table.number("time")
    if time_s.size != len(operations):
        raise RooflineError(
            f"{table.source.name}: {time_s.size} rows, but one layer has {len(operations)} operations in this layout."
        )
    return join(
        _records(table, device, np.arange(time_s.size) == position, time_s / calls, name, kernel)
        for position, (name, kernel, calls) in enumerate(operations)
    )
