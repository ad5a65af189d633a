"""Records of a processor's kernels: the timing model of each family, and its time for every row."""

import numpy as np

from ..device import Device
from ..errors import RooflineError
from ..io.records import DIMENSIONS, Family, Records
from ..kernels.moe import ExpertLayer
from ..structs import STORED_BYTE, Dtype
from ..timing.cpu import (
    CpuAttentionParameters,
    CpuGemmParameters,
    CpuParameters,
    CpuRowParameters,
    cpu_attention_time,
    cpu_row_time,
    processor_of,
)
from ..timing.cpu_step import Sizes, expert_layer_time, expert_products, product_time
from ..timing.parameter import facts_of
from ..timing.time import Time

EXPERT_PARAMETERS = ("product_s", "small_fma")
"""What a layer's experts have of their own; the rest is that of other products of the same library."""


MANY_CALLS, MANY_CALLS_PARAMETERS = frozenset({"route_topk", "experts_sum"}), ("call_s", "row_s")
"""Steps that are many calls on little data: no memory level can be told from their times."""


SINGLE_ROWS = (1.0, 3.0)
"""Rows up to which libraries are known to multiply one by one: OpenBLAS a single one, MKL three."""


def cpu_priors(records: Records) -> tuple[tuple[CpuParameters, tuple[str, ...]], ...]:
    """The models that may explain these records: starting values, and which of them to fit.

    Errors: RooflineError for a family that no processor's library has.
    """
    match records.family:
        case Family.GEMM:
            # Batches of products are a step's of attention; a linear layer is one product.
            several = bool(np.any(records.dims["copies"] > 1.0))
            fixed: tuple[str, ...] = ("wide_column", "one_core_share") if several else ("product_s",)
            free = tuple(name for name in facts_of(CpuGemmParameters) if name not in fixed)
            return tuple((CpuGemmParameters(single_rows=rows), free) for rows in SINGLE_ROWS)
        case Family.MOE:
            return ((CpuGemmParameters(), EXPERT_PARAMETERS),)
        case Family.PREFILL_ATTENTION:
            return ((CpuAttentionParameters(), tuple(facts_of(CpuAttentionParameters))),)
        case Family.DECODE_ATTENTION:
            # One query sees every key: nothing is masked; rounding up its row and the softmax of its scores, alike for
            # all, are part of the fraction of the peak.
            fixed = ("masked_share", "half_row", "score_flop")
            free = tuple(name for name in facts_of(CpuAttentionParameters) if name not in fixed)
            return ((CpuAttentionParameters(half_row=0.01), free),)
        case family if DIMENSIONS[family] == DIMENSIONS[Family.NORM]:
            if records.kernel in MANY_CALLS:
                return ((CpuRowParameters(), MANY_CALLS_PARAMETERS),)
            fixed = () if family is Family.NORM else ("second_vector",)
            return ((CpuRowParameters(), tuple(name for name in facts_of(CpuRowParameters) if name not in fixed)),)
        case family:
            raise RooflineError(f"records: {records.name}: no model of {family} on a processor.")


def cpu_records_time(records: Records, device: Device, parameters: CpuParameters) -> Time:
    """Time of every row of `records`, in the loop it was measured in. `parameters` are of the records' family."""
    dims, formats, loop = records.dims, records.precision, records.loop
    match parameters:
        case CpuGemmParameters() if records.family is Family.MOE:
            return _experts_time(records, device, parameters)
        case CpuGemmParameters():
            sizes: Sizes = (dims["m"], dims["n"], dims["k"], dims["copies"])
            return product_time(sizes, formats.activation, formats.weight, device, parameters, loop)
        case CpuRowParameters():
            processor = processor_of(device, Dtype.FP32)
            row, read, written = dims["row"], dims["read_byte"], dims["write_byte"]
            weight = row * (read - written) if records.family is Family.NORM else 0.0
            return cpu_row_time(row, read, written, weight, processor=processor, parameters=parameters)
        case CpuAttentionParameters():
            names = ("sequences", "new_token", "context", "heads", "kv_heads", "head_dim", "window")
            return cpu_attention_time(
                *(dims[name] for name in names),
                kv_byte=STORED_BYTE[formats.cache],
                processor=processor_of(device, formats.activation),
                parameters=parameters,
                loop=loop,
            )


def _experts_time(records: Records, device: Device, parameters: CpuGemmParameters) -> Time:
    """One product of the experts, or all of their work. Ignores that experts without a gate have half the first one."""
    dims, formats, loop = records.dims, records.precision, records.loop
    token, hidden, width = dims["token"], dims["hidden"], dims["width"]
    routed = (token, dims["per_token"], dims["experts"], dims["experts"])
    match records.kernel:
        case "experts_gate_up":
            sizes = expert_products(*routed, 2.0 * width, hidden)
        case "experts_up":
            sizes = expert_products(*routed, width, hidden)
        case "experts_down":
            sizes = expert_products(*routed, hidden, width)
        case _:
            inputs, bias = np.array(2.0), np.array(0.0)
            layer = ExpertLayer(
                token, hidden, width, inputs, *routed[1:], bias, formats.weight, formats.activation, formats.activation
            )
            return expert_layer_time(layer, device, parameters, loop)
    return product_time(sizes, formats.activation, formats.weight, device, parameters, loop)
