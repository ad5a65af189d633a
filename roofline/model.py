"""A transformer as numbers: the shapes that decide FLOP and bytes. Presets and Hugging Face configs become this."""

from dataclasses import dataclass
from enum import StrEnum

from .structs import NO_WINDOW


class Norm(StrEnum):
    """RMS norm has one vector of parameters; layer norm has a scale and a shift."""

    RMS = "rms"
    LAYER = "layer"


class Position(StrEnum):
    """How positions enter: rotary (work in every layer), learned (a table of parameters), or nothing to count."""

    ROTARY = "rotary"
    LEARNED = "learned"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Attention:
    """Multi-head attention with `kv_heads` shared key/value heads: MHA (= heads), GQA, MQA (1).

    `window`: number of most recent tokens that a token sees, itself included; NO_WINDOW for full attention.
    `sinks`: one learned logit per head (gpt-oss). `qk_norm`: number of parameters of the norms on queries and keys
    together (0: none).
    """

    heads: float
    kv_heads: float
    head_dim: float
    window: float = NO_WINDOW
    qkv_bias: bool = False
    output_bias: bool = False
    qk_norm: float = 0.0
    sinks: bool = False


@dataclass(frozen=True, slots=True)
class LatentAttention:
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): the cache holds one latent per token.

    `query_rank` None: queries are projected directly (DeepSeek-V2-Lite).
    """

    heads: float
    query_rank: float | None
    kv_rank: float
    nope_dim: float
    rope_dim: float
    value_dim: float


@dataclass(frozen=True, slots=True)
class Mlp:
    """A plain (up, down) or gated (gate, up, down) MLP of `width`."""

    width: float
    gated: bool
    bias: bool = False


@dataclass(frozen=True, slots=True)
class Moe:
    """`experts` MLPs of `width`, `per_token` of them for each token, and `shared` that every token passes.

    `router_bias`: a learned bias on the router's logits (also DeepSeek-V3's correction bias).
    `shared_gate`: a scalar gate on the shared expert's output (Qwen2-MoE).
    """

    experts: float
    per_token: float
    width: float
    gated: bool
    bias: bool = False
    shared: float = 0.0
    shared_width: float = 0.0
    router_bias: bool = False
    shared_gate: bool = False


@dataclass(frozen=True, slots=True)
class Layer:
    """One transformer layer. `norm_count`: norms over the hidden size (2; 4 in Gemma 2 and 3; 1 or 2 in Falcon)."""

    attention: Attention | LatentAttention
    mlp: Mlp | Moe
    norm_count: float = 2.0


@dataclass(frozen=True, slots=True)
class Model:
    """A whole model; `layers` in their order.

    `causal` False: encoder-only (every token sees every token, no LM head, no decode).
    `embedding_dim`: width of the token embedding where it is projected to `hidden` (OPT-350M), else equal to it.
    `position_rows`: rows of the learned position table (0 without one). `token_type_rows`: BERT's segment table.
    `head_bias`: the LM head has a bias. `embedding_norm`: a norm after the embedding. `final_norm`: a norm before the
    head. `pooler`: BERT's dense layer on the first token.
    """

    name: str
    family: str
    hidden: float
    vocabulary: float
    layers: tuple[Layer, ...]
    tied_embeddings: bool
    max_context: float
    norm: Norm
    position: Position
    causal: bool = True
    embedding_dim: float = 0.0
    position_rows: float = 0.0
    token_type_rows: float = 0.0
    head_bias: bool = False
    embedding_norm: bool = False
    final_norm: bool = True
    pooler: bool = False
    note: str = ""
