"""The inner part of attention: Q·Kᵀ, scale and mask, softmax, P·V; as one fused kernel, or step by step."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from ..cost import Cost
from ..structs import FLOP_PER_FMA, NO_WINDOW, STORED_BYTE, Array, Dtype, Number

SOFTMAX_FLOP = 5.0
"""Vector FLOP per score of a softmax: maximum, subtract, exp, sum, divide."""

SCALE_MASK_FLOP = 2.0
"""Vector FLOP per score: multiply by 1/sqrt(d), add the mask."""


class UnfusedStep(StrEnum):
    """The steps of unfused attention in their order: Q·Kᵀ, scale and mask, softmax, P·V, head concatenation."""

    SCORES = "attention_scores"
    SCALE_MASK = "scale_mask"
    SOFTMAX = "softmax"
    VALUES = "attention_values"
    HEAD_CONCAT = "head_concat"


@dataclass(frozen=True, slots=True)
class AttentionShape:
    """`sequences` x `new_token` queries against `context` cached tokens and themselves, per device.

    The last axis runs over kernels (kinds of layer). `cache_value`: values that the cache stores per token and layer on
    this device, kv_heads·(head_dim + value_dim) or the latent of MLA. `cache`: their format. `causal` False: every
    token sees every token.
    """

    sequences: Number
    new_token: Number
    context: Number
    heads: Array
    kv_heads: Array
    head_dim: Array
    value_dim: Array
    window: Array
    cache_value: Array
    query: Dtype
    cache: Dtype
    causal: bool


@dataclass(frozen=True, slots=True)
class FusedAttention:
    """Flash attention, or flash decoding where the sequences are `decoding`: scores never leave the chip, masked pairs
    are skipped. `latent`: the queries and keys of multi-head latent attention, for which libraries have other kernels.
    """

    shape: AttentionShape
    decoding: bool
    latent: bool = False


@dataclass(frozen=True, slots=True)
class WholeLatentAttention:
    """Multi-head latent attention as one operation of a library (DeepSeek-V2, arXiv 2405.04434, section 2.1): the
    products with W_UK and W_UV and attention between them; sizes as in model.LatentAttention, per device.

    Where the sequences are `decoding`, queries are absorbed into the latent space; otherwise keys and values of every
    token, cached or new, are expanded from the latents. `weight`, `query`, `cache`: formats of W_UK and W_UV, of
    queries and outputs, and of the latents.
    """

    sequences: Number
    new_token: Number
    context: Number
    heads: Array
    kv_rank: Array
    rope_dim: Array
    nope_dim: Array
    value_dim: Array
    weight: Dtype
    query: Dtype
    cache: Dtype
    decoding: bool


@dataclass(frozen=True, slots=True)
class MixedAttention:
    """Fused attention of prompts and of decoding sequences in one step, of the same kernels. Libraries run it as one
    launch or as two: timing knows which.
    """

    prompts: AttentionShape
    decodes: AttentionShape

    @property
    def parts(self) -> tuple[FusedAttention, FusedAttention]:
        """As two launches: the prompts, the decodes."""
        return FusedAttention(self.prompts, decoding=False), FusedAttention(self.decodes, decoding=True)


@dataclass(frozen=True, slots=True)
class UnfusedAttention:
    """One step of plain attention, for each kind of layer; every step reads and writes whole score matrices."""

    shape: AttentionShape
    step: UnfusedStep


def key_count(new_token: Number, context: Number, window: Number) -> Number:
    """Keys that a sequence's new tokens touch together: min(context, window - 1) + new_token.

    Decode with a full cache gives min(context + 1, window).
    """
    return np.minimum(context, window - 1.0) + new_token


def causal_pair_count(new_token: Number, context: Number, window: Number) -> Number:
    """(query, key) pairs under a causal mask: the sum of min(context + i, window) for i = 1 … new_token.

    Closed form: the first `rising` queries see one key more each, the others see `window`.
    """
    rising = np.clip(window - context, 0.0, new_token)
    return rising * context + rising * (rising + 1.0) / 2.0 + (new_token - rising) * window


def pair_count(shape: AttentionShape) -> Number:
    """(query, key) pairs of one head and one sequence that a fused kernel computes."""
    if shape.causal:
        return causal_pair_count(shape.new_token, shape.context, shape.window)
    return shape.new_token * key_count(shape.new_token, shape.context, shape.window)


def fused_attention_cost(work: FusedAttention) -> Cost:
    """Cost of one fused kernel. Counts the exact causal or windowed pairs, Q and O once, every key and value once.

    Ignores: tiles computed in full at the diagonal, re-reads of K and V by query tiles, the partial results of split
    KV (timing models know them). Source: Dao, FlashAttention-2 (arXiv 2307.08691), section 3.
    """
    shape = work.shape
    head_pairs = shape.sequences * shape.heads * pair_count(shape)
    queries = shape.sequences * shape.new_token * shape.heads
    keys = shape.sequences * key_count(shape.new_token, shape.context, shape.window)
    return Cost(
        matrix_flop=FLOP_PER_FMA * head_pairs * (shape.head_dim + shape.value_dim),
        vector_flop=head_pairs * (SOFTMAX_FLOP + SCALE_MASK_FLOP),
        activation_read_byte=queries * shape.head_dim * STORED_BYTE[shape.query],
        activation_write_byte=queries * shape.value_dim * STORED_BYTE[shape.query],
        kv_read_byte=keys * shape.cache_value * STORED_BYTE[shape.cache],
    )


def whole_latent_attention_cost(work: WholeLatentAttention) -> Cost:
    """Cost of one operation. Counts the products with W_UK and W_UV (2 · heads · kv_rank · (nope_dim + value_dim) FLOP
    a row: new tokens where absorbed, all tokens where expanded), exact causal pairs, weights, latents, queries and
    outputs once. Ignores: what its kernels hand to each other through memory (expanded keys and values, absorbed
    queries, partial results of split keys).
    """
    keys = key_count(work.new_token, work.context, NO_WINDOW)
    head_pairs = work.sequences * work.heads * causal_pair_count(work.new_token, work.context, NO_WINDOW)
    weight = work.heads * work.kv_rank * (work.nope_dim + work.value_dim)
    latent, key = work.kv_rank + work.rope_dim, work.nope_dim + work.rope_dim
    if work.decoding:
        projected, pair_value = work.sequences * work.new_token, latent + work.kv_rank
    else:
        projected, pair_value = work.sequences * keys, key + work.value_dim
    queries = work.sequences * work.new_token * work.heads
    return Cost(
        matrix_flop=FLOP_PER_FMA * (projected * weight + head_pairs * pair_value),
        vector_flop=head_pairs * (SOFTMAX_FLOP + SCALE_MASK_FLOP),
        weight_read_byte=weight * STORED_BYTE[work.weight],
        activation_read_byte=queries * key * STORED_BYTE[work.query],
        activation_write_byte=queries * work.value_dim * STORED_BYTE[work.query],
        kv_read_byte=work.sequences * keys * latent * STORED_BYTE[work.cache],
    )


def mixed_attention_cost(work: MixedAttention) -> Cost:
    """Cost of prompts and decodes together: the sum of both."""
    prompts, decodes = work.parts
    return fused_attention_cost(prompts) + fused_attention_cost(decodes)


def unfused_attention_cost(work: UnfusedAttention) -> Cost:
    """Cost of one step of plain attention: whole rectangles of scores, new_token x keys, masked or not.

    Absorbed latents are keys and values in one: both products read them. Ignores: copies that repeat K and V for
    grouped queries, upcasts to fp32 inside the softmax.
    Source: Vaswani et al., arXiv 1706.03762, equation 1.
    """
    shape = work.shape
    query_byte = STORED_BYTE[shape.query]
    keys = key_count(shape.new_token, shape.context, shape.window)
    queries = shape.sequences * shape.heads * shape.new_token
    scores = queries * keys
    cached_byte = shape.sequences * keys * shape.kv_heads * STORED_BYTE[shape.cache]
    match work.step:
        case UnfusedStep.SCORES:
            return Cost(
                matrix_flop=FLOP_PER_FMA * scores * shape.head_dim,
                activation_read_byte=queries * shape.head_dim * query_byte,
                kv_read_byte=cached_byte * shape.head_dim,
                activation_write_byte=scores * query_byte,
            )
        case UnfusedStep.SCALE_MASK:
            return Cost(
                vector_flop=SCALE_MASK_FLOP * scores,
                activation_read_byte=scores * query_byte,
                activation_write_byte=scores * query_byte,
            )
        case UnfusedStep.SOFTMAX:
            return Cost(
                vector_flop=SOFTMAX_FLOP * scores,
                activation_read_byte=scores * query_byte,
                activation_write_byte=scores * query_byte,
            )
        case UnfusedStep.VALUES:
            return Cost(
                matrix_flop=FLOP_PER_FMA * scores * shape.value_dim,
                activation_read_byte=scores * query_byte,
                kv_read_byte=cached_byte * shape.value_dim,
                activation_write_byte=queries * shape.value_dim * query_byte,
            )
        case UnfusedStep.HEAD_CONCAT:
            return Cost(
                activation_read_byte=queries * shape.value_dim * query_byte,
                activation_write_byte=queries * shape.value_dim * query_byte,
            )
