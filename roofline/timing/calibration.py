"""What is known of how well times are predicted: per kernel family, the band that held the measurements."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from ..kernels import Work
from ..kernels.attention import FusedAttention, UnfusedAttention
from ..kernels.collective import Collective
from ..kernels.gemm import Gemm
from ..kernels.moe import ExpertGemm
from ..kernels.pointwise import Pointwise

COVERAGE = 0.8
"""Share of measurements that a band holds: from the 10 % to the 90 % quantile of measured / predicted."""


class KernelFamily(StrEnum):
    """Kernels that share a timing model and its errors."""

    GEMM = "gemm"
    EXPERTS = "experts"
    PREFILL_ATTENTION = "prefill_attention"
    DECODE_ATTENTION = "decode_attention"
    ATTENTION_STEP = "attention_step"
    POINTWISE = "pointwise"
    COLLECTIVE = "collective"


@dataclass(frozen=True, slots=True)
class Band:
    """`low` and `high`: multiples of the prediction between which COVERAGE of the measurements lay; `source`: which."""

    low: float
    high: float
    source: str


@dataclass(frozen=True, slots=True)
class Calibration:
    """How times of one device are predicted and how sure that is. `summary`: one line for people."""

    bands: Mapping[KernelFamily, Band]
    summary: str
    coverage: float = COVERAGE


def family_of(work: Work) -> KernelFamily:
    """The family of a kernel, by its type alone."""
    match work:
        case Gemm():
            return KernelFamily.GEMM
        case ExpertGemm():
            return KernelFamily.EXPERTS
        case FusedAttention():
            return KernelFamily.DECODE_ATTENTION if work.decoding else KernelFamily.PREFILL_ATTENTION
        case UnfusedAttention():
            return KernelFamily.ATTENTION_STEP
        case Pointwise():
            return KernelFamily.POINTWISE
        case Collective():
            return KernelFamily.COLLECTIVE
