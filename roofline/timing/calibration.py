"""What was fitted to measured kernels, how wrong it was on rows not fitted, and what holds without measurements."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache

from ..device import Device
from ..kernels import Work
from ..kernels.attention import FusedAttention, MixedAttention, UnfusedAttention, UnfusedStep, WholeLatentAttention
from ..kernels.collective import Collective
from ..kernels.gemm import Gemm
from ..kernels.moe import ExpertGemm, ExpertLayer
from ..kernels.pointwise import Pointwise
from ..structs import Dtype, Number
from .cpu import CpuAttentionParameters, CpuGemmParameters, CpuRowParameters
from .decode_attention import DecodeAttentionParameters
from .direct_all_reduce import DirectParameters
from .gemm import GemmParameters
from .latent_attention import LatentAttentionParameters
from .mixed_attention import MixedAttentionParameters
from .moe import MoeParameters
from .nccl import RingParameters
from .pointwise import PointwiseParameters
from .prefill_attention import PrefillAttentionParameters
from .quantised_gemm import QuantisedGemmParameters
from .systolic import SystolicAttentionParameters, SystolicGatherParameters, SystolicGemmParameters

COVERAGE = 0.8
"""Share of measurements that a band holds: from the 10 % to the 90 % quantile of measured / predicted."""

Parameters = (
    GemmParameters
    | QuantisedGemmParameters
    | MoeParameters
    | PrefillAttentionParameters
    | DecodeAttentionParameters
    | MixedAttentionParameters
    | LatentAttentionParameters
    | PointwiseParameters
    | RingParameters
    | DirectParameters
    | SystolicGemmParameters
    | SystolicGatherParameters
    | SystolicAttentionParameters
    | CpuGemmParameters
    | CpuRowParameters
    | CpuAttentionParameters
)
"""Parameters of any timing model; their type says which formula they belong to."""


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
    """`low` and `high`: multiples of the prediction between which COVERAGE of the measurements lay; `source`: which.

    Numbers, or one for each kernel of a group.
    """

    low: Number
    high: Number
    source: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a fit rests on: where the rows are from, how many were fitted, judged and excluded, and the errors of the
    rows not fitted (fractions; see validate.statistics). `fit_fraction` and `seed` say which rows those are.
    `undetermined`: parameters the rows could not determine. `ranges`: smallest and largest value of each size among the
    rows that were fitted or judged. `beyond`: by size, between which multiples of the prediction COVERAGE of the rows
    with the largest quarter of its values lay, when a fit had seen only the others; `below`: of those with the smallest
    quarter.
    """

    data: str
    backend: str
    version: str
    digest: str
    date: str
    fit_fraction: float
    seed: int
    fitted_rows: int
    unseen_rows: int
    excluded_rows: int
    median_ape: float
    mape: float
    p90_ape: float
    bias: float
    coverage: float
    roofline_median_ape: float
    undetermined: tuple[str, ...]
    ranges: Mapping[str, tuple[float, float]]
    beyond: Mapping[str, tuple[float, float]]
    below: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fitted:
    """One calibrated timing model. `transferred_from`: the device whose parameters these are, scaled ("": its own);
    `borrowed_from`: the format whose parameters these are, scaled ("": as measured).
    """

    parameters: Parameters
    band: Band
    evidence: Evidence
    transferred_from: str = ""
    borrowed_from: str = ""


Key = tuple[str, str]
"""Family and format of records, as io.records has them: ("gemm", "bf16"), ("decode_attention", "bf16/fp8")."""


class Borrowing(StrEnum):
    """What differs between the format that is asked for and the one that lends its physics."""

    STORED = "stored"
    """Weights or cache are narrower and widened on the way: the products are the lender's."""
    COMPUTED = "computed"
    """The products too are made in another format, at its peak."""


@dataclass(frozen=True, slots=True)
class Formats:
    """What fits of one format may be lent to others by: the peaks of `device`, and the band that it had, by family."""

    device: Device
    bands: Mapping[tuple[str, Borrowing], Band]


@dataclass(frozen=True, slots=True)
class Calibration:
    """How times of one device are predicted and how sure that is.

    `bands`: of datasheet timing, for kernels without a fit. `models`: the fits. `summary`: one line for people.
    `backend`: the library whose kernels are meant, where it was measured ("": uncalibrated). `typical`: by family, the
    multiple of their datasheet time that kernels took where it could be checked; a family that is not in it: once.
    `formats`: how fits serve other formats than theirs (None: not at all). `looked_up`: what fit_of has found for the
    kernels at hand, so that it does not search on every step; it holds for these `models` and `formats` alone.
    """

    bands: Mapping[KernelFamily, Band]
    summary: str
    models: Mapping[Key, Fitted] = field(default_factory=dict)
    coverage: float = COVERAGE
    backend: str = ""
    typical: Mapping[KernelFamily, float] = field(default_factory=dict)
    formats: Formats | None = None
    looked_up: Mapping[Key, Fitted | None] = field(default_factory=dict)


def family_of(work: Work) -> KernelFamily:
    """The family of a kernel, by its type alone."""
    match work:
        case Gemm():
            return KernelFamily.GEMM
        case ExpertGemm() | ExpertLayer():
            return KernelFamily.EXPERTS
        case FusedAttention() | WholeLatentAttention():
            return KernelFamily.DECODE_ATTENTION if work.decoding else KernelFamily.PREFILL_ATTENTION
        case MixedAttention():
            return KernelFamily.PREFILL_ATTENTION
        case UnfusedAttention():
            return KernelFamily.ATTENTION_STEP
        case Pointwise():
            return KernelFamily.POINTWISE
        case Collective():
            return KernelFamily.COLLECTIVE


DATASHEET_FAMILY: Mapping[str, KernelFamily] = {
    "gemm": KernelFamily.GEMM,
    "moe": KernelFamily.EXPERTS,
    "expert_gemm": KernelFamily.EXPERTS,
    "prefill_attention": KernelFamily.PREFILL_ATTENTION,
    "mixed_attention": KernelFamily.PREFILL_ATTENTION,
    "latent_prefill": KernelFamily.PREFILL_ATTENTION,
    "decode_attention": KernelFamily.DECODE_ATTENTION,
    "latent_decode": KernelFamily.DECODE_ATTENTION,
    "attention_scores": KernelFamily.ATTENTION_STEP,
    "attention_values": KernelFamily.ATTENTION_STEP,
    "all_reduce": KernelFamily.COLLECTIVE,
    "all_gather": KernelFamily.COLLECTIVE,
    "all_to_all": KernelFamily.COLLECTIVE,
    "reduce_scatter": KernelFamily.COLLECTIVE,
    "point_to_point": KernelFamily.COLLECTIVE,
}
"""The datasheet's band that stands in for each family of a calibration; families not here are pointwise."""

_SIXTEEN_BIT = frozenset({Dtype.BF16, Dtype.FP16})


@lru_cache(maxsize=64)
def format_label(operand: Dtype, stored: Dtype) -> str:
    """The format label of records for operands in `operand` and weights (or cache) in `stored`.

    bf16 and fp16 run at the same rates on the same kernels and share the label of bf16. Pure, so remembered.
    """
    wide, narrow = ("bf16" if dtype in _SIXTEEN_BIT else str(dtype) for dtype in (operand, stored))
    return wide if wide == narrow else f"{wide}/{narrow}"


def formats_of(label: str) -> tuple[Dtype, Dtype]:
    """The operands' format and that of weights or cache that a label stands for; a block-scaled one is its format."""
    wide, _, narrow = _CONVERTED.get(label, label).removesuffix("_block").partition("/")
    return Dtype(wide), Dtype(narrow or wide)


def latent_keys(query: Dtype, cache: Dtype) -> tuple[Key, Key]:
    """The calibration entries of whole latent attention: of a prefill, and of sequences that decode."""
    label = format_label(query, cache)
    return ("latent_prefill", label), ("latent_decode", label)


def keys_of(work: Work) -> tuple[Key, ...]:
    """The calibration entries that a kernel needs, in the order in which its parameters are wanted.

    Empty for kernels that no measurement is of (attention over latents without the products around it).
    """
    match work:
        case Gemm():
            label = format_label(work.activation, work.weight)
            return (("gemm", _WEIGHT_ONLY.get(label, label)),)
        case ExpertLayer():
            label = format_label(work.activation, work.weight)
            return (("moe", _WEIGHT_ONLY.get(label, label)),)
        case FusedAttention(latent=False):
            return ((str(family_of(work)), format_label(work.shape.query, work.shape.cache)),)
        case WholeLatentAttention():
            return (latent_keys(work.query, work.cache)[work.decoding],)
        case MixedAttention():
            return (("mixed_attention", format_label(work.prompts.query, work.prompts.cache)),)
        case Collective():
            return ((str(work.kind), "bf16"),)
        case Pointwise():
            return tuple((str(kind), "bf16") for kind in work.kinds)
        case ExpertGemm():
            return (("expert_gemm", format_label(work.activation, work.weight)),)
        case UnfusedAttention(step=UnfusedStep.SCORES | UnfusedStep.VALUES):
            return ((str(work.step), format_label(work.shape.query, work.shape.cache)),)
        case UnfusedAttention():
            return ((ROW_STEPS[work.step], "bf16"),)
        case FusedAttention():
            return ()


ROW_STEPS = {UnfusedStep.SCALE_MASK: "mask", UnfusedStep.SOFTMAX: "softmax", UnfusedStep.HEAD_CONCAT: "head_concat"}
"""The records that steps of unfused attention belong to which multiply no matrices."""

_WEIGHT_ONLY = {"bf16/int8": "int8_weight_only", "bf16/int4": "int4_weight_only"}
_CONVERTED = {label: pair for pair, label in _WEIGHT_ONLY.items()}
