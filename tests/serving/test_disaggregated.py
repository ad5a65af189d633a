from dataclasses import replace

import numpy as np
import pytest

from roofline.device import Link
from roofline.errors import InfeasibleError
from roofline.serving.disaggregated import Pools, disaggregated_state, pools_of, transfer_s
from roofline.serving.lengths import Fixed, Lengths
from roofline.serving.traffic import ClosedLoop, OpenLoop

from ..builders import device
from .made import served

# LineTimes: a prompt of 100 tokens alone takes 1 ms + 100 · 10.1 us, a decode step of B sequences 1 ms + 11 us · B
LENGTHS = Lengths(Fixed(100.0), Fixed(101.0))
PROMPT_S = 1e-3 + 100 * 1.01e-5
POOLS = Pools(2.0, 3.0, Link(1e9, 8.0, 1e-5), 0.5)


def test_a_cache_crosses_the_link_at_its_share_of_the_rate():
    # 112 tokens in whole blocks, 1,024 bytes each in the small test model
    assert float(transfer_s(served(), POOLS, 100.0)) == pytest.approx(112 * 1024 / 0.5e9 + 1e-5)


def test_at_low_rate_a_request_meets_nobody():
    found = disaggregated_state(served(), POOLS, OpenLoop(0.01), LENGTHS)
    assert float(found.ttft_s.mean) == pytest.approx(PROMPT_S + float(found.transfer_s), rel=1e-3)
    assert float(found.tpot_s.mean) == pytest.approx(1e-3 + 1.1e-5, rel=1e-3)


def test_decodes_are_not_held_up_by_prompts_and_split_over_their_pool():
    found = disaggregated_state(served(), POOLS, OpenLoop(300.0), LENGTHS)
    tpot, each = float(found.tpot_s.mean), float(found.batch) / 3.0
    assert tpot == pytest.approx(1e-3 + 1.1e-5 * each, rel=1e-4)
    assert each == pytest.approx(100.0 * 100 * tpot, rel=1e-4)  # a third of 300/s, 100 steps each


def test_the_smaller_pool_limits_the_rate():
    # ten prompts share a step of 1,024 tokens: 1 ms + 1,000 · 10.1 us for ten
    few = disaggregated_state(served(), replace(POOLS, prefill=1.0, decode=50.0), OpenLoop(1.0), LENGTHS)
    assert float(few.saturation_request_per_s) == pytest.approx(10 / (1e-3 + 1000 * 1.01e-5))
    slow = disaggregated_state(served(), replace(POOLS, prefill=50.0, decode=1.0), OpenLoop(1.0), LENGTHS)
    assert float(slow.saturation_request_per_s) == pytest.approx(64.0 / (100 * (1e-3 + 1.1e-5 * 64)))


def test_a_closed_loop_obeys_littles_law():
    found = disaggregated_state(served(), POOLS, ClosedLoop(np.array([1.0, 8.0, 60.0])), LENGTHS)
    time_s = found.ttft_s.mean + 100 * found.tpot_s.mean
    assert found.request_per_s * time_s == pytest.approx(np.array([1.0, 8.0, 60.0]), rel=0.01)


def test_above_saturation_there_is_no_steady_state():
    found = disaggregated_state(served(), POOLS, OpenLoop(1e6), LENGTHS)
    assert np.isinf(found.tpot_s.mean) and np.isinf(found.ttft_s.mean)
    assert float(found.request_per_s) == pytest.approx(float(found.saturation_request_per_s))


def test_the_link_is_that_of_the_node_where_the_pools_fit_into_one():
    where = device()
    assert pools_of(where, 2.0, 4.0, 6.0).link == where.intra_node
    assert pools_of(where, 8.0, 4.0, 12.0).link == where.inter_node
    with pytest.raises(InfeasibleError, match="states no link"):
        pools_of(device(intra_node=None, inter_node=None), 1.0, 1.0, 2.0)
