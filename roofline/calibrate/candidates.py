"""With which kernels a fit to records may start: those that libraries are known to have, and what of them is free."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..device import Cpu, Device
from ..errors import RooflineError
from ..io.records import Family, Precision, Records
from ..structs import STORED_BYTE, Dtype, arithmetic_dtype
from ..timing.calibration import Parameters
from ..timing.cpu import CpuGemmParameters
from ..timing.decode_attention import DecodeAttentionParameters
from ..timing.decode_kernels import DecodeKernel
from ..timing.gemm import GemmParameters, QuantiseParameters
from ..timing.latent_attention import LatentAttentionParameters, LatentKernel
from ..timing.mixed_attention import MixedAttentionParameters
from ..timing.moe import GroupedLibrary, MoeParameters
from ..timing.parameter import all_but, facts_of
from ..timing.pointwise import PointwiseParameters
from ..timing.prefill_attention import PrefillAttentionParameters, PrefillKernel
from ..timing.quantised_gemm import QuantisedGemmParameters
from ..timing.routing import Remainder
from ..timing.systolic import SystolicAttentionParameters, SystolicGatherParameters, SystolicGemmParameters
from ..timing.tiles import TileLibrary
from .collectives import collective_priors
from .cpu import EXPERT_PRIOR_WEIGHT, cpu_priors
from .models import COLLECTIVES


@dataclass(frozen=True, slots=True)
class Candidate:
    """A timing model that might explain records: its kernel facts, starting values, and which of them to fit.
    `prior_weight`: at least so firmly the starting values are held (see fit).
    """

    prior: Parameters
    free: tuple[str, ...]
    prior_weight: float = 0.0


def candidates(records: Records, device: Device, linear: CpuGemmParameters | None = None) -> tuple[Candidate, ...]:
    """The models to try for `records` on a device of this structure: one for each kernel that libraries are known to
    have. A fit on part of the rows decides between them, not the name of a device or a backend. `linear`: the fit to a
    processor's linear layers, from which its experts start.
    Errors: RooflineError for a family without a model.
    """
    if records.family in (Family.LAYER, Family.MODEL):
        raise RooflineError(f"records: {records.name} are of a whole {records.family}, which is no single kernel.")
    if isinstance(device.structure, Cpu):
        firm = EXPERT_PRIOR_WEIGHT if linear is not None else 0.0
        return tuple(Candidate(*prior, firm) for prior in cpu_priors(records, linear))
    formats = records.precision
    match records.family:
        case Family.GEMM:
            widened = arithmetic_dtype(formats.activation, formats.weight) is not formats.weight
            free = facts_of(GemmParameters) if widened else all_but(GemmParameters, "convert_flop_per_value")
            plain = [Candidate(GemmParameters(library=library), tuple(free)) for library in _libraries(formats)]
            systolic = Candidate(SystolicGemmParameters(), tuple(facts_of(SystolicGemmParameters)))
            return (*plain, *_quantised(formats.activation), systolic)
        case Family.PREFILL_ATTENTION:
            free = all_but(PrefillAttentionParameters)
            return (
                *(
                    Candidate(PrefillAttentionParameters(kernel=kernel, writes_cache=writes), free)
                    for kernel in PrefillKernel
                    for writes in (False, True)
                ),
                _SYSTOLIC_ATTENTION,
            )
        case Family.DECODE_ATTENTION:
            priors = [
                DecodeAttentionParameters(kernel=kernel, writes_cache=writes)
                for kernel in DecodeKernel
                for writes in (False, True)
            ]
            return (*(Candidate(prior, prior.fitted()) for prior in priors), _SYSTOLIC_ATTENTION)
        case Family.MIXED_ATTENTION:
            return (Candidate(MixedAttentionParameters(), all_but(MixedAttentionParameters)),)
        case Family.LATENT_PREFILL | Family.LATENT_DECODE:
            free = all_but(LatentAttentionParameters)
            return tuple(Candidate(LatentAttentionParameters(kernel=kernel), free) for kernel in LatentKernel)
        case Family.MOE:
            return tuple(
                Candidate(
                    MoeParameters(library=library, remainder=remainder),
                    all_but(MoeParameters, *(() if library.value.default else ("untuned_fraction",))),
                )
                for library in GroupedLibrary
                for remainder in Remainder
            )
        case family if family in COLLECTIVES:
            return tuple(Candidate(*prior) for prior in collective_priors(COLLECTIVES[family]))
        case family:
            launch_s = np.maximum(PointwiseParameters().launch_s, np.max(records.loop.launch_floor_s))
            start = PointwiseParameters(launch_s=float(launch_s))
            free = all_but(PointwiseParameters)
            gather = Candidate(SystolicGatherParameters(), tuple(facts_of(SystolicGatherParameters)))
            rows = (Candidate(replace(start, **facts), free) for facts in _ROW_KERNELS.get(family, ({},)))
            return (*rows, gather) if family is Family.EMBEDDING else tuple(rows)


_REDUCING: tuple[Mapping[str, float], ...] = (
    {"reduces": 1.0},
    {"reduces": 1.0, "passes": 2.0},
    {"reduces": 1.0, "passes": 3.0, "held_byte": 2048.0},
)
"""Rows read once; twice (moments, then the result); or, where they outgrow 1024 values of 16 bits and with them the
registers of a block, three times (PyTorch's softmax)."""

_ROW_KERNELS: Mapping[Family, tuple[Mapping[str, float], ...]] = {
    Family.NORM: _REDUCING,
    Family.SOFTMAX: _REDUCING,
    Family.SAMPLING: _REDUCING,
    Family.ACTIVATION: ({}, {"block_byte": 2048.0}),
}
"""The kernels over rows that libraries are known to have, where there are several. Activations: a block of threads per
row (vLLM), or per 1024 values whatever the rows are (PyTorch)."""


def _libraries(formats: Precision) -> tuple[TileLibrary, ...]:
    """The libraries that have kernels for these formats: some are for 8-bit activations or narrow weights alone."""
    special = {
        TileLibrary.CUTLASS_FP8_HOPPER: STORED_BYTE[formats.activation] > 1,
        TileLibrary.CUTLASS_WEIGHT_ONLY_AMPERE: STORED_BYTE[formats.weight] == STORED_BYTE[formats.activation],
        TileLibrary.ROCBLAS_CDNA2: STORED_BYTE[formats.activation] < 2,
    }
    return tuple(library for library in TileLibrary if not special.get(library, False))


_SYSTOLIC_ATTENTION = Candidate(SystolicAttentionParameters(), tuple(facts_of(SystolicAttentionParameters)))


def _quantised(activation: Dtype) -> tuple[Candidate, ...]:
    """Products whose 8-bit activations are made by a kernel in the measured time: scaled by row, or by tensor."""
    if STORED_BYTE[activation] > 1:
        return ()
    free = all_but(QuantisedGemmParameters, "product.convert_flop_per_value", "product.launch_s")
    return tuple(
        Candidate(
            QuantisedGemmParameters(GemmParameters(library=library), QuantiseParameters(read_passes=passes)), free
        )
        for library in (TileLibrary.CUBLAS_HOPPER, TileLibrary.CUTLASS_FP8_HOPPER)
        for passes in (1.0, 2.0)
    )
