"""Requests drawn and traced, rules of engines, and what a simulation comes to."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofline.errors import InfeasibleError, RooflineError
from roofline.serving.engine import HostCost, PrefillFirst
from roofline.serving.figures import figures_of, in_system, spread_of, timeline_of
from roofline.serving.lengths import Fixed, Lengths, LogNormal
from roofline.serving.memory import kv_memory
from roofline.serving.replay import Drawn, Traced, arrivals_s, lengths_of, replay, requests_of, rules_of, traffic_of
from roofline.serving.traffic import ClosedLoop, OpenLoop
from roofline.trace import Trace

from ..builders import SLIDING, device, model, scenario
from .made import ENGINE, served

LENGTHS = Lengths(Fixed(100.0), Fixed(10.0))
TRACE = Trace(np.array([0.0, 1.0, 3.0]), np.array([10.0, 20.0, 30.0]), np.array([1.0, 2.0, 3.0]), "made.csv")


@pytest.mark.parametrize("cv", [0.0, 0.5, 1.0, 3.0])
def test_arrivals_have_the_rate_and_variability_asked_for(cv: float) -> None:
    gaps = np.diff(arrivals_s(OpenLoop(20.0, cv**2), 200_000, np.random.default_rng(1)))
    assert gaps.mean() == pytest.approx(0.05, rel=0.02)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, abs=0.03)


def test_draws_depend_on_the_seed_alone_and_not_on_each_other() -> None:
    base = Drawn(OpenLoop(5.0), Lengths(LogNormal(500.0, 1.0), LogNormal(50.0, 1.0)), 100, seed=3)
    first, again = requests_of(base, HostCost()), requests_of(base, HostCost())
    assert np.array_equal(first.arrival_s, again.arrival_s) and np.array_equal(first.input_token, again.input_token)
    other = requests_of(replace(base, seed=4), HostCost())
    assert not np.array_equal(first.input_token, other.input_token)
    longer = requests_of(replace(base, lengths=Lengths(Fixed(7.0), base.lengths.output)), HostCost())
    assert np.array_equal(first.output_token, longer.output_token)
    assert np.array_equal(first.arrival_s, longer.arrival_s)


def test_a_trace_gives_its_own_arrivals_or_its_lengths_in_order() -> None:
    own = requests_of(Traced(TRACE), HostCost(request_s=0.5, prompt_token_s=0.1))
    assert own.arrival_s.tolist() == [0.0, 1.0, 3.0]
    assert own.front_end_s.tolist() == [1.5, 2.5, 3.5]
    lengths = requests_of(Traced(TRACE, ClosedLoop(2.0), count=5), HostCost())
    assert lengths.input_token.tolist() == [10.0, 20.0, 30.0, 10.0, 20.0]
    assert requests_of(Traced(TRACE, count=2), HostCost()).arrival_s.tolist() == [0.0, 1.0]
    with pytest.raises(RooflineError, match=r"made.csv holds 3, not 4\. Give --rate"):
        requests_of(Traced(TRACE, count=4), HostCost())
    traffic = traffic_of(Traced(TRACE))
    assert isinstance(traffic, OpenLoop)
    assert (traffic.request_per_s, traffic.arrival_cv2) == (pytest.approx(2 / 3), pytest.approx(0.25 / 2.25))
    assert lengths_of(Traced(TRACE, count=2)).prompt.mean == 15.0


@pytest.mark.parametrize("count", [0, -1, 10_000_000])
def test_a_number_of_requests_that_cannot_be_is_refused(count: int) -> None:
    with pytest.raises(RooflineError, match=r"requests: .* Accepted: 1 to 5,000,000"):
        requests_of(Drawn(OpenLoop(1.0), LENGTHS, count), HostCost())


def test_the_rules_of_an_engine() -> None:
    base = served()
    rules = rules_of(base, requests_of(Drawn(OpenLoop(1.0), LENGTHS, 10), HostCost()))
    assert (rules.budget, rules.sequences, rules.mixed, rules.ahead) == (1024, 64, True, False)
    assert rules.blocks * rules.block == pytest.approx(float(base.memory.token), abs=2 * rules.block)
    first = served(replace(ENGINE, schedule=PrefillFirst(), ahead=True, reserved_output=1.0))
    other = rules_of(first, requests_of(Drawn(OpenLoop(1.0), LENGTHS, 10), HostCost()))
    assert (other.mixed, other.ahead, other.reserved) == (False, True, 1.0)


def test_windows_leave_room_for_more_requests() -> None:
    windowed = kv_memory(model(SLIDING, SLIDING), device(), scenario(), ENGINE.limits)
    requests = requests_of(Drawn(OpenLoop(1.0), Lengths(Fixed(900.0), Fixed(100.0)), 10), HostCost())
    rules = rules_of(served(memory=windowed), requests)
    assert rules.blocks // 63 == int(windowed.sequence(1000.0))  # a request of 1000 tokens is 63 blocks


def test_a_device_without_room_for_a_cache_is_told() -> None:
    tiny = kv_memory(model(), device(dram=replace(device().dram, capacity_byte=1e6)), scenario(), ENGINE.limits)
    with pytest.raises(InfeasibleError, match="leave nothing for the KV cache"):
        replay(served(memory=tiny), Drawn(OpenLoop(1.0), LENGTHS, 10))


def test_figures_by_hand() -> None:
    # One request at a time: a prompt step of 1 ms + 100 x 10.1 us, and 9 decode steps of 1 ms + 10 us + 1 us.
    found = replay(served(), Drawn(OpenLoop(1.0, 0.0), LENGTHS, 5))
    figures = figures_of(found.simulation)
    prompt_s, decode_s = 1e-3 + 100 * 10.1e-6, 1.011e-3
    assert float(figures.ttft_s.mean) == pytest.approx(prompt_s, rel=1e-6)
    assert figures.tpot_s is not None and float(figures.tpot_s.p99) == pytest.approx(decode_s, rel=1e-6)
    assert figures.makespan_s == pytest.approx(4.0 + prompt_s + 9 * decode_s, rel=1e-6)
    assert figures.utilisation == pytest.approx(5 * (prompt_s + 9 * decode_s) / figures.makespan_s, rel=1e-6)
    assert figures.decodes == pytest.approx(5 * 9 * decode_s / figures.makespan_s, rel=1e-6)
    assert (figures.steps, figures.mixed_share, figures.preemptions) == (50, 0.1, 0)
    low, high = figures_of(found.low), figures_of(found.high)
    assert float(low.ttft_s.mean) == pytest.approx(0.9 * prompt_s, rel=1e-6)
    assert float(high.ttft_s.mean) == pytest.approx(1.1 * prompt_s, rel=1e-6)
    timeline = timeline_of(found.simulation, bins=40)
    width = figures.makespan_s / 40
    assert np.sum(timeline.output_token_per_s) * width == pytest.approx(50)
    assert np.sum(timeline.prompt_token_per_s) * width == pytest.approx(500)
    assert timeline.running.max() <= 1.0 and timeline.kv_share[-1] == 0.0


@given(st.lists(st.floats(0.0, 1e3), min_size=1, max_size=50), st.integers(1, 5))
def test_counted_percentiles_are_those_of_the_repeated_values(values: list[float], times: int) -> None:
    array = np.array(values)
    counted, repeated = spread_of(array, np.full(array.shape, float(times))), spread_of(np.repeat(array, times))
    assert counted is not None and repeated is not None
    for name in ("mean", "p50", "p95", "p99"):
        assert getattr(counted, name) == pytest.approx(getattr(repeated, name))
    assert counted.p95 == np.quantile(np.repeat(array, times), 0.95, method="inverted_cdf")


def test_nothing_to_spread() -> None:
    assert spread_of(np.array([np.nan])) is None
    assert in_system(np.array([0.0, 1.0]), np.array([2.0, 3.0]), np.array([0.0, 1.5, 2.0, 3.0])).tolist() == [
        1,
        2,
        1,
        0,
    ]


def test_progress_ends_at_one_and_never_falls() -> None:
    told: list[float] = []
    replay(served(), Drawn(ClosedLoop(4.0), LENGTHS, 50), progress=told.append)
    assert told == sorted(told) and told[-1] == 1.0
