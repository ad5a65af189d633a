"""Routed experts: grouped matrix products over the experts that a batch touches."""

from dataclasses import dataclass

from ..cost import Cost
from ..structs import FLOP_PER_FMA, STORED_BYTE, Array, Dtype, Number


@dataclass(frozen=True, slots=True)
class ExpertGemm:
    """One [n, k] matrix per local expert, applied to the rows routed to it.

    `token`: tokens that meet these experts (of all replicas that share them); each goes to `per_token` of `experts`;
    `local_experts` of those live on this device, with matrices of this device's share n x k.
    """

    token: Number
    per_token: Array
    experts: Array
    local_experts: Array
    n: Array
    k: Array
    bias: Array
    weight: Dtype
    activation: Dtype
    output: Dtype


def touched_experts(token: Number, per_token: Number, experts: Number, local_experts: Number) -> Number:
    """Expected number of local experts that at least one token is routed to, under uniform routing.

    local_experts · (1 - (1 - per_token / experts)^token): each token picks per_token distinct experts of all.
    Ignores: imbalance (a trained router is not uniform; timing models take a routing distribution).
    """
    return local_experts * (1.0 - (1.0 - per_token / experts) ** token)


def expert_gemm_cost(work: ExpertGemm) -> Cost:
    """Cost of one grouped product. Counts the FLOP of the expected rows on this device and touched weights once.

    Ignores: padding of each expert's rows to a tile, imbalance between ranks.
    """
    rows = work.token * work.per_token * work.local_experts / work.experts
    touched = touched_experts(work.token, work.per_token, work.experts, work.local_experts)
    return Cost(
        matrix_flop=FLOP_PER_FMA * rows * work.n * work.k,
        vector_flop=rows * work.n * work.bias,
        weight_read_byte=touched * work.n * (work.k * STORED_BYTE[work.weight] + work.bias * STORED_BYTE[work.output]),
        activation_read_byte=rows * work.k * STORED_BYTE[work.activation],
        activation_write_byte=rows * work.n * STORED_BYTE[work.output],
    )
