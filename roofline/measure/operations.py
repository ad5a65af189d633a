"""What each step computes, once for every library. Arguments come in the order of Operands: activations, gathered
tables, weights, cache, slots, then what the cost model ignores. Rows are tokens; heads lie on the feature axis.
"""

from typing import Any

from .library import Elementwise, ExpertRows, Library, Mask, Reduction, Tensor, grouped_queries


def linear(library: Library, x: Tensor, weight: Tensor, *bias: Tensor) -> Tensor:
    """Product of x [tokens, k] with weight [n, k] transposed."""
    return library.linear(x, weight, *bias)


def norm(library: Library, x: Tensor, *vectors: Tensor) -> Tensor:
    """An RMS norm with one vector of parameters, a layer norm with two."""
    return library.rms_norm(x, *vectors) if len(vectors) == 1 else library.layer_norm(x, *vectors)


def add(library: Library, x: Tensor, y: Tensor) -> Tensor:
    """The residual stream plus a layer's output."""
    return library.elementwise(Elementwise.ADD, x, y)


def embedding(library: Library, *tables_and_rows: Tensor) -> Tensor:
    """The sum of one row of each table per token; first the tables, then as many indices."""
    count = len(tables_and_rows) // 2
    tables, rows = tables_and_rows[:count], tables_and_rows[count:]
    x = library.take(tables[0], rows[0])
    for table, row in zip(tables[1:], rows[1:], strict=True):
        x = library.elementwise(Elementwise.ADD, x, library.take(table, row), out=x)
    return x


def head_norm(library: Library, q: Tensor, k: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
    """RMS norms of queries and keys, each head for itself."""
    return library.rms_norm(q, weights[0]), library.rms_norm(k, weights[1])


def rope(library: Library, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Rotary positions on [sequences, heads, new tokens, dim]; `sin` carries the sign of the rotation."""
    return _rotated(library, q, cos, sin), _rotated(library, k, cos, sin)


def _rotated(library: Library, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    swapped = library.concat((x[..., half:], x[..., :half]))
    swapped = library.elementwise(Elementwise.MULTIPLY, swapped, sin, out=swapped)
    turned = library.elementwise(Elementwise.MULTIPLY, x, cos)
    return library.elementwise(Elementwise.ADD, turned, swapped, out=turned)


def kv_append(library: Library, *values_and_slots: Tensor) -> None:
    """Copy what is new into its place in the cache; first what is new, then the places."""
    count = len(values_and_slots) // 2
    for value, slot in zip(values_and_slots[:count], values_and_slots[count:], strict=True):
        library.assign(slot, value)


def attention_scores(library: Library, q: Tensor, keys: Tensor) -> Tensor:
    """Q·Kᵀ, shape [sequences, heads, new tokens, keys]."""
    scores = library.matmul(grouped_queries(q, keys.shape[1]), keys.swapaxes(-1, -2))
    return scores.reshape(*q.shape[:3], keys.shape[2])


def scale_mask(library: Library, scores: Tensor, scale: float, mask: Mask) -> Tensor:
    """Scores times 1/sqrt(d), plus 0 or -inf."""
    scaled = library.elementwise(Elementwise.MULTIPLY, scores, scale)
    return library.elementwise(Elementwise.ADD, scaled, mask.additive, out=scaled)


def softmax(library: Library, scores: Tensor) -> Tensor:
    """Attention weights."""
    return library.softmax(scores)


def attention_values(library: Library, weights: Tensor, values: Tensor) -> Tensor:
    """P·V, shape [sequences, heads, new tokens, dim]."""
    product = library.matmul(grouped_queries(weights, values.shape[1]), values)
    return product.reshape(*weights.shape[:3], values.shape[3])


def head_concat(library: Library, heads: Tensor) -> Tensor:
    """Heads side by side on the feature axis, one row per token."""
    sequences, head_count, new_token, dim = heads.shape
    side_by_side = library.contiguous(library.transpose(heads, (0, 2, 1, 3)))
    return side_by_side.reshape(sequences * new_token, head_count * dim)


def fused_attention(library: Library, q: Tensor, keys: Tensor, values: Tensor, scale: float, mask: Mask) -> Tensor:
    """All of the inner part of attention in one call, heads side by side."""
    return head_concat(library, library.fused_attention(q, keys, values, mask, scale))


def gated_activation(library: Library, x: Tensor) -> Tensor:
    """SiLU of the first half of the features times the second half."""
    half = x.shape[-1] // 2
    y = library.silu(x[:, :half])
    return library.elementwise(Elementwise.MULTIPLY, y, x[:, half:], out=y)


def plain_activation(library: Library, x: Tensor) -> Tensor:
    """GELU."""
    return library.gelu(x)


def route_topk(library: Library, logits: Tensor, per_token: int) -> tuple[Tensor, Tensor, ExpertRows]:
    """Softmax over the experts, the largest `per_token` of it, and rows sorted by expert."""
    weights, choice = library.top_k(library.softmax(logits), per_token)
    return weights, choice, library.sort_by_expert(choice, logits.shape[-1])


def experts_first(library: Library, x: Tensor, *weights_and_rows: Any) -> Tensor:
    """The first product of every expert that has rows: gathers them from x, expert after expert."""
    *weights, rows = weights_and_rows
    return _experts(library, library.take(x, rows.source), weights, rows)


def experts_second(library: Library, x: Tensor, *weights_and_rows: Any) -> Tensor:
    """The second product of every expert that has rows; x holds them expert after expert."""
    *weights, rows = weights_and_rows
    return _experts(library, x, weights, rows)


def _experts(library: Library, x: Tensor, weights: list[Tensor], rows: ExpertRows) -> Tensor:
    """`weights`: for each expert with rows its matrix (and behind all matrices, the biases if there are any)."""
    counts = [count for count in rows.count if count]
    matrices, biases = weights[: len(counts)], weights[len(counts) :]
    parts, start = [], 0
    for expert, (count, matrix) in enumerate(zip(counts, matrices, strict=True)):
        parts.append(library.linear(x[start : start + count], matrix, *biases[expert : expert + 1]))
        start += count
    return library.concat(parts, axis=0)


def experts_sum(library: Library, outputs: Tensor, weights: Tensor, rows: ExpertRows) -> Tensor:
    """For each token the sum of its experts' outputs by the router's weights."""
    chosen = library.take(outputs, rows.place)
    chosen = library.elementwise(Elementwise.MULTIPLY, chosen, weights[..., None], out=chosen)
    return library.reduce(Reduction.SUM, chosen, axis=1)[:, 0]


def experts(library: Library, x: Tensor, *weights_and_routing: Any) -> Tensor:
    """Both products of the routed experts, the activation between them and the sum, as one operation."""
    *matrices, weights, rows, gated = weights_and_routing
    half = len(matrices) // 2
    y = experts_first(library, x, *matrices[:half], rows)
    y = gated_activation(library, y) if gated else plain_activation(library, y)
    return experts_sum(library, experts_second(library, y, *matrices[half:], rows), weights, rows)


def gated_sum(library: Library, x: Tensor, y: Tensor, gate: Tensor) -> Tensor:
    """The sum of x and the shared expert's output times its gate, one value per token."""
    gated = library.elementwise(Elementwise.MULTIPLY, y, gate)
    return library.elementwise(Elementwise.ADD, x, gated, out=gated)


def sampling(library: Library, logits: Tensor) -> Tensor:
    """The most probable token of each row."""
    return library.arg_max(library.softmax(logits))
