"""Ranking, ties, reasons and the Pareto front, on candidates written by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofline.planning.request import Rank, Reason, ServiceLevel
from roofline.planning.rows import front, joined
from roofline.planning.verdict import excess, metric, pareto, ranking, reasons, verdict

from .made import request, rows

LEVEL = ServiceLevel(0.1, 0.01, 95.0)


def order(found, **changes):
    tp = changes.pop("tp", [1.0] * found.size)
    return ranking(found, request(**changes), np.array(tp)).tolist()


def test_each_candidate_falls_out_for_one_reason():
    found = rows(ttft_s=[0.05, 0.2, 0.05, 0.2, np.inf], tpot_s=[0.005, 0.005, 0.02, 0.02, np.inf], load=[0.5] * 4 + [1])
    out = reasons(found, LEVEL)
    assert [name for i in range(5) for name, mask in out.items() if mask[i]] == [
        Reason.TTFT,
        Reason.TPOT,
        Reason.BOTH,
        Reason.RATE,
    ]


def test_excess_is_the_worse_of_the_two():
    assert excess(rows(ttft_s=[0.05, 0.2], tpot_s=[0.009, 0.005]), LEVEL).tolist() == pytest.approx([0.9, 2.0])


def test_money_is_per_request_so_that_rates_compare():
    found = rows(usd_per_hour=[10.0, 15.0], request_per_s=[1.0, 2.0])
    assert metric(found, request()).tolist() == [10.0, 7.5]


def test_latency_is_that_of_a_mean_request():
    found = rows(mean_ttft_s=[0.1], mean_tpot_s=[0.01])
    assert metric(found, request(rank=Rank.LATENCY)) == 0.1 + 31 * 0.01  # 32 tokens out


def test_ties_go_to_fewer_devices_then_smaller_tp_then_more_headroom():
    found = rows(
        usd_per_hour=[8.0, 8.0, 8.0, 8.0, 4.0],
        n_devices=[4.0, 2.0, 2.0, 2.0, 8.0],
        ttft_s=[0.01, 0.08, 0.08, 0.06, 0.09],
    )
    assert order(found, tp=[1.0, 2.0, 1.0, 2.0, 8.0]) == [4, 2, 3, 1, 0]


def test_money_that_differs_by_rounding_alone_is_a_tie():
    found = rows(usd_per_hour=[0.1 + 0.2, 0.3], n_devices=[1.0, 2.0])
    assert found.usd_per_hour[0] > found.usd_per_hour[1]
    assert order(found) == [0, 1]


def test_among_equals_the_engine_keeps_its_own_limits():
    found = rows(max_sequence=[16.0, 64.0, 256.0], max_batch_token=[512.0, 512.0, 512.0])
    assert order(found) == [1, 0, 2]


def test_a_verdict_counts_everything_and_keeps_the_nearest_miss():
    found = rows(usd_per_hour=[1.0, 2.0, 3.0, 4.0], ttft_s=[0.3, 0.11, 0.05, 0.05], n_devices=[1.0, 2.0, 3.0, 4.0])
    told = verdict(found, request(), 1.0, {Reason.MEMORY: 5}, {})
    assert (told.evaluated, told.pruned) == (4, 5)
    assert told.counts == {Reason.MEMORY: 5, Reason.TTFT: 2}
    assert told.misses[Reason.TTFT].ratio == 0.11 / 0.1
    assert told.best.usd_per_hour.tolist() == [3.0]
    assert told.points.size == 4


def test_an_unstable_candidate_is_no_point():
    told = verdict(rows(load=[1.5, 0.5], ttft_s=[np.inf, 0.05], tpot_s=[np.inf, 0.005]), request(), 1.0, {}, {})
    assert told.points.size == 1
    assert told.misses[Reason.RATE].ratio == 1.5


POINT = st.tuples(st.integers(0, 6), st.integers(0, 6))


@given(st.lists(POINT, max_size=30))
def test_the_front_is_what_no_other_point_beats(points):
    x, y = (np.array([float(p[axis]) for p in points]) for axis in (0, 1))
    kept = front(x, y)

    def beaten(i):
        return any(
            (x[j] >= x[i] and y[j] >= y[i] and (x[j] > x[i] or y[j] > y[i]))
            or (x[j] == x[i] and y[j] == y[i] and j < i)
            for j in range(len(points))
        )

    assert kept.tolist() == [not beaten(i) for i in range(len(points))]


def test_the_plot_is_tokens_per_device_against_tokens_per_user():
    # per user 100, 200, 200; per device 50 · 32 / n = 1600, 800, 400: the third is beaten by the second
    found = rows(mean_tpot_s=[0.01, 0.005, 0.005], n_devices=[1.0, 2.0, 4.0], request_per_s=[50.0] * 3)
    assert pareto(found, request()).tolist() == [True, True, False]


def test_joining_nothing_gives_nothing():
    assert joined([]).size == 0
