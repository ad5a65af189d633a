"""Timing of a step's kernels by fitted models: each work is handed to the formula that its parameters belong to."""

from collections.abc import Sequence
from dataclasses import fields, replace
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np

from ..device import Device
from ..errors import InfeasibleError
from ..kernels import Work
from ..kernels.attention import FusedAttention, MixedAttention, UnfusedAttention, WholeLatentAttention
from ..kernels.collective import Collective
from ..kernels.gemm import Gemm
from ..kernels.moe import ExpertLayer
from ..kernels.pointwise import Pointwise, pointwise_cost
from ..structs import FLOP_PER_FMA, STORED_BYTE, Dtype, arithmetic_dtype
from .calibration import Fitted, Parameters
from .chip import chip_of
from .collective import collective_time
from .cpu import CpuAttentionParameters, CpuGemmParameters, CpuRowParameters
from .cpu_step import cpu_time, products_of, rows_of
from .decode_attention import DecodeAttentionParameters, decode_attention_time
from .direct_all_reduce import DirectParameters
from .gemm import GemmParameters, gemm_time
from .latent_attention import LatentAttentionParameters, latent_attention_time
from .mixed_attention import MixedAttentionParameters, mixed_attention_time
from .moe import MoeParameters, moe_time
from .nccl import RingParameters
from .pointwise import PointwiseParameters, pointwise_time
from .prefill_attention import PrefillAttentionParameters, prefill_attention_time
from .quantised_gemm import QuantisedGemmParameters, quantised_gemm_time
from .routing import UniformRouting
from .systolic import (
    SystolicAttentionParameters,
    SystolicGatherParameters,
    SystolicGemmParameters,
    systolic_decode_time,
    systolic_gather_time,
    systolic_gemm_time,
    systolic_prefill_time,
)
from .time import Time


def calibrated_time(work: Work, device: Device, fitted: Sequence[Fitted]) -> Time:
    """Time of one execution of each kernel of `work` in a model's step: operands from DRAM, launched from a graph.

    `fitted` has the entries of calibration.keys_of(work). Shapes as the Work's.
    Errors: InfeasibleError where the device has no link that a collective needs.
    """
    parameters = tuple(entry.parameters for entry in fitted)
    match work, parameters[0]:
        case Gemm(), GemmParameters() as own:
            dtype = arithmetic_dtype(work.activation, work.weight)
            time = gemm_time(
                work.m,
                work.n,
                work.k,
                chip=chip_of(device, dtype),
                parameters=own,
                activation=work.activation,
                weight=work.weight,
                output=work.output,
                products=work.copies,
            )
        case Gemm(), QuantisedGemmParameters() as own:
            time = quantised_gemm_time(
                work.m,
                work.n,
                work.k,
                chip=chip_of(device, arithmetic_dtype(work.activation, work.weight)),
                parameters=own,
                activation=work.activation,
                weight=work.weight,
                products=work.copies,
            )
        case Gemm(), SystolicGemmParameters() as own:
            value_byte, weight_byte = STORED_BYTE[work.activation], STORED_BYTE[work.weight]
            chip = chip_of(device, arithmetic_dtype(work.activation, work.weight))
            time = systolic_gemm_time(work.m, work.n, work.k, value_byte, chip, own, work.copies, weight_byte)
        case ExpertLayer(), MoeParameters() as own:
            time = moe_time(
                work.token,
                work.hidden,
                work.width,
                work.per_token,
                work.experts,
                ranks=work.experts / work.local_experts,
                chip=chip_of(device, arithmetic_dtype(work.activation, work.weight)),
                parameters=own,
                routing=UniformRouting(),
                activation=work.activation,
                weight=work.weight,
            )
        case FusedAttention(), (
            PrefillAttentionParameters() | DecodeAttentionParameters() | SystolicAttentionParameters()
        ) as own:
            time = _attention_time(work, device, _of_a_step(own))
        case WholeLatentAttention(), LatentAttentionParameters() as own:
            # W_UK and W_UV in 16 bits whatever the weights are stored in: libraries widen them once, when they load.
            time = latent_attention_time(
                *(work.sequences, work.new_token, work.context),
                *(work.heads, work.kv_rank, work.rope_dim, work.nope_dim, work.value_dim),
                kv_byte=STORED_BYTE[work.cache],
                chip=chip_of(device, work.query),
                parameters=own,
            )
        case MixedAttention(prompts, decodes), MixedAttentionParameters() as own:
            time = mixed_attention_time(
                prompts.new_token,
                prompts.context,
                decodes.sequences,
                decodes.context,
                prompts.heads,
                prompts.kv_heads,
                prompts.head_dim,
                prompts=prompts.sequences,
                window=prompts.window,
                kv_byte=STORED_BYTE[prompts.cache],
                chip=chip_of(device, prompts.query),
                parameters=own,
            )
        case Collective(), RingParameters() | DirectParameters() as own:
            if device.intra_node is None:
                raise InfeasibleError(f"link: {device.name} has no link between devices in its profile.")
            payload = work.row * work.row_byte
            time = collective_time(work.kind, payload, work.group, device.intra_node, device.inter_node, own)
        case Pointwise(), PointwiseParameters():
            time = _pointwise_time(work, device, _stacked(PointwiseParameters, parameters))
        case Pointwise(), SystolicGatherParameters():
            time = _pointwise_time(work, device, _stacked(SystolicGatherParameters, parameters))
        case UnfusedAttention(shape, step), GemmParameters() as own:
            m, n, k, copies = products_of(shape, step)
            time = gemm_time(m, n, k, chip=chip_of(device, shape.query), parameters=own, products=copies)
        case UnfusedAttention(shape), PointwiseParameters() as own:
            row, byte = rows_of(work)
            time = pointwise_time(row, byte, byte, chip_of(device, shape.query), own)
        case _, CpuGemmParameters() | CpuRowParameters() | CpuAttentionParameters():
            time = cpu_time(work, device, parameters)  # type: ignore[arg-type]
        case _, own:
            raise TypeError(f"{type(own).__name__} are no parameters of {type(work).__name__}")
    return time


_AttentionParameters = PrefillAttentionParameters | DecodeAttentionParameters | SystolicAttentionParameters


def _attention_time(work: FusedAttention, device: Device, parameters: _AttentionParameters) -> Time:
    shape = work.shape
    chip = chip_of(device, shape.query)
    query_byte, kv_byte = STORED_BYTE[shape.query], STORED_BYTE[shape.cache]
    heads = (shape.heads, shape.kv_heads, shape.head_dim, shape.window)
    match parameters:
        case PrefillAttentionParameters():
            return prefill_attention_time(
                shape.sequences,
                shape.new_token,
                shape.context,
                *heads,
                query_byte=query_byte,
                kv_byte=kv_byte,
                causal=shape.causal,
                chip=chip,
                parameters=parameters,
            )
        case DecodeAttentionParameters():
            return decode_attention_time(
                shape.sequences,
                shape.context,
                *heads,
                kv_byte=kv_byte,
                chip=chip,
                parameters=parameters,
            )
        case SystolicAttentionParameters():
            token_byte = 2.0 * shape.heads * shape.head_dim * query_byte
            cached = shape.cache_value * kv_byte
            pair_flop, window = 2.0 * FLOP_PER_FMA * shape.heads * shape.head_dim, shape.window
            old = shape.context
            if work.decoding:
                return systolic_decode_time(
                    shape.sequences, old, token_byte, cached, chip, parameters, pair_flop=pair_flop, window=window
                )
            return systolic_prefill_time(
                *(shape.sequences, shape.new_token, old, token_byte, cached, chip, parameters),
                pair_flop=pair_flop,
                window=window,
            )


@lru_cache(maxsize=64)
def _of_a_step(measured: _AttentionParameters) -> _AttentionParameters:
    """The parameters without the write to the cache: kv_append is a kernel of its own in a step. Remembered."""
    match measured:
        case PrefillAttentionParameters() | DecodeAttentionParameters():
            return replace(measured, writes_cache=False)
        case SystolicAttentionParameters():
            return measured


P = TypeVar("P", PointwiseParameters, SystolicGatherParameters)


def _stacked(kind: type[P], parameters: Sequence[Parameters]) -> P:
    """The parameters of several kernels as one: each field an array over the kernels."""
    columns: dict[str, Any] = {
        entry.name: np.array([getattr(own, entry.name) for own in parameters]) for entry in fields(kind)
    }
    return kind(**columns)


def _pointwise_time(work: Pointwise, device: Device, stacked: PointwiseParameters | SystolicGatherParameters) -> Time:
    """All kernels of the group at once, with parameters over the kernels.

    Never faster than the bare roofline of the datasheet, DRAM and vector units: whether an input is still in cache when
    a step gets to it is not something to promise, though the measured loops had it there.
    """
    written = work.write_byte + work.kv_write_byte
    chip = chip_of(device, next(iter(device.matrix_flop_per_s), Dtype.BF16))
    match stacked:
        case PointwiseParameters():
            time = pointwise_time(work.row, work.read_byte, written, chip, stacked)
        case SystolicGatherParameters():
            time = systolic_gather_time(work.row, work.read_byte, written, chip, stacked)
    fused = (1.0 - work.launch) * stacked.launch_s
    cost = pointwise_cost(work)
    bare_s = np.maximum(cost.vector_flop / device.vector_flop_per_s, cost.memory_byte / chip.dram_byte_per_s)
    return Time(
        time.compute_s,
        time.memory_s,
        time.link_s,
        time.overhead_s - fused,
        np.maximum(time.total_s - fused, bare_s),
        np.asarray(bare_s),
    )
