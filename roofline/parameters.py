"""The parameters of a model as values: which tensors it has, what each is for, and how tensor parallelism splits it.

Counted: every stored parameter. Not counted: buffers (rotary tables, masks), quantisation scales (`structs.STORED_BYTE`
has them per value), and modules outside the language model (vision towers, multi-token-prediction layers).
Source of each list: the published reference implementations of the architectures; the tests hold the totals.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from .model import Attention, LatentAttention, Layer, Mlp, Model, Moe, Norm


class Role(StrEnum):
    """What a tensor is for. Quantised checkpoints compress LINEAR and EXPERT and leave the others in 16 bits."""

    EMBEDDING = "embedding"
    LINEAR = "linear"
    EXPERT = "expert"
    ROUTER = "router"
    NORM = "norm"
    BIAS = "bias"
    POSITION = "position"
    HEAD = "head"


class Shard(StrEnum):
    """Along what tensor parallelism splits a tensor (Megatron-LM, arXiv 1909.08053).

    HEADS: the features that run over query heads. KV_HEADS: those over key/value heads (copied once there are more
    devices than heads). OUTPUT: output features ("column parallel"). INPUT: input features ("row parallel").
    VOCABULARY: rows of the vocabulary. EXPERTS: whole experts, or each expert's width. REPLICATED: a copy everywhere.
    """

    HEADS = "heads"
    KV_HEADS = "kv_heads"
    OUTPUT = "output"
    INPUT = "input"
    VOCABULARY = "vocabulary"
    EXPERTS = "experts"
    REPLICATED = "replicated"


@dataclass(frozen=True, slots=True)
class Tensor:
    """`count` matrices of `rows` (output features) by `columns` (input features; 1 for a vector).

    `used`: how many of the `count` one token passes through (experts; otherwise all).
    """

    name: str
    role: Role
    rows: float
    columns: float
    shard: Shard
    count: float = 1.0
    used: float = 1.0

    @property
    def elements(self) -> float:
        """Parameters in all `count` matrices."""
        return self.rows * self.columns * self.count

    @property
    def used_elements(self) -> float:
        """Parameters that one token passes through."""
        return self.rows * self.columns * self.used


def _matrix(
    name: str, rows: float, columns: float, shard: Shard, bias: bool, bias_shard: Shard | None = None
) -> tuple[Tensor, ...]:
    """A linear layer: its matrix and, with `bias`, a vector of `rows` (split like the matrix unless stated)."""
    matrix = Tensor(name, Role.LINEAR, rows, columns, shard)
    if not bias:
        return (matrix,)
    return matrix, Tensor(f"{name}_bias", Role.BIAS, rows, 1.0, bias_shard or shard)


def _grouped_attention(attention: Attention, hidden: float) -> tuple[Tensor, ...]:
    query = attention.heads * attention.head_dim
    key_value = attention.kv_heads * attention.head_dim
    extra: list[Tensor] = []
    if attention.qk_norm:
        extra.append(Tensor("qk_norm", Role.NORM, attention.qk_norm, 1.0, Shard.REPLICATED))
    if attention.sinks:
        extra.append(Tensor("sinks", Role.BIAS, attention.heads, 1.0, Shard.HEADS))
    return (
        *_matrix("query", query, hidden, Shard.HEADS, attention.qkv_bias),
        *_matrix("key", key_value, hidden, Shard.KV_HEADS, attention.qkv_bias),
        *_matrix("value", key_value, hidden, Shard.KV_HEADS, attention.qkv_bias),
        *_matrix("attention_output", hidden, query, Shard.HEADS, attention.output_bias, Shard.REPLICATED),
        *extra,
    )


def _latent_attention(attention: LatentAttention, hidden: float) -> tuple[Tensor, ...]:
    """DeepSeek-V2 (arXiv 2405.04434), 2.1: down-projections are whole on every device, up-projections by head."""
    heads, kv_rank = attention.heads, attention.kv_rank
    query = heads * (attention.nope_dim + attention.rope_dim)
    if attention.query_rank is None:
        queries: tuple[Tensor, ...] = (Tensor("query", Role.LINEAR, query, hidden, Shard.HEADS),)
    else:
        queries = (
            Tensor("query_down", Role.LINEAR, attention.query_rank, hidden, Shard.REPLICATED),
            Tensor("query_norm", Role.NORM, attention.query_rank, 1.0, Shard.REPLICATED),
            Tensor("query_up", Role.LINEAR, query, attention.query_rank, Shard.HEADS),
        )
    return (
        *queries,
        Tensor("kv_down", Role.LINEAR, kv_rank + attention.rope_dim, hidden, Shard.REPLICATED),
        Tensor("kv_norm", Role.NORM, kv_rank, 1.0, Shard.REPLICATED),
        Tensor("key_up", Role.LINEAR, heads * attention.nope_dim, kv_rank, Shard.HEADS),
        Tensor("value_up", Role.LINEAR, heads * attention.value_dim, kv_rank, Shard.HEADS),
        Tensor("attention_output", Role.LINEAR, hidden, heads * attention.value_dim, Shard.HEADS),
    )


def attention_tensors(attention: Attention | LatentAttention, hidden: float) -> tuple[Tensor, ...]:
    """The tensors of one attention layer in a model of width `hidden`, its norms over `hidden` not included."""
    match attention:
        case Attention():
            return _grouped_attention(attention, hidden)
        case LatentAttention():
            return _latent_attention(attention, hidden)


def _dense(mlp: Mlp, hidden: float, prefix: str = "") -> tuple[Tensor, ...]:
    inputs = ("gate", "up") if mlp.gated else ("up",)
    return (
        *(t for name in inputs for t in _matrix(f"{prefix}{name}", mlp.width, hidden, Shard.OUTPUT, mlp.bias)),
        *_matrix(f"{prefix}down", hidden, mlp.width, Shard.INPUT, mlp.bias, Shard.REPLICATED),
    )


def _routed(moe: Moe, hidden: float) -> tuple[Tensor, ...]:
    """The `experts` copies of one expert's tensors. Biases keep role BIAS: checkpoints do not quantise them."""
    return tuple(
        Tensor(
            f"expert_{tensor.name}",
            Role.EXPERT if tensor.role is Role.LINEAR else tensor.role,
            tensor.rows,
            tensor.columns,
            Shard.EXPERTS,
            moe.experts,
            moe.per_token,
        )
        for tensor in _dense(Mlp(moe.width, moe.gated, moe.bias), hidden)
    )


def mlp_tensors(mlp: Mlp | Moe, hidden: float) -> tuple[Tensor, ...]:
    """The tensors of one MLP or of one mixture of experts (router, routed and shared experts)."""
    match mlp:
        case Mlp():
            return _dense(mlp, hidden)
        case Moe():
            tensors = [Tensor("router", Role.ROUTER, mlp.experts, hidden, Shard.REPLICATED), *_routed(mlp, hidden)]
            if mlp.router_bias:
                tensors.append(Tensor("router_bias", Role.BIAS, mlp.experts, 1.0, Shard.REPLICATED))
            if mlp.shared:
                tensors += _dense(Mlp(mlp.shared * mlp.shared_width, mlp.gated, mlp.bias), hidden, "shared_")
            if mlp.shared_gate:
                tensors.append(Tensor("shared_gate", Role.ROUTER, 1.0, hidden, Shard.REPLICATED))
            return tuple(tensors)


def _norm(name: str, norm: Norm, width: float, count: float = 1.0) -> Tensor:
    """`count` norms over `width`: one vector each (RMS) or two (layer norm)."""
    vectors = {Norm.RMS: 1.0, Norm.LAYER: 2.0}[norm]
    return Tensor(name, Role.NORM, width, vectors, Shard.REPLICATED, count, count)


def layer_tensors(layer: Layer, model: Model) -> tuple[Tensor, ...]:
    """The tensors of one layer of `model`, its norms over the hidden size included."""
    return (
        *attention_tensors(layer.attention, model.hidden),
        *mlp_tensors(layer.mlp, model.hidden),
        _norm("norm", model.norm, model.hidden, layer.norm_count),
    )


def outer_tensors(model: Model) -> tuple[Tensor, ...]:
    """The tensors outside the layers: embeddings, position tables, final norm, head (a tied head is the embedding)."""
    hidden, vocabulary = model.hidden, model.vocabulary
    embedding = model.embedding_dim or hidden
    tensors = [Tensor("embedding", Role.EMBEDDING, vocabulary, embedding, Shard.VOCABULARY)]
    if embedding != hidden:
        tensors.append(Tensor("embedding_in", Role.LINEAR, hidden, embedding, Shard.REPLICATED))
        tensors.append(Tensor("embedding_out", Role.LINEAR, embedding, hidden, Shard.REPLICATED))
    if model.position_rows:
        tensors.append(Tensor("position", Role.POSITION, model.position_rows, hidden, Shard.REPLICATED))
    if model.token_type_rows:
        tensors.append(Tensor("token_type", Role.POSITION, model.token_type_rows, hidden, Shard.REPLICATED))
    if model.embedding_norm:
        tensors.append(_norm("embedding_norm", model.norm, hidden))
    if model.final_norm:
        tensors.append(_norm("final_norm", model.norm, hidden))
    if model.pooler:
        tensors += _matrix("pooler", hidden, hidden, Shard.REPLICATED, bias=True)
    if model.causal and not model.tied_embeddings:
        tensors.append(Tensor("head", Role.HEAD, vocabulary, embedding, Shard.VOCABULARY))
    if model.causal and model.head_bias:
        tensors.append(Tensor("head_bias", Role.BIAS, vocabulary, 1.0, Shard.VOCABULARY))
    return tuple(tensors)


def model_tensors(model: Model) -> tuple[tuple[Tensor, float], ...]:
    """Every tensor of `model` with the number of layers that repeat it; equal layers are listed once."""
    outer = ((tensor, 1.0) for tensor in outer_tensors(model))
    inner = (
        (tensor, float(repeats))
        for layer, repeats in Counter(model.layers).items()
        for tensor in layer_tensors(layer, model)
    )
    return (*outer, *inner)


def _total(model: Model, elements: Callable[[Tensor], float]) -> float:
    return sum(elements(tensor) * repeats for tensor, repeats in model_tensors(model))


def parameter_count(model: Model) -> float:
    """Parameters stored, a tied head once."""
    return _total(model, lambda tensor: tensor.elements)


def active_parameter_count(model: Model) -> float:
    """Parameters that one token passes through: `per_token` of the routed experts, all else in full.

    The whole embedding table counts, as in most published figures (gpt-oss leaves it out).
    """
    return _total(model, lambda tensor: tensor.used_elements)
