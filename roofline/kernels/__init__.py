"""What is done: kernels as shapes, and the Cost of each. No device is known here."""

from dataclasses import dataclass

from ..cost import Cost
from ..structs import Array
from .attention import (
    FusedAttention,
    MixedAttention,
    UnfusedAttention,
    WholeLatentAttention,
    fused_attention_cost,
    mixed_attention_cost,
    unfused_attention_cost,
    whole_latent_attention_cost,
)
from .collective import Collective, collective_cost
from .gemm import Gemm, gemm_cost
from .moe import ExpertGemm, ExpertLayer, expert_gemm_cost, expert_layer_cost
from .pointwise import Pointwise, pointwise_cost

Attended = FusedAttention | MixedAttention | WholeLatentAttention | UnfusedAttention
"""Work that looks at the cached tokens of its sequences."""

Work = Gemm | ExpertGemm | ExpertLayer | Attended | Pointwise | Collective


def cost_of(work: Work) -> Cost:
    """The Cost of one execution of each kernel of `work`; the last axis runs over kernels."""
    match work:
        case Gemm():
            return gemm_cost(work)
        case ExpertGemm():
            return expert_gemm_cost(work)
        case ExpertLayer():
            return expert_layer_cost(work)
        case FusedAttention():
            return fused_attention_cost(work)
        case WholeLatentAttention():
            return whole_latent_attention_cost(work)
        case MixedAttention():
            return mixed_attention_cost(work)
        case UnfusedAttention():
            return unfused_attention_cost(work)
        case Pointwise():
            return pointwise_cost(work)
        case Collective():
            return collective_cost(work)


@dataclass(frozen=True, slots=True)
class KernelGroup:
    """Kernels of one family and precision, evaluated together.

    `names` and `order` (position in the step) have one entry per kernel; `count`, shape (stages, kernels): executions
    per step on a device of each pipeline stage. `work`: shape (*scenarios, kernels).
    """

    names: tuple[str, ...]
    order: tuple[int, ...]
    count: Array
    work: Work

    @property
    def cost(self) -> Cost:
        """The Cost of one execution of each kernel; derived when asked for, since fitted timing models never ask."""
        return cost_of(self.work)
