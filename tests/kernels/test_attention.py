"""Attention counts against hand derivations, against a brute-force mask, and their laws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofline.kernels.attention import (
    AttentionShape,
    FusedAttention,
    UnfusedAttention,
    UnfusedStep,
    causal_pair_count,
    fused_attention_cost,
    key_count,
    unfused_attention_cost,
)
from roofline.structs import NO_WINDOW, Dtype

sizes = st.integers(1, 40)


def shape(
    sequences=1.0, new_token=1.0, context=0.0, heads=4.0, kv_heads=2.0, head_dim=8.0, window=NO_WINDOW, causal=True
):
    return AttentionShape(
        sequences=sequences,
        new_token=new_token,
        context=context,
        heads=np.array([heads]),
        kv_heads=np.array([kv_heads]),
        head_dim=np.array([head_dim]),
        value_dim=np.array([head_dim]),
        window=np.array([window]),
        cache_value=np.array([2 * kv_heads * head_dim]),
        query=Dtype.BF16,
        cache=Dtype.BF16,
        causal=causal,
    )


@given(new=sizes, context=st.integers(0, 40), window=st.integers(1, 90))
def test_pairs_equal_a_counted_mask(new, context, window):
    query = np.arange(context, context + new)[:, None]
    key = np.arange(context + new)[None, :]
    mask = (key <= query) & (query - key < window)
    assert causal_pair_count(float(new), float(context), float(window)) == mask.sum()
    assert key_count(float(new), float(context), float(window)) == mask.any(axis=0).sum()


@given(chunks=st.lists(st.integers(1, 30), min_size=1, max_size=6), window=st.integers(1, 100))
def test_chunked_prefill_conserves_pairs(chunks, window):
    done, total = 0, 0.0
    for chunk in chunks:
        total += causal_pair_count(float(chunk), float(done), float(window))
        done += chunk
    assert total == causal_pair_count(float(done), 0.0, float(window))


def test_prefill_by_hand():
    # 2 sequences, 4 heads, T = 3: 1 + 2 + 3 = 6 pairs a head; 2·6·(8 + 8) FLOP for Q·Kᵀ and P·V.
    cost = fused_attention_cost(FusedAttention(shape(sequences=2.0, new_token=3.0), False))
    assert cost.matrix_flop == 2 * 4 * 6 * 2 * 16
    assert cost.vector_flop == 2 * 4 * 6 * 7
    assert cost.activation_read_byte == 2 * 3 * 4 * 8 * 2
    assert cost.activation_write_byte == 2 * 3 * 4 * 8 * 2
    assert cost.kv_read_byte == 2 * 3 * (2 * 2 * 8) * 2


def test_decode_by_hand_with_window():
    # One query sees min(100 + 1, 32) = 32 keys.
    cost = fused_attention_cost(FusedAttention(shape(context=100.0, window=32.0), True))
    assert cost.matrix_flop == 4 * 32 * 2 * 16
    assert cost.kv_read_byte == 32 * 32 * 2


def test_encoder_sees_everything():
    cost = fused_attention_cost(FusedAttention(shape(new_token=5.0, causal=False), False))
    assert cost.matrix_flop == 4 * 25 * 2 * 16


@pytest.mark.parametrize("step", UnfusedStep)
def test_unfused_steps_by_hand(step):
    # T = 3 on 2 cached: 3 x 5 scores a head, 4 heads.
    cost = unfused_attention_cost(UnfusedAttention(shape(new_token=3.0, context=2.0), step))
    scores, query, keys = 4 * 15, 3 * 4 * 8, 5 * 2 * 8
    expected = {
        UnfusedStep.SCORES: (2 * scores * 8, 0, 2 * (query + keys), 2 * scores),
        UnfusedStep.SCALE_MASK: (0, 2 * scores, 2 * scores, 2 * scores),
        UnfusedStep.SOFTMAX: (0, 5 * scores, 2 * scores, 2 * scores),
        UnfusedStep.VALUES: (2 * scores * 8, 0, 2 * (scores + keys), 2 * query),
        UnfusedStep.HEAD_CONCAT: (0, 0, 2 * query, 2 * query),
    }[step]
    assert (cost.matrix_flop, cost.vector_flop, cost.read_byte, cost.write_byte) == expected


@given(new=sizes, context=st.integers(0, 64), heads=st.sampled_from([1, 2, 4, 8]))
def test_full_kv_heads_is_multi_head(new, context, heads):
    # kv_heads = heads stores one key and value per query head: the definition of MHA, 2·h·d per token.
    cost = fused_attention_cost(
        FusedAttention(shape(1.0, float(new), float(context), float(heads), float(heads)), False)
    )
    assert cost.kv_read_byte == (context + new) * 2 * heads * 8 * 2


@given(new=sizes, context=st.integers(0, 64))
def test_fusing_never_costs_more(new, context):
    fused = fused_attention_cost(FusedAttention(shape(1.0, float(new), float(context)), False))
    steps = [unfused_attention_cost(UnfusedAttention(shape(1.0, float(new), float(context)), s)) for s in UnfusedStep]
    assert fused.memory_byte <= sum(cost.memory_byte for cost in steps)
    assert fused.matrix_flop <= sum(cost.matrix_flop for cost in steps)
