"""Measurement records as kernels: the same shapes that a step of a model is made of."""

from collections.abc import Iterator

import numpy as np

from ..io.records import Family, Records
from ..kernels import KernelGroup, Work
from ..kernels.attention import AttentionShape, FusedAttention
from ..kernels.collective import Collective, CollectiveKind
from ..kernels.gemm import Gemm
from ..kernels.moe import ExpertGemm
from ..kernels.pointwise import Pointwise
from ..structs import STORED_BYTE, Dtype

_ROWWISE = frozenset(
    {
        Family.NORM,
        Family.ACTIVATION,
        Family.ROPE,
        Family.RESIDUAL,
        Family.EMBEDDING,
        Family.SOFTMAX,
        Family.SAMPLING,
        Family.MASK,
        Family.COPY,
    }
)
_COLLECTIVES = {
    Family.ALL_REDUCE: CollectiveKind.ALL_REDUCE,
    Family.ALL_GATHER: CollectiveKind.ALL_GATHER,
    Family.REDUCE_SCATTER: CollectiveKind.REDUCE_SCATTER,
    Family.ALL_TO_ALL: CollectiveKind.ALL_TO_ALL,
    Family.POINT_TO_POINT: CollectiveKind.POINT_TO_POINT,
}


def work_of(records: Records) -> Iterator[Work]:
    """The kernels that one row of `records` is the time of, each with one value per row; nothing for families that
    are not single kernels of a step (whole layers, mixed batches, latent attention).
    """
    dims, formats = records.dims, records.precision
    zero = np.zeros(records.size)
    output = max(formats.activation, Dtype.FP16, key=STORED_BYTE.__getitem__)
    if records.family is Family.GEMM:
        yield Gemm(dims["m"], dims["n"], dims["k"], dims["copies"], zero, formats.weight, formats.activation, output)
    elif records.family in (Family.PREFILL_ATTENTION, Family.DECODE_ATTENTION):
        shape = AttentionShape(
            **{name: dims[name] for name in ("sequences", "new_token", "context", "heads", "kv_heads", "head_dim")},
            value_dim=dims["head_dim"],
            window=dims["window"],
            cache_value=2.0 * dims["kv_heads"] * dims["head_dim"],
            query=formats.activation,
            cache=formats.cache,
            causal=True,
        )
        yield FusedAttention(shape, records.family is Family.DECODE_ATTENTION)
    elif records.family is Family.MOE:
        width = dims["width"] / dims["tensor_parallel"]
        for n, k in ((2.0 * width, dims["hidden"]), (dims["hidden"], width)):
            local = dims["experts"] / dims["expert_parallel"]
            yield ExpertGemm(
                dims["token"], dims["per_token"], dims["experts"], local, n, k, zero,
                formats.weight, formats.activation, output,
            )  # fmt: skip
    elif records.family in _COLLECTIVES:
        yield Collective(_COLLECTIVES[records.family], 1.0, dims["payload_byte"], dims["group_size"])
    elif records.family in _ROWWISE:
        row = dims["row"]
        yield Pointwise(row, zero, dims["read_byte"], dims["write_byte"], zero, zero, np.ones(records.size), ())


def group_of(work: Work) -> KernelGroup:
    """One kernel per row of a record, as a group of its own."""
    return KernelGroup(("measured",), (0,), np.ones((1, 1)), work)
