"""Measurement records: measured times of one kind of kernel under one backend on one device, as arrays."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import RooflineError
from ..structs import Array, Dtype
from ..timing.loop import BenchmarkLoop


class Family(StrEnum):
    """What kind of kernel was measured; it decides the dimensions of a record (DIMENSIONS)."""

    GEMM = "gemm"
    PREFILL_ATTENTION = "prefill_attention"
    DECODE_ATTENTION = "decode_attention"
    MIXED_ATTENTION = "mixed_attention"
    MOE = "moe"
    LATENT_PREFILL = "latent_prefill"
    LATENT_DECODE = "latent_decode"
    ALL_REDUCE = "all_reduce"
    ALL_GATHER = "all_gather"
    REDUCE_SCATTER = "reduce_scatter"
    ALL_TO_ALL = "all_to_all"
    POINT_TO_POINT = "point_to_point"
    NORM = "norm"
    ACTIVATION = "activation"
    ROPE = "rope"
    RESIDUAL = "residual"
    EMBEDDING = "embedding"
    SOFTMAX = "softmax"
    SAMPLING = "sampling"
    MASK = "mask"
    COPY = "copy"
    LAYER = "layer"
    MODEL = "model"
    SERVING = "serving"


_ATTENTION = ("sequences", "new_token", "context", "heads", "kv_heads", "head_dim", "window")
_LATENT = ("sequences", "new_token", "context", "heads", "kv_rank", "rope_dim", "nope_dim", "value_dim")
_COLLECTIVE = ("payload_byte", "group_size", "node_size")
_ROWS = ("row", "read_byte", "write_byte")
_STEP = ("sequences", "new_token", "context")

DIMENSIONS: Mapping[Family, tuple[str, ...]] = {
    Family.GEMM: ("m", "n", "k", "copies"),
    Family.PREFILL_ATTENTION: _ATTENTION,
    Family.DECODE_ATTENTION: _ATTENTION,
    Family.MIXED_ATTENTION: (
        "new_token",
        "context",
        "decode_sequences",
        "decode_context",
        "heads",
        "kv_heads",
        "head_dim",
    ),
    Family.MOE: (
        "token",
        "hidden",
        "width",
        "experts",
        "per_token",
        "tensor_parallel",
        "expert_parallel",
        "routing_exponent",
    ),
    Family.LATENT_PREFILL: _LATENT,
    Family.LATENT_DECODE: _LATENT,
    Family.ALL_REDUCE: _COLLECTIVE,
    Family.ALL_GATHER: _COLLECTIVE,
    Family.REDUCE_SCATTER: _COLLECTIVE,
    Family.ALL_TO_ALL: _COLLECTIVE,
    Family.POINT_TO_POINT: _COLLECTIVE,
    Family.NORM: _ROWS,
    Family.ACTIVATION: _ROWS,
    Family.ROPE: _ROWS,
    Family.RESIDUAL: _ROWS,
    Family.EMBEDDING: _ROWS,
    Family.SOFTMAX: _ROWS,
    Family.SAMPLING: _ROWS,
    Family.MASK: _ROWS,
    Family.COPY: _ROWS,
    Family.LAYER: _STEP,
    Family.MODEL: _STEP,
    Family.SERVING: (
        "concurrency",
        "input_token",
        "output_token",
        "tensor_parallel",
        "expert_parallel",
        "shortest_share",
        "request_per_client",
    ),
}
"""The named dimensions of each family, all per device.

`context`: tokens cached before the call; a decode reads context + 1 keys. `window`: NO_WINDOW for full attention.
Mixed attention: one prefill chunk of `new_token` on `context`, beside `decode_sequences` decodes on `decode_context`.
`width`: of one expert before tensor parallelism. `routing_exponent`: of the power law that skews the routing (0:
balanced). `payload_byte`: the whole buffer, as in kernels.collective. `node_size`: members of the group per node.
Serving: `concurrency` clients of the whole deployment, lengths drawn evenly from `shortest_share` times the nominal
tokens to all of them. `read_byte`, `write_byte`: per row. `copies`: independent products of one call.
"""

_STEPS_OF_FAMILY: Mapping[Family, str] = {
    Family.GEMM: (
        "qkv_proj q_proj k_proj v_proj o_proj gate_up_proj up_proj down_proj shared_gate_up_proj shared_up_proj "
        "shared_down_proj router shared_gate lm_head pooler embedding_in_proj embedding_out_proj attention_scores "
        "attention_values q_a_proj q_b_proj kv_a_proj kv_b_proj q_absorb v_absorb"
    ),
    Family.MOE: "experts experts_gate_up experts_up experts_down",
    Family.NORM: (
        "attention_norm mlp_norm attention_output_norm mlp_output_norm qk_norm q_a_norm kv_a_norm embedding_norm "
        "final_norm"
    ),
    Family.ACTIVATION: "activation shared_activation experts_activation",
    Family.RESIDUAL: "attention_residual mlp_residual shared_sum experts_sum",
    Family.COPY: "kv_append head_concat",
    Family.SAMPLING: "sampling route_topk",
    Family.ROPE: "rope",
    Family.EMBEDDING: "embedding",
    Family.MASK: "scale_mask",
    Family.SOFTMAX: "softmax",
    Family.PREFILL_ATTENTION: "attention",
}

FAMILY_OF_STEP = {step: family for family, steps in _STEPS_OF_FAMILY.items() for step in steps.split()}
"""What kind of record each step gives; a sliding window adds `_sliding` to the names of attention's inner steps."""

MAY_BE_ZERO = frozenset({"context", "new_token", "decode_sequences", "decode_context", "routing_exponent", "read_byte"})
"""Dimensions for which zero is a size; every other one is positive."""


@dataclass(frozen=True, slots=True)
class Precision:
    """The number formats of one kernel; `label` also tells apart schemes with the same formats (fp8, fp8_block)."""

    label: str
    activation: Dtype
    weight: Dtype
    cache: Dtype


@dataclass(frozen=True, slots=True, eq=False)
class Records:
    """Measured times of one family on one `device` under one `backend`, `version`, `kernel` and `precision`.

    `device` is the name of a hardware profile, `kernel` what the source calls the kernel (or the step, for the
    project's own records). `dims` holds DIMENSIONS[family], `measured_s` and `line` (where in `source`, from 1) one
    value per row. `source` is relative to the directory that was read, `digest` the SHA-256 of that file.
    """

    family: Family
    device: str
    backend: str
    version: str
    kernel: str
    precision: Precision
    loop: BenchmarkLoop
    dims: Mapping[str, Array]
    measured_s: Array
    line: Array
    source: str
    digest: str

    @property
    def size(self) -> int:
        """Number of rows."""
        return self.measured_s.size

    @property
    def name(self) -> str:
        """One line that names the group in messages and reports."""
        parts = (self.family, self.kernel, self.precision.label, self.backend, self.version, self.device)
        return " ".join(part for part in parts if part)

    def key(self, row: int) -> str:
        """A name of one row that stays the same as long as its file does: `file:line family`."""
        return f"{self.source}:{self.line[row]:.0f} {self.family}"

    def take(self, rows: NDArray[Any]) -> "Records":
        """The records at `rows` (indices or a mask)."""
        return replace(
            self,
            loop=self.loop.take(rows, self.size),
            dims={name: values[rows] for name, values in self.dims.items()},
            measured_s=self.measured_s[rows],
            line=self.line[rows],
        )


@dataclass(frozen=True, slots=True)
class Refused:
    """`n` rows (or files) that were not taken, why, and where the first of them is."""

    reason: str
    n: int
    example: str


@dataclass(frozen=True, slots=True)
class RepeatNoise:
    """How far two measurements of one shape differ, as fractions; NaN where no shape was measured twice."""

    pairs: int
    median: float
    mean: float
    p90: float


def checked(records: Records) -> tuple[Records, tuple[Refused, ...]]:
    """The rows whose time and dimensions are usable, and the others with the reason.

    Errors: RooflineError where a dimension of the family is missing, unknown or of another length.
    """
    needed = DIMENSIONS[records.family]
    missing, surplus = set(needed) - set(records.dims), set(records.dims) - set(needed)
    if missing or surplus:
        raise RooflineError(
            f"dims: {records.source}: {records.family} has missing {sorted(missing)}, unknown {sorted(surplus)}. "
            f"Accepted: {', '.join(needed)}."
        )
    if any(values.shape != records.measured_s.shape for values in records.dims.values()):
        raise RooflineError(f"dims: {records.source}: dimensions and times differ in length.")
    refused: list[Refused] = []
    good = np.ones(records.size, dtype=bool)

    def refuse(bad: NDArray[np.bool_], reason: str) -> None:
        bad = bad & good
        if bad.any():
            refused.append(Refused(reason, int(bad.sum()), records.key(int(np.argmax(bad)))))
            np.logical_and(good, ~bad, out=good)

    refuse(~np.isfinite(records.measured_s), "the time is missing or not a number")
    refuse(records.measured_s <= 0, "the time is zero or negative")
    for name in needed:
        values = records.dims[name]
        refuse(~np.isfinite(values), f"{name} is missing or not a number")
        refuse(values < 0 if name in MAY_BE_ZERO else values <= 0, f"{name} is not a size")
    return (records if good.all() else records.take(good)), tuple(refused)


def sizes_of_records(records: Records) -> dict[str, Array]:
    """The sizes of each row that its timing model depends on, under the names of timing.confidence.sizes_of:
    an expert's width after tensor parallelism, nothing of how records were made.
    """
    sizes = dict(records.dims)
    if records.family is Family.MOE:
        sizes["width"] = sizes["width"] / sizes.pop("tensor_parallel")
        del sizes["routing_exponent"]  # a step of a model has its own routing
    sizes.pop("node_size", None)
    return sizes


def shape_index(records: Records) -> NDArray[np.intp]:
    """For each row, the index of its distinct shape (equal dimensions, equal index), counted from 0."""
    table = np.stack([records.dims[name] for name in DIMENSIONS[records.family]], axis=1)
    _, index = np.unique(table, axis=0, return_inverse=True)
    return index.reshape(-1)


def collapse(records: Records) -> tuple[Records, RepeatNoise]:
    """One row per distinct shape with the median of its times, in order of first appearance, and the repeat noise.

    The noise compares neighbouring measurements of the same shape: |a / b - 1|. A fit below it is luck.
    """
    if records.size == 0:
        return records, RepeatNoise(0, np.nan, np.nan, np.nan)
    index = shape_index(records)
    order = np.lexsort((records.measured_s, index))
    sorted_index, times = index[order], records.measured_s[order]
    start = np.flatnonzero(np.diff(sorted_index, prepend=-1))
    count = np.diff(np.append(start, times.size))
    median = 0.5 * (times[start + (count - 1) // 2] + times[start + count // 2])
    first = np.minimum.reduceat(order, start)
    appearance = np.argsort(first)
    collapsed = replace(records.take(first[appearance]), measured_s=median[appearance])

    by_time = np.argsort(index, kind="stable")  # rows of one shape side by side, in the order of the file
    same = np.diff(index[by_time]) == 0
    repeated = records.measured_s[by_time]
    difference = np.abs(repeated[1:][same] / repeated[:-1][same] - 1.0)
    if difference.size == 0:
        return collapsed, RepeatNoise(0, np.nan, np.nan, np.nan)
    noise = RepeatNoise(
        pairs=difference.size,
        median=float(np.median(difference)),
        mean=float(np.mean(difference)),
        p90=float(np.quantile(difference, 0.9)),
    )
    return collapsed, noise
