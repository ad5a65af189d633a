"""GEMM, experts, pointwise and collectives by hand, and the laws of Cost."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofline.cost import COST_FIELDS, Cost
from roofline.kernels.collective import Collective, CollectiveKind, collective_cost
from roofline.kernels.gemm import Gemm, gemm_cost
from roofline.kernels.moe import ExpertGemm, expert_gemm_cost, touched_experts
from roofline.kernels.pointwise import Pointwise, PointwiseKind, pointwise_cost
from roofline.structs import STORED_BYTE, Dtype

one, zero = np.ones(1), np.zeros(1)


def gemm(m, n, k, weight=Dtype.BF16, bias=0.0, copies=1.0):
    parts = (np.array([float(x)]) for x in (n, k, copies, bias))
    return Gemm(float(m), *parts, weight, Dtype.BF16, Dtype.BF16)


def test_gemm_by_hand():
    cost = gemm_cost(gemm(3, 5, 7, bias=1.0))
    assert cost.matrix_flop == 2 * 3 * 5 * 7
    assert cost.vector_flop == 15
    assert cost.weight_read_byte == 2 * (5 * 7 + 5)
    assert cost.activation_read_byte == 2 * 3 * 7
    assert cost.activation_write_byte == 2 * 3 * 5


def test_quantised_weights_save_bytes_not_flop():
    narrow, wide = gemm_cost(gemm(3, 128, 128, Dtype.INT4)), gemm_cost(gemm(3, 128, 128))
    assert narrow.matrix_flop == wide.matrix_flop
    # Four bits a value and one 16-bit scale per 128 of them.
    assert narrow.weight_read_byte == 128 * 128 / 2 + 2 * 128
    assert narrow.weight_read_byte / wide.weight_read_byte == STORED_BYTE[Dtype.INT4] / 2


def test_flop_beyond_int64_stay_exact_to_double_precision():
    cost = gemm_cost(gemm(2**21, 2**21, 2**22))
    assert cost.matrix_flop == 2.0**65


@given(token=st.integers(1, 512), experts=st.sampled_from([8, 64, 128]), per_token=st.integers(1, 8))
def test_touched_experts_stay_between_their_limits(token, experts, per_token):
    touched = touched_experts(float(token), float(per_token), float(experts), float(experts))
    assert min(per_token, experts) - 1e-9 <= touched <= min(token * per_token, experts) + 1e-9


def test_touched_experts_against_simulated_routing():
    generator = np.random.default_rng(0)
    hits = [
        np.unique(np.concatenate([generator.choice(64, 4, replace=False) for _ in range(16)])).size for _ in range(2000)
    ]
    assert touched_experts(16.0, 4.0, 64.0, 64.0) == pytest.approx(np.mean(hits), rel=0.01)


def test_expert_gemm_by_hand():
    # 16 tokens to 2 of 8 experts, 4 of them here: 16 expected rows; touched 4·(1 - (3/4)^16).
    work = ExpertGemm(16.0, 2 * one, 8 * one, 4 * one, 10 * one, 6 * one, zero, Dtype.BF16, Dtype.BF16, Dtype.BF16)
    cost = expert_gemm_cost(work)
    assert cost.matrix_flop == 2 * 16 * 10 * 6
    assert cost.weight_read_byte == pytest.approx(4 * (1 - 0.75**16) * 10 * 6 * 2)
    assert cost.activation_read_byte == 16 * 6 * 2


def test_pointwise_by_hand():
    cost = pointwise_cost(Pointwise(3.0, 7 * one, 4 * one, 2 * one, 5 * one, 11 * one, one, (PointwiseKind.NORM,)))
    assert (cost.flop, cost.read_byte, cost.write_byte, cost.kv_write_byte) == (21, 12 + 11, 6 + 15, 15)


@pytest.mark.parametrize(
    ("kind", "sent"),
    [
        # 4 ranks, 1000 bytes in all: ring all-reduce sends 2·(3/4); gather, scatter and all-to-all 3/4; a copy all.
        (CollectiveKind.ALL_REDUCE, 1500),
        (CollectiveKind.ALL_GATHER, 750),
        (CollectiveKind.REDUCE_SCATTER, 750),
        (CollectiveKind.ALL_TO_ALL, 750),
        (CollectiveKind.POINT_TO_POINT, 1000),
    ],
)
def test_collective_bytes_by_hand(kind, sent):
    assert collective_cost(Collective(kind, 10.0, 100 * one, 4 * one)).link_byte == sent


amounts = st.floats(0, 1e18)


@given(a=st.lists(amounts, min_size=8, max_size=8), b=st.lists(amounts, min_size=8, max_size=8))
def test_costs_add_field_by_field(a, b):
    total = Cost(*a) + Cost(*b)
    assert [getattr(total, name) for name in COST_FIELDS] == [x + y for x, y in zip(a, b, strict=True)]
    assert (Cost(*a) * 2.0).flop == 2 * Cost(*a).flop
