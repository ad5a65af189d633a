"""A served model whose step times are straight lines, so that steady states can be derived by hand."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from roofline.serving.engine import ChunkedPrefill, Engine, HostCost, KernelScale, Limits
from roofline.serving.memory import kv_memory
from roofline.serving.source import ALL_REDUCE, ATTENTION, GEMM, OTHER
from roofline.serving.step import ServedModel
from roofline.timing import Band

from ..builders import device, model, scenario


@dataclass(frozen=True)
class LineTimes:
    """body = 1 ms + 10 us per token (in GEMM), head = 0, attention = 1 us per decode and 0.1 us per prompt token."""

    fixed_s: float = 1e-3
    token_s: float = 1e-5
    decode_s: float = 1e-6
    prompt_s: float = 1e-7
    one_launch: bool = False

    def body(self, token: Any) -> Any:
        token = np.asarray(token, dtype=np.float64)
        rows = np.zeros((*token.shape, 1, ATTENTION, 2))
        rows[..., 0, GEMM, 0] = self.fixed_s + self.token_s * token
        return rows

    def head(self, sampled: Any) -> Any:
        return np.zeros((*np.shape(sampled), 1, ATTENTION, 2))

    def prefill_attention(
        self, sequence: Any, new_token: Any, context: Any, decode_sequence: Any = 0.0, decode_context: Any = 0.0
    ) -> Any:
        beside = 0.0 * np.asarray(context) + 0.0 * np.asarray(decode_sequence) * decode_context
        return _pair(self.prompt_s * np.asarray(sequence) * new_token + beside)

    def decode_attention(self, sequence: Any, context: Any) -> Any:
        return _pair(self.decode_s * np.asarray(sequence) + 0.0 * np.asarray(context))


def _pair(seconds: Any) -> Any:
    return np.stack([seconds, np.zeros_like(seconds)], axis=-1)[..., None, :]


ENGINE = Engine(
    name="made",
    title="Made",
    release="1",
    backend="made",
    schedule=ChunkedPrefill(),
    host=HostCost(),
    scale=KernelScale(),
    limits=Limits(max_batch_token=1024.0, max_sequence=64.0, memory_fraction=1.0, reserve_byte=0.0),
    reserved_output=0.0,
    prefill_wait=1.0,
    own_kernels=(),
    tpot_band=Band(0.9, 1.1, "made"),
    ttft_band=Band(0.9, 1.1, "made"),
)


def served(engine: Engine = ENGINE, times: Any = None, **changes: Any) -> ServedModel:
    """A replica of the small test model on the test device under `engine`, timed by LineTimes."""
    shape, where = model(), device()
    base = ServedModel(
        engine=engine,
        times=times or LineTimes(),
        memory=kv_memory(shape, where, scenario(), engine.limits),
        layers=np.array([4.0]),
        replicas=1.0,
    )
    return replace(base, **changes)


__all__ = ["ALL_REDUCE", "ENGINE", "GEMM", "OTHER", "LineTimes", "served"]
