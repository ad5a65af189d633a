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


@dataclass(frozen=True, slots=True)
class ExpertLayer:
    """All of a layer's routed experts as engines run them, one fused operation: grouping of rows by expert, up (and
    gate) product, activation, down product, weighted sum.

    `width`: this device's share of one expert's width; `inputs`: 2 with a gate, else 1. Other fields as in ExpertGemm.
    """

    token: Number
    hidden: Array
    width: Array
    inputs: Array
    per_token: Array
    experts: Array
    local_experts: Array
    bias: Array
    weight: Dtype
    activation: Dtype
    output: Dtype


ACTIVATION_FLOP = 5.0
"""Vector FLOP per activated value, counting exp as one: about what SiLU, GELU (tanh) and a gate's product take."""


def expert_layer_cost(work: ExpertLayer) -> Cost:
    """Cost of one execution: both grouped products, the activation between them, the sum over each token's experts.

    Counts intermediate results written and read once. Ignores: as expert_gemm_cost, and the sorting of rows.
    """
    rows = work.token * work.per_token * work.local_experts / work.experts
    shared = (work.per_token, work.experts, work.local_experts)
    formats = (work.weight, work.activation, work.output)
    up = ExpertGemm(work.token, *shared, work.inputs * work.width, work.hidden, work.bias, *formats)
    down = ExpertGemm(work.token, *shared, work.hidden, work.width, work.bias, *formats)
    output_byte = STORED_BYTE[work.output]
    activation = Cost(
        vector_flop=rows * work.width * ACTIVATION_FLOP,
        activation_read_byte=rows * work.width * work.inputs * output_byte,
        activation_write_byte=rows * work.width * output_byte,
    )
    summed = Cost(
        vector_flop=2.0 * rows * work.hidden,
        activation_read_byte=rows * work.hidden * output_byte,
        activation_write_byte=work.token * work.hidden * output_byte,
    )
    return expert_gemm_cost(up) + activation + expert_gemm_cost(down) + summed


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
