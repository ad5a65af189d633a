"""Records of a processor's kernels: the timing model of each family, and its time for every row."""

from dataclasses import replace

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
from ..timing.cpu_step import Sizes, expert_layer_time, expert_products, expert_time, product_time
from ..timing.parameter import all_but, facts_of
from ..timing.time import Time

EXPERT_PARAMETERS = ("call_s", "product_s", "half_row", "pack_flop_per_byte")
"""What a layer's experts have of their own (a loop in Python, and few rows of small weights each); the rest is that of
linear layers of the same library."""

EXPERT_CALL_S = 5e-6
"""Start of what a step of experts costs, and each of its products."""

EXPERT_PRIOR_WEIGHT = 0.5
"""How firmly experts are held to linear layers: they are the same library's products, and drawn layers have few."""

MANY_CALLS = frozenset({"route_topk", "experts_sum"})
MANY_CALLS_PARAMETERS = ("call_s", "row_s", "read_flop_per_byte")
"""Steps that are many calls on little data: no memory level can be told from their times; all passes count as those
over what is read."""

GRAIN_BYTE, DIVIDED = 4.0 * 32768, frozenset({"join_s", "one_core_rate"})
"""Torch divides element-wise kernels of more than 32768 values among the cores (at::internal::GRAIN_SIZE), and the rows
of a layer norm however few; NumPy none."""

Blas = tuple[CpuGemmParameters, tuple[str, ...]]

BLAS: tuple[Blas, ...] = (
    (CpuGemmParameters(small_fma=1e6, unpacked_value=1200.0, one_core_fma=524288.0), ("small_fma",)),
    (CpuGemmParameters(small_fma=100.0, one_core_fma=524288.0), ("small_fma",)),
    (CpuGemmParameters(single_rows=3.0, one_core_rate=1.0), ("one_core_rate",)),
)
"""How libraries make products, and what of it is declared, not fitted. OpenBLAS multiplies a single row by itself and
leaves products of less than twice 262144 FMA to one core (interface/gemm.c). Where it has kernels for small matrices
(AVX-512) it packs nothing for products of up to 100^3 FMA; with a transposed weight, of up to 1200 values too
(kernel/x86_64/sgemm_small_kernel_permit_skylakex.c). MKL multiplies up to three rows one by one, and has no such rule.
"""

NOT_TRANSPOSED = frozenset({"attention_values", "attention_values_sliding"})
"""Steps whose second operand lies as it is multiplied, [k, n]; that of the others is [n, k]."""


def cpu_priors(
    records: Records, linear: CpuGemmParameters | None = None
) -> tuple[tuple[CpuParameters, tuple[str, ...]], ...]:
    """The models that may explain these records: starting values, and which of them to fit. `linear`: the fit to linear
    layers of the same library, from which its experts start.

    Errors: RooflineError for a family that no processor's library has.
    """
    match records.family:
        case Family.GEMM:
            return tuple(_product_prior(records, *blas) for blas in BLAS)
        case Family.MOE:
            start = CpuGemmParameters() if linear is None else linear
            return ((replace(start, call_s=EXPERT_CALL_S, product_s=EXPERT_CALL_S), EXPERT_PARAMETERS),)
        case Family.PREFILL_ATTENTION:
            return ((CpuAttentionParameters(), tuple(facts_of(CpuAttentionParameters))),)
        case Family.DECODE_ATTENTION:
            # One query sees every key: nothing is masked; rounding up its row and the softmax of its scores, alike for
            # all, are part of the fraction of the peak.
            alike = ("masked_share", "half_row", "score_flop")
            free = all_but(CpuAttentionParameters, *alike)
            return ((CpuAttentionParameters(half_row=0.01), free),)
        case family if DIMENSIONS[family] == DIMENSIONS[Family.NORM]:
            if records.kernel in MANY_CALLS:
                return ((CpuRowParameters(write_flop_per_byte=0.01), MANY_CALLS_PARAMETERS),)
            return _row_priors(family)
        case family:
            raise RooflineError(f"records: {records.name}: no model of {family} on a processor.")


def _row_priors(family: Family) -> tuple[tuple[CpuParameters, tuple[str, ...]], ...]:
    """Kernels on one core, and kernels that are divided among all. Where bytes read and written go together, the passes
    over both count as those over what is written; a sample's are all over what it reads, in steps that are not told.
    """
    fixed = set() if family is Family.NORM else {"second_vector", "second_call"}
    fixed |= set() if family in (Family.NORM, Family.ACTIVATION, Family.SAMPLING) else {"read_flop_per_byte"}
    free = all_but(CpuRowParameters, *fixed)
    start = CpuRowParameters(read_flop_per_byte=0.01) if "read_flop_per_byte" in fixed else CpuRowParameters()
    alone = (start, tuple(name for name in free if name not in DIVIDED))
    if family is Family.SAMPLING:
        return (alone,)
    return alone, (replace(start, grain_byte=GRAIN_BYTE, grain_row=1.0), free)


def _product_prior(
    records: Records, blas: CpuGemmParameters, declared: tuple[str, ...]
) -> tuple[CpuGemmParameters, tuple[str, ...]]:
    """Start and free parameters for linear layers, of one product each, or for a step of attention, of a batch."""
    fixed = {*declared, "product_s"}
    if np.any(records.dims["copies"] > 1.0):
        fixed = {*declared, "wide_column", "stream_depth"}
        # A head's keys and values lie one behind the other, however short; a batch is divided among the cores.
        shared = "one_core_rate" in declared
        blas = replace(blas, stream_depth=0.1, one_core_share=1.0 if shared else blas.one_core_share)
        fixed |= {"one_core_share"} if shared else set()
    if records.kernel in NOT_TRANSPOSED:
        blas = replace(blas, unpacked_value=np.inf)
    return blas, all_but(CpuGemmParameters, *fixed)


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
            parts = expert_products(*routed, 2.0 * width, hidden)
        case "experts_up":
            parts = expert_products(*routed, width, hidden)
        case "experts_down":
            parts = expert_products(*routed, hidden, width)
        case _:
            inputs, bias = np.array(2.0), np.array(0.0)
            layer = ExpertLayer(
                token, hidden, width, inputs, *routed[1:], bias, formats.weight, formats.activation, formats.activation
            )
            return expert_layer_time(layer, device, parameters, loop)
    return expert_time(parts, formats.activation, formats.weight, device, parameters, loop)
