"""The scheduler by hand: chunks, priorities, seats and blocks; and laws of every schedule."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofline.errors import InfeasibleError, RooflineError
from roofline.serving.replica import Rules
from roofline.serving.simulation import Requests, Simulation, simulate

MS = 1e-3
RULES = Rules(budget=60, sequences=4, blocks=1000, block=16, mixed=True, ahead=False, reserved=0.0)


@dataclass(frozen=True)
class Straight:
    """Every step takes 10 ms, and 1 ms more per prompt token; `speed` divides all."""

    speed: float = 1.0

    def decode_run_s(self, sequences: int, mean_context: float, steps: int) -> Any:
        return np.full(steps, 10 * MS / self.speed)

    def step_s(self, prompt_token: int, prompt_context: float, prompts: int, decodes: int, behind: float) -> float:
        return (10 + prompt_token) * MS / self.speed


def run(
    *requests: tuple[float, int, int],
    rules: Rules = RULES,
    front_end_s: float = 0.0,
    times: Any = None,
    **options: Any,
) -> Simulation:
    """A simulation of requests given as (arrival in ms, prompt tokens, output tokens)."""
    arrival, prompt, output = (np.array(column, dtype=np.float64) for column in zip(*requests, strict=True))
    asked = Requests(arrival * MS, prompt, output, np.full(arrival.shape, front_end_s))
    return simulate(asked, rules, times or Straight(), **options)


def in_ms(times: Any) -> list[float]:
    return [round(float(time / MS), 6) for time in times]


def test_a_prompt_longer_than_the_budget_runs_in_chunks():
    # 60 and 40 tokens: 70 + 50 ms; then two decode steps of 10 ms.
    found = run((0, 100, 3))
    assert in_ms(found.first_token_s) == [120]
    assert in_ms(found.last_token_s) == [140]
    assert found.steps.prompt_token.tolist() == [60, 40, 0, 0]
    assert in_ms(found.tpot_s) == [10]


def test_chunks_of_the_next_prompt_fill_the_budget_beside_decodes():
    # Step 1: A 50, B 10 (70 ms). Step 2: A decodes, B 40 of at most 59 (50 ms). Step 3: both decode (10 ms).
    found = run((0, 50, 3), (0, 50, 2))
    assert in_ms(found.first_token_s) == [70, 120]
    assert in_ms(found.last_token_s) == [130, 130]
    assert found.steps.decodes.tolist() == [0, 1, 2]
    assert sorted(zip(in_ms(found.gap_s), found.gap_count.tolist(), strict=True)) == [(10, 1), (10, 1), (50, 1)]


def test_prompts_first_stop_all_decodes():
    # A's prompt 0-20; B comes at 25 while A decodes (20-30): B's prompt runs alone (30-60), then both decode.
    found = run((0, 10, 4), (25, 20, 2), rules=replace(RULES, mixed=False))
    assert in_ms(found.first_token_s) == [20, 60]
    assert in_ms(found.last_token_s) == [80, 70]
    assert sorted(zip(in_ms(found.gap_s), found.gap_count.tolist(), strict=True)) == [
        (10, 1),
        (10, 1),
        (10, 1),
        (40, 1),
    ]


def test_beside_decodes_the_same_prompt_holds_nobody_up():
    # The same in one step (30-60): A gets its token at 60 as well.
    found = run((0, 10, 4), (25, 20, 2))
    assert in_ms(found.first_token_s) == [20, 60]
    assert in_ms(found.last_token_s) == [70, 70]


def test_scheduled_ahead_a_request_waits_for_the_next_step_too():
    # B comes at 25, while the step 20-30 runs and that of 30-40 is scheduled: it runs from 40 on.
    found = run((0, 10, 9), (25, 20, 1), rules=replace(RULES, ahead=True))
    assert in_ms(found.scheduled_s) == [0, 40]
    assert in_ms(found.first_token_s) == [20, 70]


def test_scheduled_ahead_a_freed_seat_is_taken_a_step_later():
    # One seat: A is done at 20; the step after it was scheduled without B, which is empty: B starts at 20 all the same.
    # Two seats, C decoding: the step 40-50 runs without B.
    one = replace(RULES, sequences=1, ahead=True)
    assert in_ms(run((0, 10, 1), (0, 10, 1), rules=one).first_token_s) == [20, 40]
    two = replace(one, sequences=2)
    found = run((0, 10, 9), (0, 10, 2), (0, 10, 1), rules=two)  # A, B: prompts 0-30; decode 30-40: B is done at 40
    assert in_ms(found.scheduled_s) == [0, 0, 50]
    assert in_ms(run((0, 10, 9), (0, 10, 2), (0, 10, 1), rules=replace(two, ahead=False)).scheduled_s) == [0, 0, 40]


def test_scheduled_ahead_a_seat_freed_by_a_first_token_is_taken_a_step_later_too():
    # Two seats: A decodes, B is answered by its prompt's step (0-30). C is scheduled at 40, not at 30.
    two = replace(RULES, sequences=2)
    asked = ((0, 10, 9), (0, 10, 1), (0, 10, 1))
    assert in_ms(run(*asked, rules=two).scheduled_s) == [0, 0, 30]
    assert in_ms(run(*asked, rules=replace(two, ahead=True)).scheduled_s) == [0, 0, 40]


def test_seats_limit_who_runs_and_the_rest_wait_in_order():
    found = run((0, 10, 2), (0, 10, 2), (0, 10, 2), rules=replace(RULES, sequences=2))
    assert in_ms(found.scheduled_s) == [0, 0, 40]
    assert in_ms(found.queue_s) == [0, 0, 40]


def test_the_latest_is_sent_back_when_blocks_run_out_and_computed_again():
    # Blocks of 4, four of them. A and B hold 1 each for 4 prompt tokens, take a second each in the 1st decode step; in
    # the 5th both need a third: B, with 5 tokens generated, goes back. A holds 3 of 4 blocks until its 9th token.
    # Prompts: 0-18 (8 tokens); decode steps end at 28, 38, 48, 58; A alone: 68, 78, 88, 98: done.
    # B: 4 + 5 tokens again, 98-117: its 6th token; then three more: 127, 137, 147.
    rules = replace(RULES, block=4, blocks=4)
    found = run((0, 4, 9), (0, 4, 9), rules=rules)
    assert found.preempted.tolist() == [0, 1]
    assert in_ms(found.first_token_s) == [18, 18]
    assert in_ms(found.last_token_s) == [98, 147]
    assert max(found.gap_s) == pytest.approx(59 * MS)  # B's 6th token, 58 to 117
    assert found.steps.block.max() == 4


def test_reserved_blocks_are_never_asked_for_again():
    # All 12 cached tokens of a request are set aside: 3 blocks of 4, so B waits for A.
    rules = replace(RULES, block=4, blocks=4, reserved=1.0)
    found = run((0, 4, 9), (0, 4, 9), rules=rules)
    assert found.preempted.tolist() == [0, 0]
    assert in_ms(found.scheduled_s) == [0, 94]
    assert found.steps.block.max() == 3


def test_the_way_to_the_scheduler_is_part_of_ttft():
    found = run((0, 10, 1), (1, 10, 1), front_end_s=5 * MS)
    assert in_ms(found.ttft_s) == [25, 44]  # B is there at 6, waits for A's prompt (5-25), and takes 20


def test_a_closed_loop_keeps_its_clients_in_flight():
    found = run(*[(0, 10, 2)] * 6, clients=2)
    assert in_ms(found.arrival_s) == [0, 0, 40, 40, 80, 80]  # prompts 30 ms, one decode step of 10
    assert in_ms(found.first_token_s) == [30, 30, 70, 70, 110, 110]


def test_replicas_take_requests_in_turn():
    found = run((0, 10, 1), (0, 10, 1), (0, 10, 1), replicas=2)
    assert found.replica.tolist() == [0, 1, 0]
    assert in_ms(found.first_token_s) == [30, 20, 30]
    assert set(found.steps.replica.tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("rules", "options", "error", "said"),
    [
        (replace(RULES, sequences=61), {}, RooflineError, "max-batch-tokens: 60 is below max-sequences, 61"),
        (RULES, {"clients": 1, "replicas": 2}, RooflineError, "concurrency: 1 clients leave some of 2 replicas"),
        (replace(RULES, blocks=2), {}, InfeasibleError, "a request of 42 tokens never fits: .* holds 32 tokens"),
    ],
)
def test_rules_that_cannot_be_are_refused(rules, options, error, said):
    with pytest.raises(error, match=said):
        run((0, 40, 3), rules=rules, **options)


requests = st.lists(
    st.tuples(st.integers(0, 400), st.integers(1, 150), st.integers(1, 40)), min_size=1, max_size=25
).map(sorted)
every_rules = st.builds(
    Rules,
    budget=st.sampled_from([8, 60, 500]),
    sequences=st.integers(1, 8),
    blocks=st.sampled_from([48, 64, 1000]),
    block=st.sampled_from([4, 16]),
    mixed=st.booleans(),
    ahead=st.booleans(),
    reserved=st.sampled_from([0.0, 0.5, 1.0]),
)


@given(requests, every_rules, st.integers(1, 3), st.sampled_from([None, 3, 7]))
def test_laws_of_every_schedule(asked, rules, replicas, clients):
    found = run(*asked, rules=rules, replicas=replicas, clients=clients)
    # Causality; every request is answered, once.
    assert np.all(found.scheduled_s >= found.arrival_s)
    assert np.all(found.first_token_s > found.scheduled_s)
    assert np.all(found.last_token_s >= found.first_token_s)
    # Tokens are conserved: prompts once (more where sent back), generated tokens once, each with a gap to the last.
    generated = sum(output for _, _, output in asked)
    prompted = sum(prompt for _, prompt, _ in asked)
    assert found.gap_count.sum() == generated - len(asked)
    assert np.sum(found.gap_s * found.gap_count) == pytest.approx(np.sum(found.last_token_s - found.first_token_s))
    again = found.preempted.sum()
    assert found.steps.decodes.sum() == generated - len(asked) - again or again > 0
    assert found.steps.prompt_token.sum() >= prompted
    assert again > 0 or found.steps.prompt_token.sum() == prompted
    # Limits hold in every step; nothing is held at the end.
    assert found.steps.block.max() <= rules.blocks
    assert found.steps.decodes.max() <= rules.sequences
    assert np.all(found.steps.prompt_token + found.steps.decodes <= rules.budget)
    for replica in range(replicas):
        own = found.steps.replica == replica
        ends = found.steps.start_s[own] + found.steps.duration_s[own]
        assert np.all(found.steps.start_s[own][1:] >= ends[:-1] - 1e-12)
        assert not own.any() or found.steps.block[own][-1] == 0


@given(requests, every_rules)
def test_at_once_a_device_twice_as_fast_takes_half_the_time(asked, rules):
    at_once = [(0, prompt, output) for _, prompt, output in asked]
    slow, fast = (run(*at_once, rules=rules, times=Straight(speed)) for speed in (1.0, 2.0))
    np.testing.assert_allclose(fast.last_token_s, slow.last_token_s / 2.0, rtol=1e-9)


@given(requests, every_rules)
def test_a_device_twice_as_fast_never_takes_longer(asked, rules):
    slow, fast = (run(*asked, rules=rules, times=Straight(speed)) for speed in (1.0, 2.0))
    assert fast.makespan_s <= slow.makespan_s + 1e-9


@given(requests, every_rules)
def test_the_same_requests_give_the_same_times(asked, rules):
    first, second = run(*asked, rules=rules), run(*asked, rules=rules)
    assert np.array_equal(first.last_token_s, second.last_token_s)
