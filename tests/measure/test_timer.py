"""The timer: statistics by hand, budgets on a scripted clock, and the device clock on a stand-in for CUDA."""

from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofline.errors import RooflineError
from roofline.measure import timer
from roofline.measure.timer import Budget, EventClock, Samples, SweptClock, WallClock, time_call, visit

NO_WARM_UP = Budget(warm_up_s=0.0, least_sample=7, most_sample=50, least_s=0.0, most_s=60.0, spread=0.05, sample_s=0.0)


class ScriptedClock:
    """Turns that take the given seconds; remembers how many executions each had."""

    def __init__(self, seconds, waits=()):
        self.seconds, self.inner, self.waits = seconds, None, iter(waits)

    def waited_s(self):
        return next(self.waits, 0.0)

    def finish(self):
        pass

    def turn(self, copies):
        return 1

    def turns(self, call, inner):
        self.inner = inner
        yield from self.seconds


def test_statistics_by_hand():
    samples = Samples(np.array([3.0, 1.0, 2.0, 5.0, 4.0]))
    assert samples.median_s == 3.0
    assert samples.fast_s == pytest.approx(1.8)  # a fifth of the way along four gaps: 1 + 0.8
    assert samples.fast_spread == pytest.approx(0.8)
    assert samples.interval_s == (1.0, 5.0)


def test_the_interval_is_that_of_order_statistics():
    """n = 100: ranks 50 -+ 9.8; the 41st and the 60th ordered value (0-based 40 and 59)."""
    assert Samples(np.arange(100.0)).interval_s == (40.0, 59.0)


@given(st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=60))
def test_the_interval_holds_the_median_and_the_fast_side_is_not_slower(seconds):
    samples = Samples(np.array(seconds))
    low, high = samples.interval_s
    assert low <= samples.median_s <= high
    assert samples.fast_s <= samples.median_s
    assert samples.fast_spread >= 0.0


@given(st.lists(st.floats(0.0, 1.0), min_size=30, max_size=30))
def test_contention_on_the_slow_half_does_not_move_the_fast_side(delays):
    quiet = np.full(100, 1e-3)
    noisy = quiet + np.array([0.0] * 70 + delays)
    assert Samples(noisy).fast_s == Samples(quiet).fast_s


def test_it_stops_when_the_fast_side_is_known():
    clock = ScriptedClock([1.0] * 50)
    assert time_call(lambda _: None, NO_WARM_UP, clock).seconds.size == 7


def test_it_repeats_while_the_fast_side_moves():
    """Ever faster samples: the fastest is 5 % below the 20th percentile until the end."""
    clock = ScriptedClock([0.9**i for i in range(200)])
    assert time_call(lambda _: None, NO_WARM_UP, clock).seconds.size == 50


def test_samples_are_seconds_of_one_execution():
    clock = ScriptedClock([8.0] * 50)
    samples = time_call(lambda _: None, NO_WARM_UP, clock, turn=4)
    assert clock.inner == 4
    np.testing.assert_array_equal(samples.seconds, 2.0)


def test_an_operation_without_time_is_an_error():
    with pytest.raises(RooflineError, match="no measurable time"):
        time_call(lambda _: None, NO_WARM_UP, ScriptedClock([0.0] * 50))


def test_copies_take_turns_on_the_wall_clock():
    seen = []
    turns = WallClock().turns(seen.append, 3)
    next(turns), next(turns)
    assert seen == [0, 1, 2, 3, 4, 5]


class FakeCuda:
    """As much of torch.cuda as the clock uses, on the CPU: capturing runs the calls, replay moves the time."""

    def __init__(self, milliseconds_per_call):
        self.now_ms, self.captured, self.per_call, self.synchronised = 0.0, 0, milliseconds_per_call, 0
        self.capturing = False

    def launch(self, _):
        if self.capturing:
            self.captured += 1
        else:
            self.now_ms += self.per_call

    def synchronize(self):
        self.synchronised += 1

    def Event(self, enable_timing):  # noqa: N802
        assert enable_timing
        return FakeEvent(self)

    def CUDAGraph(self):  # noqa: N802
        return FakeGraph(self)

    @contextmanager
    def graph(self, _):
        self.capturing = True
        yield
        self.capturing = False


class FakeEvent:
    def __init__(self, cuda):
        self.cuda, self.at = cuda, None

    def record(self):
        self.at = self.cuda.now_ms

    def elapsed_time(self, end):
        return end.at - self.at


class FakeGraph:
    def __init__(self, cuda):
        self.cuda = cuda

    def replay(self):
        self.cuda.now_ms += self.cuda.captured * self.cuda.per_call


@pytest.mark.parametrize("captured", [True, False])
def test_device_time_is_that_of_one_execution_with_and_without_a_graph(captured):
    cuda = FakeCuda(milliseconds_per_call=0.25)
    clock = EventClock(cuda, captured=captured)
    samples = time_call(cuda.launch, NO_WARM_UP, clock, turn=clock.turn(6))
    np.testing.assert_allclose(samples.seconds, 0.25e-3, rtol=1e-9)
    assert cuda.captured == (6 if captured else 0)  # one graph of all six copies
    assert cuda.synchronised >= samples.seconds.size


def test_samples_during_which_a_thread_waited_are_set_apart_and_taken_again():
    """The second and third turn of 1 s see a wait of 0.5 s: they count nowhere; 0.005 s is below two per cent."""
    clock = ScriptedClock([1.0, 9.0, 9.0] + [1.0] * 40, waits=[0.0, 0.0, 0.5, 1.0, 1.005] + [1.005] * 60)
    samples = time_call(lambda _: None, NO_WARM_UP, clock)
    assert samples.disturbed.tolist() == [9.0, 9.0]
    assert samples.seconds.tolist() == [1.0] * 7


def test_a_machine_that_is_never_quiet_gives_what_it_can():
    budget = Budget(warm_up_s=0.0, least_sample=2, least_s=0.0, most_s=0.005, sample_s=0.0)
    waits = (float(second) for second in range(10**9))
    clock = WallClock()
    samples = time_call(lambda _: None, budget, ScriptedClock(clock.turns(lambda _: sum(range(100)), 1), waits))
    assert samples.seconds.size > 0
    assert samples.seconds.tolist() == samples.disturbed.tolist()  # and the reader of records refuses it


def test_the_scheduler_tells_how_long_this_process_waited():
    first = WallClock().waited_s()
    assert 0.0 <= first <= WallClock().waited_s()


def test_a_sweep_comes_before_every_execution_and_is_not_timed(monkeypatch):
    """A clock that a sweep moves by 100 s and a call by 1 s: turns of three executions take 3 s. Sweeps take turns, and
    all of them come first.
    """
    now, told = [0.0], []

    def moved(what, seconds):
        told.append(what)
        now[0] += seconds

    monkeypatch.setattr(timer, "perf_counter", lambda: now[0])
    sweeps = tuple(lambda name=name: moved(name, 100.0) for name in "ab")
    clock = SweptClock(sweeps, 16e6)
    turns = clock.turns(lambda index: moved(index, 1.0), 3)
    assert clock.between_byte == 16e6
    assert [next(turns), next(turns)] == [3.0, 3.0]
    assert told == ["a", "b", "a", 0, "b", 1, "a", 2, "b", 3, "a", 4, "b", 5]


def test_a_visit_is_its_part_of_the_budget():
    part = visit(Budget(least_sample=7, most_sample=200, most_s=1.0), 2)
    assert (part.least_sample, part.most_sample, part.most_s, part.sample_s) == (4, 100, 0.5, 0.0)
