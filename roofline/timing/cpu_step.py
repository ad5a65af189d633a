"""A step's kernels on a processor: each work handed to the formula of timing.cpu that its parameters belong to."""

from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np

from ..device import Device
from ..kernels import Work
from ..kernels.attention import AttentionShape, FusedAttention, UnfusedAttention, UnfusedStep, key_count
from ..kernels.gemm import Gemm
from ..kernels.moe import ExpertGemm, ExpertLayer, touched_experts
from ..kernels.pointwise import Pointwise
from ..structs import STORED_BYTE, Dtype, Number, arithmetic_dtype
from .cpu import (
    CpuAttentionParameters,
    CpuGemmParameters,
    CpuParameters,
    CpuRowParameters,
    cpu_attention_time,
    cpu_gemm_time,
    cpu_row_time,
    processor_of,
)
from .loop import MODEL_STEP, BenchmarkLoop
from .time import Time

Sizes = tuple[Number, Number, Number, Number]
"""m, n, k and how many products."""


def products_of(shape: AttentionShape, step: UnfusedStep) -> Sizes:
    """The products of Q·Kᵀ or P·V: one per sequence and KV head, with the rows of all its queries."""
    keys = key_count(shape.new_token, shape.context, shape.window)
    row, copies = shape.new_token * shape.heads / shape.kv_heads, shape.sequences * shape.kv_heads
    return (row, keys, shape.head_dim, copies) if step is UnfusedStep.SCORES else (row, shape.value_dim, keys, copies)


def rows_of(work: UnfusedAttention) -> tuple[Number, Number]:
    """Rows (one per query and head) and bytes of each, read and written alike, of a step that multiplies nothing. None
    where the heads of one token are put side by side: they are already.
    """
    shape = work.shape
    row = shape.sequences * shape.heads * shape.new_token
    if work.step is UnfusedStep.HEAD_CONCAT:
        several = np.clip(np.asarray(shape.new_token, dtype=np.float64) - 1.0, 0.0, 1.0)
        return several * row, shape.value_dim * STORED_BYTE[shape.query]
    return row, key_count(shape.new_token, shape.context, shape.window) * STORED_BYTE[shape.query]


def expert_products(
    token: Number, per_token: Number, experts: Number, local: Number, n: Number, k: Number
) -> tuple[Sizes, Sizes]:
    """The products of a layer's experts with a single row, and of those with several, each with its share of them:
    tokens choose alike, so that an expert's rows are binomial.
    """
    share = np.asarray(per_token / experts, dtype=np.float64)
    alone = local * token * share * np.where(share < 1.0, 1.0 - share, 0.0) ** (np.asarray(token) - 1.0)
    others = np.maximum(touched_experts(token, per_token, experts, local) - alone, 0.0)
    row = np.maximum((token * per_token * local / experts - alone) / np.maximum(others, 1e-9), 1.0)
    return (1.0, n, k, alone), (row, n, k, others)


def add_times(first: Time, second: Time) -> Time:
    """Two kernels one after the other as one."""
    return Time(*(getattr(first, name) + getattr(second, name) for name in Time.__slots__))


def expert_time(
    parts: tuple[Sizes, Sizes],
    value: Dtype,
    weight: Dtype,
    device: Device,
    parameters: CpuGemmParameters,
    loop: BenchmarkLoop = MODEL_STEP,
) -> Time:
    """product_time of both parts of expert_products in one call."""
    alone, others = parts
    first = product_time(alone, value, weight, device, replace(parameters, call_s=0.0), loop)
    return add_times(first, product_time(others, value, weight, device, parameters, loop))


def expert_layer_time(
    work: ExpertLayer, device: Device, parameters: CpuGemmParameters, loop: BenchmarkLoop = MODEL_STEP
) -> Time:
    """Both products of every expert that has rows. Ignores: sorting, activation, sum (part of the call)."""
    routed = (work.token, work.per_token, work.experts, work.local_experts)
    up = expert_products(*routed, work.inputs * work.width, work.hidden)
    down = expert_products(*routed, work.hidden, work.width)
    formats = (work.activation, work.weight)
    return add_times(
        expert_time(up, *formats, device, parameters, loop), expert_time(down, *formats, device, parameters, loop)
    )


def product_time(
    sizes: Sizes,
    value: Dtype,
    weight: Dtype,
    device: Device,
    parameters: CpuGemmParameters,
    loop: BenchmarkLoop = MODEL_STEP,
) -> Time:
    """cpu_gemm_time with operands in these formats."""
    return cpu_gemm_time(
        *sizes,
        weight_byte=STORED_BYTE[weight],
        value_byte=STORED_BYTE[value],
        processor=processor_of(device, arithmetic_dtype(value, weight)),
        parameters=parameters,
        loop=loop,
    )


def cpu_time(work: Work, device: Device, parameters: Sequence[CpuParameters]) -> Time:
    """Time of one execution of each kernel of `work` in a step of a model: weights and KV cache come from DRAM.

    `parameters`: one for each kernel of a Pointwise group, else one. Errors: TypeError where they are of another work.
    """
    match work, parameters[0]:
        case Gemm(), CpuGemmParameters() as own:
            return product_time((work.m, work.n, work.k, work.copies), work.activation, work.weight, device, own)
        case ExpertGemm(), CpuGemmParameters() as own:
            parts = expert_products(work.token, work.per_token, work.experts, work.local_experts, work.n, work.k)
            return expert_time(parts, work.activation, work.weight, device, own)
        case ExpertLayer(), CpuGemmParameters() as own:
            return expert_layer_time(work, device, own)
        case UnfusedAttention(), CpuGemmParameters() as own:
            return product_time(products_of(work.shape, work.step), work.shape.query, work.shape.cache, device, own)
        case UnfusedAttention(), CpuRowParameters() as own:
            row, byte = rows_of(work)
            return cpu_row_time(row, byte, byte, processor=processor_of(device, work.shape.query), parameters=own)
        case Pointwise(), CpuRowParameters():
            processor = processor_of(device, Dtype.FP32)
            written = work.write_byte + work.kv_write_byte
            read = work.read_byte + work.weight_byte / np.maximum(work.row, 1.0)
            stacked = _stacked([entry for entry in parameters if isinstance(entry, CpuRowParameters)])
            return cpu_row_time(work.row, read, written, work.weight_byte, processor=processor, parameters=stacked)
        case FusedAttention(), CpuAttentionParameters() as own:
            shape = work.shape
            return cpu_attention_time(
                *(shape.sequences, shape.new_token, shape.context, shape.heads, shape.kv_heads, shape.head_dim),
                shape.window,
                kv_byte=STORED_BYTE[shape.cache],
                processor=processor_of(device, shape.query),
                parameters=own,
                causal=shape.causal,
            )
        case _, other:
            raise TypeError(f"{type(other).__name__} are no parameters of {type(work).__name__}")


def _stacked(parameters: Sequence[CpuRowParameters]) -> CpuRowParameters:
    """Parameters of several kernels as arrays over the kernels."""
    names = [entry.name for entry in fields(CpuRowParameters)]
    return CpuRowParameters(**{name: np.array([getattr(entry, name) for entry in parameters]) for name in names})  # type: ignore[arg-type]
