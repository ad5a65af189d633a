"""Rows of a step before the batch is known: static shapes of each kernel on one device."""

from enum import StrEnum
from typing import NamedTuple

from ..kernels.attention import UnfusedStep
from ..kernels.collective import CollectiveKind
from ..kernels.pointwise import PointwiseKind
from ..structs import Dtype


class Row(StrEnum):
    """What a kernel's rows are: it runs once per …"""

    TOKEN = "token"
    """new token of the replica's batch."""
    SAMPLED = "sampled"
    """sequence whose logits are needed."""
    ATTENDED = "attended"
    """token in any sequence, cached or new (MLA expands its latents anew)."""
    POOLED = "pooled"
    """token of all the replicas that share one set of experts."""


class GemmRow(NamedTuple):
    """A product with a weight matrix; see kernels.gemm.Gemm."""

    name: str
    order: int
    n: float
    k: float
    weight: Dtype
    activation: Dtype
    output: Dtype
    bias: float = 0.0
    copies: float = 1.0
    row: Row = Row.TOKEN


class ExpertRow(NamedTuple):
    """A grouped product of routed experts; see kernels.moe.ExpertGemm."""

    name: str
    order: int
    n: float
    k: float
    per_token: float
    experts: float
    local_experts: float
    bias: float
    weight: Dtype
    activation: Dtype
    output: Dtype


class ExpertLayerRow(NamedTuple):
    """All routed experts of a layer as one operation; see kernels.moe.ExpertLayer."""

    name: str
    order: int
    hidden: float
    width: float
    inputs: float
    per_token: float
    experts: float
    local_experts: float
    bias: float
    weight: Dtype
    activation: Dtype
    output: Dtype


class AttentionRow(NamedTuple):
    """The inner part of attention, fused (`step` None) or one of its steps; see kernels.attention."""

    name: str
    order: int
    heads: float
    kv_heads: float
    head_dim: float
    value_dim: float
    window: float
    cache_value: float
    query: Dtype
    cache: Dtype
    causal: bool
    latent: bool
    step: UnfusedStep | None


class LatentRow(NamedTuple):
    """Latent attention with the products around it as one operation; see kernels.attention.WholeLatentAttention."""

    name: str
    order: int
    heads: float
    kv_rank: float
    rope_dim: float
    nope_dim: float
    value_dim: float
    weight: Dtype
    query: Dtype
    cache: Dtype


class PointwiseRow(NamedTuple):
    """Work linear in rows; see kernels.pointwise.Pointwise."""

    name: str
    order: int
    kind: PointwiseKind
    flop: float
    read_byte: float
    write_byte: float
    kv_write_byte: float = 0.0
    weight_byte: float = 0.0
    launch: float = 1.0
    row: Row = Row.TOKEN


class CollectiveRow(NamedTuple):
    """Communication of `row_byte` per row among `group` devices; see kernels.collective.Collective."""

    name: str
    order: int
    kind: CollectiveKind
    row_byte: float
    group: float
    row: Row = Row.TOKEN


StepRow = GemmRow | ExpertRow | ExpertLayerRow | AttentionRow | LatentRow | PointwiseRow | CollectiveRow
