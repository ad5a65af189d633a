"""Which timing model a family of records is predicted by."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..device import Device
from ..errors import RooflineError
from ..io.records import Family, Records, sizes_of_records
from ..kernels import KernelGroup
from ..kernels.collective import CollectiveKind
from ..structs import FLOP_PER_FMA, STORED_BYTE, Dtype, arithmetic_dtype
from ..timing import Band, Calibration, KernelFamily, WorkingSet, fit_of, typical_time
from ..timing.calibration import DATASHEET_FAMILY, Key, Parameters, family_of, format_label
from ..timing.chip import Chip, chip_of
from ..timing.collective import collective_time
from ..timing.confidence import confidence
from ..timing.cpu import CpuAttentionParameters, CpuGemmParameters, CpuRowParameters
from ..timing.datasheet import datasheet_time
from ..timing.decode_attention import DecodeAttentionParameters, decode_attention_time
from ..timing.direct_all_reduce import DirectParameters
from ..timing.gemm import GemmParameters, gemm_time
from ..timing.latent_attention import LatentAttentionParameters, latent_attention_time
from ..timing.loop import BenchmarkLoop, must_come_from_dram_byte
from ..timing.mixed_attention import MixedAttentionParameters, mixed_attention_time
from ..timing.moe import MoeParameters, moe_time
from ..timing.nccl import RingParameters
from ..timing.pointwise import PointwiseParameters, pointwise_time
from ..timing.prefill_attention import PrefillAttentionParameters, prefill_attention_time
from ..timing.quantised_gemm import QuantisedGemmParameters, quantised_gemm_time
from ..timing.routing import BalancedRouting, PowerLawRouting, Remainder, Routing
from ..timing.systolic import (
    SystolicAttentionParameters,
    SystolicGatherParameters,
    SystolicGemmParameters,
    systolic_decode_time,
    systolic_gather_time,
    systolic_gemm_time,
    systolic_prefill_time,
)
from ..timing.time import Time
from .cpu import cpu_records_time
from .work import group_of, work_of

COLLECTIVES = {
    Family.ALL_REDUCE: CollectiveKind.ALL_REDUCE,
    Family.ALL_GATHER: CollectiveKind.ALL_GATHER,
    Family.REDUCE_SCATTER: CollectiveKind.REDUCE_SCATTER,
    Family.ALL_TO_ALL: CollectiveKind.ALL_TO_ALL,
    Family.POINT_TO_POINT: CollectiveKind.POINT_TO_POINT,
}


def key_of(records: Records) -> Key:
    """The calibration entry that `records` belong to: family and format (bf16 and fp16 are one)."""
    if records.family in COLLECTIVES or records.family not in _BY_FORMAT:
        return _OWN_STEPS.get(records.kernel.removesuffix("_sliding"), str(records.family)), "bf16"
    formats = records.precision
    if records.precision.label in ("fp8_block", "int8_weight_only", "int4_weight_only"):
        return str(records.family), records.precision.label
    stored = formats.weight if records.family in (Family.GEMM, Family.MOE) else formats.cache
    step = records.kernel.removesuffix("_sliding")
    return _OWN_STEPS.get(step, str(records.family)), format_label(formats.activation, stored)


_OWN_STEPS = {
    "attention_scores": "attention_scores",
    "attention_values": "attention_values",
    "experts_gate_up": "expert_gemm",
    "experts_up": "expert_gemm",
    "experts_down": "expert_gemm",
    "head_concat": "head_concat",
    "route_topk": "routing",
    "experts_sum": "experts_sum",
}
"""Steps of the project's own records that libraries run otherwise than the rest of their family."""

_BY_FORMAT = frozenset(
    {
        Family.GEMM,
        Family.MOE,
        Family.PREFILL_ATTENTION,
        Family.DECODE_ATTENTION,
        Family.MIXED_ATTENTION,
        Family.LATENT_PREFILL,
        Family.LATENT_DECODE,
    }
)


def parameters_time(records: Records, device: Device, parameters: Parameters) -> Time:
    """Time of every row of `records` by the model that `parameters` belong to, in the loop it was measured in.

    Errors: RooflineError where the model is not one of this family, or the device lacks a link.
    """
    dims, formats, loop = records.dims, records.precision, records.loop
    chip = chip_of(device, _arithmetic(records))
    match parameters:
        case GemmParameters():
            output = max(formats.activation, Dtype.FP16, key=STORED_BYTE.__getitem__)
            return gemm_time(
                dims["m"],
                dims["n"],
                dims["k"],
                chip=chip,
                parameters=parameters,
                activation=formats.activation,
                weight=formats.weight,
                output=output,
                products=dims["copies"],
                loop=loop,
            )
        case QuantisedGemmParameters():
            return quantised_gemm_time(
                dims["m"],
                dims["n"],
                dims["k"],
                chip=chip,
                parameters=parameters,
                activation=formats.activation,
                weight=formats.weight,
                products=dims["copies"],
                loop=loop,
            )
        case SystolicGemmParameters():
            value_byte, weight_byte = STORED_BYTE[formats.activation], STORED_BYTE[formats.weight]
            shape = (dims["m"], dims["n"], dims["k"])
            return systolic_gemm_time(*shape, value_byte, chip, parameters, dims["copies"], weight_byte, loop)
        case MoeParameters():
            return moe_time(
                dims["token"],
                dims["hidden"],
                dims["width"] / dims["tensor_parallel"],
                dims["per_token"],
                dims["experts"],
                ranks=dims["expert_parallel"],
                chip=chip,
                parameters=parameters,
                routing=_routing(records, parameters.remainder),
                activation=formats.activation,
                weight=formats.weight,
                loop=loop,
            )
        case PrefillAttentionParameters() | DecodeAttentionParameters() | SystolicAttentionParameters():
            return _attention_time(records, chip, parameters)
        case MixedAttentionParameters():
            names = ("new_token", "context", "decode_sequences", "decode_context", "heads", "kv_heads", "head_dim")
            kv_byte = STORED_BYTE[formats.cache]
            return mixed_attention_time(
                *(dims[name] for name in names), kv_byte=kv_byte, chip=chip, parameters=parameters, loop=loop
            )
        case LatentAttentionParameters():
            latent = ("sequences", "new_token", "context", "heads", "kv_rank", "rope_dim", "nope_dim", "value_dim")
            kv_byte = STORED_BYTE[formats.cache]
            return latent_attention_time(
                *(dims[name] for name in latent), kv_byte=kv_byte, chip=chip, parameters=parameters, loop=loop
            )
        case PointwiseParameters():
            return pointwise_time(dims["row"], dims["read_byte"], dims["write_byte"], chip, parameters, loop)
        case SystolicGatherParameters():
            return systolic_gather_time(dims["row"], dims["read_byte"], dims["write_byte"], chip, parameters)
        case RingParameters() | DirectParameters():
            return _collective_time(records, device, parameters)
        case CpuGemmParameters() | CpuRowParameters() | CpuAttentionParameters():
            return cpu_records_time(records, device, parameters)


def _arithmetic(records: Records) -> Dtype:
    formats = records.precision
    if records.family in (Family.GEMM, Family.MOE):
        return arithmetic_dtype(formats.activation, formats.weight)
    return formats.activation


def _routing(records: Records, remainder: Remainder) -> Routing:
    """How the records' generator routed: one exponent for all rows of a group."""
    exponents = set(records.dims["routing_exponent"].tolist())
    if len(exponents) != 1:
        raise RooflineError(f"records: {records.name} mix routings {sorted(exponents)}. Split them first.")
    exponent = exponents.pop()
    return PowerLawRouting(exponent, remainder) if exponent else BalancedRouting()


def _attention_time(
    records: Records,
    chip: Chip,
    parameters: PrefillAttentionParameters | DecodeAttentionParameters | SystolicAttentionParameters,
) -> Time:
    dims, formats, loop = records.dims, records.precision, records.loop
    query_byte, kv_byte = STORED_BYTE[formats.activation], STORED_BYTE[formats.cache]
    heads = tuple(dims[name] for name in ("heads", "kv_heads", "head_dim", "window"))
    sequences, new, context = (dims[name] for name in ("sequences", "new_token", "context"))
    match parameters:
        case PrefillAttentionParameters():
            return prefill_attention_time(
                sequences,
                new,
                context,
                *heads,
                query_byte=query_byte,
                kv_byte=kv_byte,
                chip=chip,
                parameters=parameters,
                loop=loop,
            )
        case DecodeAttentionParameters():
            return decode_attention_time(
                sequences, context, *heads, kv_byte=kv_byte, chip=chip, parameters=parameters, loop=loop
            )
        case SystolicAttentionParameters():
            token_byte = 2.0 * dims["heads"] * dims["head_dim"] * query_byte
            cached = 2.0 * dims["kv_heads"] * dims["head_dim"] * kv_byte
            pair_flop = 2.0 * FLOP_PER_FMA * dims["heads"] * dims["head_dim"]
            decoding = records.family is Family.DECODE_ATTENTION
            window = dims["window"]
            if decoding:
                return systolic_decode_time(
                    sequences, context, token_byte, cached, chip, parameters, pair_flop=pair_flop, window=window
                )
            return systolic_prefill_time(
                sequences, new, context, token_byte, cached, chip, parameters, pair_flop=pair_flop, window=window
            )


def _collective_time(records: Records, device: Device, parameters: RingParameters | DirectParameters) -> Time:
    intra, inter = device.intra_node, device.inter_node
    if intra is None:
        raise RooflineError(f"link: {device.name} has no link in its profile, but {records.name} need one.")
    reduces = float(records.precision.activation is not Dtype.INT8)
    dims, kind = records.dims, COLLECTIVES[records.family]
    link = replace(intra, domain_size=np.minimum(dims["node_size"], intra.domain_size))
    return collective_time(
        kind,
        dims["payload_byte"],
        dims["group_size"],
        link,
        inter,
        parameters,
        value_byte=STORED_BYTE[records.precision.activation],
        switch_reduces=reduces,
        loop=records.loop,
    )


def record_time(records: Records, device: Device, calibration: Calibration) -> tuple[Time, Band]:
    """Time of every row of `records` as `device` is calibrated for them, else from its datasheet; and the band.

    Errors: RooflineError for families that have neither (whole layers, mixed batches and latent attention unfitted).
    """
    fitted = fit_of(key_of(records), calibration)
    if fitted is not None:
        time = parameters_time(records, device, fitted.parameters)
        otherwise = calibration.bands[DATASHEET_FAMILY.get(records.family, KernelFamily.POINTWISE)]
        return time, confidence(sizes_of_records(records), fitted, otherwise).band
    works = tuple(work_of(records))
    if not works:
        raise RooflineError(
            f"records: {records.name}: {device.name} has no calibration for {records.family}, and the datasheet model "
            "does not cover it. Calibrate first: roofline calibrate."
        )
    times = [typical_time(_datasheet_time(group_of(work), device, records.loop), work, calibration) for work in works]
    return add_times(times), calibration.bands[family_of(works[0])]


def _datasheet_time(group: KernelGroup, device: Device, loop: BenchmarkLoop) -> Time:
    """Datasheet timing, with the physical limit of the loop: what a cache keeps need not come from DRAM again."""
    cost, cache = group.cost, device.last_level_cache
    operand_byte = cost.weight_read_byte + cost.kv_read_byte
    kept_byte = cache.capacity_byte if cache else 0.0
    needed_byte = must_come_from_dram_byte(operand_byte, cost.memory_byte - operand_byte, kept_byte, loop)
    working_set = WorkingSet(np.maximum(operand_byte, 1.0) * loop.operand_copies)
    time = datasheet_time(group, device, working_set)
    boundless = replace(device, dram=replace(device.dram, bandwidth_byte_per_s=np.inf))
    computing_s = datasheet_time(group, boundless, working_set).roofline_s
    limit_s = np.maximum(computing_s, needed_byte / (device.dram.bandwidth_byte_per_s or np.inf))
    return replace(time, roofline_s=np.minimum(limit_s, time.roofline_s))


def add_times(times: Sequence[Time]) -> Time:
    """Kernels that run one after the other as one."""
    names = ("compute_s", "memory_s", "link_s", "overhead_s", "total_s", "roofline_s")
    return Time(*(np.asarray(sum(np.asarray(getattr(time, name)) for time in times)) for name in names))
