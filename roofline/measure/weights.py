"""Random weights of a model, by the name of the step that reads them, and the caches that its steps fill."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..model import Attention, LatentAttention, Layer, Mlp, Model, Moe, Norm
from ..workload import AttentionKind
from .library import Library, Tensor

StepWeights = Mapping[str, tuple[Tensor, ...]]
"""For each step its matrices and vectors, in the order in which its operation takes them."""

BLOCK = 1 << 20
"""Arrays are parts of a block of this many random values, large ones repeat it: their content does not matter, drawing
it takes long.
"""


@cache
def _block() -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal(BLOCK, dtype=np.float32)


def drawn(start: int, *shape: int) -> NDArray[np.float32]:
    """Normal values from the `start`-th of the block on, of the size that keeps a product's output near 1."""
    count, scale = prod(shape), np.float32(1.0 / np.sqrt(shape[-1]))
    found = np.empty(count, np.float32)
    done = 0
    while done < count:
        part = _block()[start : start + count - done]
        np.multiply(part, scale, out=found[done : done + part.size])
        done, start = done + part.size, 0
    return found.reshape(shape)


@dataclass(frozen=True, slots=True)
class Source:
    """Random values for one library, reproducible; equal for every library."""

    library: Library
    random: np.random.Generator

    def values(self, *shape: int) -> NDArray[Any]:
        """Values of about the size that keeps a product's output near 1."""
        return drawn(int(self.random.integers(BLOCK)), *shape)

    def linear(self, n: float, k: float, bias: bool) -> tuple[Tensor, ...]:
        """A matrix [n, k] in the format of weights, and its bias."""
        matrix = self.library.weight(self.values(int(n), int(k)))
        return (matrix, self.vector(n)) if bias else (matrix,)

    def stream(self, n: float, k: float, bias: bool = False) -> tuple[Tensor, ...]:
        """A matrix [n, k] in the format of activations, and its bias."""
        matrix = self.library.tensor(self.values(int(n), int(k)))
        return (matrix, self.vector(n)) if bias else (matrix,)

    def vector(self, n: float) -> Tensor:
        """Parameters of a norm, or a bias."""
        return self.library.tensor(self.near_one(int(n)))

    def near_one(self, count: int) -> NDArray[Any]:
        """Values around 1."""
        return 1.0 + 0.1 * self.values(count)

    def norm(self, kind: Norm, n: float) -> tuple[Tensor, ...]:
        """The vectors of one norm: a scale near one, and where it has a bias, one near zero."""
        bias = () if kind is Norm.RMS else (self.library.tensor(self.near_one(int(n)) - 1.0),)
        return (self.vector(n), *bias)


def layer_weights(source: Source, model: Model, layer: Layer, kind: AttentionKind) -> StepWeights:
    """The weights of one layer."""
    hidden = model.hidden
    norms = ("attention_norm", "mlp_norm", "attention_output_norm", "mlp_output_norm")
    found = {name: source.norm(model.norm, hidden) for name in norms[: max(int(layer.norm_count), 1)]}
    match layer.attention:
        case Attention():
            found |= _attention(source, hidden, layer.attention, kind)
        case LatentAttention():
            found |= _latent(source, hidden, layer.attention)
    match layer.mlp:
        case Mlp():
            found |= _mlp(source, hidden, layer.mlp, "")
        case Moe():
            found |= _moe(source, hidden, layer.mlp)
    return found


def _attention(source: Source, hidden: float, attention: Attention, kind: AttentionKind) -> StepWeights:
    query, key = attention.heads * attention.head_dim, attention.kv_heads * attention.head_dim
    rows = {"q_proj": int(query), "k_proj": int(key), "v_proj": int(key)}
    matrices = {name: source.values(count, int(hidden)) for name, count in rows.items()}
    biases = {name: source.near_one(count) for name, count in rows.items()} if attention.qkv_bias else {}
    if kind is AttentionKind.FUSED:
        matrices = {"qkv_proj": np.concatenate(list(matrices.values()))}
        biases = {"qkv_proj": np.concatenate(list(biases.values()))} if biases else {}
    found: dict[str, tuple[Tensor, ...]] = {
        name: (source.library.weight(matrix), *(source.library.tensor(biases[each]) for each in biases if each == name))
        for name, matrix in matrices.items()
    }
    found["o_proj"] = source.linear(hidden, query, attention.output_bias)
    if attention.qk_norm:
        found["qk_norm"] = (source.vector(attention.head_dim), source.vector(attention.head_dim))
    return found


def _latent(source: Source, hidden: float, attention: LatentAttention) -> StepWeights:
    heads, rank = attention.heads, attention.kv_rank
    query = heads * (attention.nope_dim + attention.rope_dim)
    found = {
        "kv_a_proj": source.linear(rank + attention.rope_dim, hidden, False),
        "kv_a_norm": (source.vector(rank),),
        "kv_b_proj": source.linear(heads * (attention.nope_dim + attention.value_dim), rank, False),
        "o_proj": source.linear(hidden, heads * attention.value_dim, False),
    }
    if attention.query_rank is None:
        return found | {"q_proj": source.linear(query, hidden, False)}
    return found | {
        "q_a_proj": source.linear(attention.query_rank, hidden, False),
        "q_a_norm": (source.vector(attention.query_rank),),
        "q_b_proj": source.linear(query, attention.query_rank, False),
    }


def _mlp(source: Source, hidden: float, mlp: Mlp, prefix: str) -> StepWeights:
    up, inputs = ("gate_up_proj", 2.0) if mlp.gated else ("up_proj", 1.0)
    return {
        f"{prefix}{up}": source.linear(inputs * mlp.width, hidden, mlp.bias),
        f"{prefix}down_proj": source.linear(hidden, mlp.width, mlp.bias),
    }


def _moe(source: Source, hidden: float, moe: Moe) -> StepWeights:
    up, inputs = ("experts_gate_up", 2.0) if moe.gated else ("experts_up", 1.0)
    experts = range(int(moe.experts))
    found = {"router": source.stream(moe.experts, hidden, moe.router_bias)}
    for name, n, k in ((up, inputs * moe.width, hidden), ("experts_down", hidden, moe.width)):
        each = [source.linear(n, k, moe.bias) for _ in experts]
        found[name] = tuple(tensor for kind in zip(*each, strict=True) for tensor in kind)
    if moe.shared:
        found |= _mlp(source, hidden, Mlp(moe.shared * moe.shared_width, moe.gated, moe.bias), "shared_")
        if moe.shared_gate:
            found["shared_gate"] = source.stream(1.0, hidden)
    return found


def model_weights(source: Source, model: Model) -> StepWeights:
    """The weights outside the layers: tables, head, and the norms there."""
    width = model.embedding_dim or model.hidden
    rows = (model.vocabulary, model.position_rows, model.token_type_rows)
    tables = tuple(source.stream(count, width)[0] for count in rows if count)
    found = {"embedding": tables}
    if width != model.hidden:
        found["embedding_in_proj"] = source.linear(model.hidden, width, False)
        found["embedding_out_proj"] = source.linear(width, model.hidden, False)
    if model.embedding_norm:
        found["embedding_norm"] = source.norm(model.norm, model.hidden)
    if model.final_norm:
        found["final_norm"] = source.norm(model.norm, model.hidden)
    if model.pooler:
        found["pooler"] = source.stream(model.hidden, model.hidden, bias=True)
    if model.causal:
        head = (tables[0],) if model.tied_embeddings else source.stream(model.vocabulary, width)
        found["lm_head"] = (*head, source.vector(model.vocabulary)) if model.head_bias else head
    return found


def make_cache(
    library: Library, attention: Attention | LatentAttention, sequences: int, tokens: int
) -> tuple[Tensor, ...]:
    """Room for `tokens` tokens: keys and values [sequences, kv heads, tokens, dim], or latents with one head."""
    match attention:
        case Attention():
            shape = (sequences, int(attention.kv_heads), tokens, int(attention.head_dim))
            return library.empty(shape), library.empty(shape)
        case LatentAttention():
            return (library.empty((sequences, 1, tokens, int(attention.kv_rank + attention.rope_dim))),)
