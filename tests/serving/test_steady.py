from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roofline.serving.cycle import NO_SPECULATION, Speculation, load_of
from roofline.serving.engine import PrefillFirst
from roofline.serving.lengths import Fixed, Lengths, LogNormal
from roofline.serving.memory import kv_memory
from roofline.serving.steady import steady_state
from roofline.serving.traffic import ClosedLoop, OpenLoop

from ..builders import device, model, scenario
from .made import ENGINE, served

# LineTimes: D(B) = 1 ms + 11 us · B; a prompt of 100 tokens adds X = 100 · 10.1 us = 1.01 ms, one step
LENGTHS = Lengths(Fixed(100.0), Fixed(101.0))


def decode_s(batch: float) -> float:
    return 1e-3 + 1.1e-5 * batch


def test_one_client_alone_sees_a_prefill_and_decode_steps():
    found = steady_state(served(), ClosedLoop(1.0), LENGTHS)
    assert float(found.tpot_s.mean) == pytest.approx(decode_s(1.0))
    prefill_s = 1e-3 + 100 * 1.01e-5
    assert float(found.prefill_s) == pytest.approx(prefill_s, rel=0.02)
    assert float(found.request_per_s) == pytest.approx(1.0 / (decode_s(1.0) * 101 + 1.01e-3), rel=1e-3)


def test_a_closed_loop_meets_the_prompts_of_the_others():
    found = steady_state(served(), ClosedLoop(32.0), LENGTHS)
    tpot, batch = float(found.tpot_s.mean), float(found.batch)
    slot = 32.0 / float(found.request_per_s)
    assert tpot == pytest.approx(decode_s(batch) + 31 * 1.01e-3 * tpot / slot, rel=1e-3)
    assert batch == pytest.approx(32.0 * 100 * tpot / slot, rel=1e-3)


def test_clients_beyond_the_slots_wait_by_littles_law():
    found = steady_state(served(), ClosedLoop(256.0), LENGTHS)
    assert float(found.slots) == 64.0
    rate = float(found.request_per_s)
    assert 256.0 / rate == pytest.approx(float(found.queue_s.mean) + 64.0 / rate)
    assert float(found.utilisation) == pytest.approx(1.0)
    assert int(found.slot_limit) == 1


@pytest.mark.parametrize("schedule", [ENGINE.schedule, PrefillFirst()])
@pytest.mark.parametrize("clients", [1.0, 7.0, 64.0, 65.0, 256.0])
def test_every_client_is_somewhere_front_end_included(clients, schedule):
    """Little's law: N clients = requests per second x (TTFT + decode time), the time in the front end being TTFT."""
    engine = replace(ENGINE, schedule=schedule, host=replace(ENGINE.host, request_s=0.05, prompt_token_s=1e-4))
    found = steady_state(served(engine), ClosedLoop(clients), LENGTHS)
    whole_s = float(found.ttft_s.mean) + 100 * float(found.tpot_s.mean)
    assert float(found.request_per_s) * whole_s == pytest.approx(clients, rel=0.01)


def test_an_open_loop_decodes_what_little_says():
    found = steady_state(served(), OpenLoop(200.0), LENGTHS)
    tpot, batch = float(found.tpot_s.mean), float(found.batch)
    assert batch == pytest.approx(200.0 * 100 * tpot, rel=1e-6)
    # the root of B = 200 · 100 · D(B) / (1 - u) with u = 200 · 1.01 ms: 34.6; D is 1.381 ms there. The batch varies:
    # I = 1 / 0.798² + 1 = 2.570, e = 11 us / 1.381 ms · I / 2 = 1.02 %, so B is 1.381 e higher, and TPOT with it
    assert tpot == pytest.approx(decode_s(34.6 * (1 + 0.01414)) / 0.798 * 1.01024, rel=1e-3)


def test_the_mean_batch_of_an_open_loop_is_that_of_the_birth_and_death_process():
    rate, steps = 200.0, 100.0
    found = steady_state(served(), OpenLoop(rate), Lengths(Fixed(1.0), Fixed(steps + 1.0)))
    # arrivals at the rate, B sequences end at B / (n D(B)) where prompts of one token take next to nothing
    batch = np.arange(1.0, 400.0)
    free = 1.0 - rate * 1.01e-5
    weight = np.concatenate([[0.0], np.cumsum(np.log(rate * steps * (1e-3 + 1.1e-5 * batch) / free / batch))])
    chance = np.exp(weight - weight.max())
    exact = float((np.arange(400.0) * chance).sum() / chance.sum())
    root = rate * steps * 1e-3 / (free - rate * steps * 1.1e-5)
    assert exact > 1.009 * root
    assert float(found.batch) == pytest.approx(exact, rel=2e-3)


def test_requests_in_bursts_slow_the_tokens_of_all_and_a_request_alone_meets_nobody():
    smooth, bursts = (steady_state(served(), OpenLoop(200.0, cv2), LENGTHS) for cv2 in (1.0, 4.0))
    assert float(bursts.tpot_s.mean) > 1.01 * float(smooth.tpot_s.mean)
    assert float(steady_state(served(), OpenLoop(1e-3), LENGTHS).tpot_s.mean) == pytest.approx(decode_s(1.0), rel=1e-5)


def test_requests_of_a_closed_loop_wait_for_the_step_that_was_scheduled_before_they_came():
    varied = Lengths(Fixed(100.0), LogNormal(101.0, 1.0))
    clients = ClosedLoop(np.array([1.0, 8.0]))

    def ttft_s(ahead: bool, lengths: Lengths) -> np.ndarray:
        return steady_state(served(replace(ENGINE, ahead=ahead)), clients, lengths).ttft_s.mean

    alone, eight = ttft_s(True, varied) - ttft_s(False, varied)
    assert alone == pytest.approx(0.0, abs=1e-12)
    assert eight == pytest.approx(decode_s(8.0), rel=0.05)  # requests of any length, nearly: cv 1 of 100 steps
    assert ttft_s(True, LENGTHS) == pytest.approx(ttft_s(False, LENGTHS))  # equal lengths: part of prefill_wait


def test_a_step_attends_to_what_running_requests_hold_longer_ones_more_often():
    load = load_of(served(), Lengths(Fixed(100.0), LogNormal(200.0, 1.0)), 0.0, NO_SPECULATION)
    # an output seen at a random time is one of mean E[n²]/E[n] = 2 · 200, half done
    assert float(load.context) == pytest.approx(100.0 + 200.0)


def test_an_open_loop_saturates_where_the_closed_loop_with_all_slots_does():
    closed = steady_state(served(), ClosedLoop(64.0), LENGTHS)
    found = steady_state(served(), OpenLoop(np.array([1.0, 1e6])), LENGTHS)
    assert found.saturation_request_per_s == pytest.approx(float(closed.request_per_s))
    assert np.isfinite(found.ttft_s.mean[0]) and np.isinf(found.ttft_s.mean[1])
    assert found.request_per_s[1] == pytest.approx(float(closed.request_per_s))


def test_prompts_first_and_equal_lengths_run_in_step():
    engine = replace(ENGINE, schedule=PrefillFirst())
    found = steady_state(served(engine), ClosedLoop(16.0), LENGTHS)
    # prompts of 100 tokens, ten in a step of 1,024: 1 ms + 1,000 · 10.1 us shared by ten. The first ten wait for the
    # other six: on average (16 - 10) / 2 prompts behind the first token, (16 + 10) / 2 before it.
    prompt = (1e-3 + 1000 * 1.01e-5) / 10
    assert float(found.tpot_s.mean) == pytest.approx(decode_s(16.0) + 3 * prompt / 100)
    assert float(found.ttft_s.mean) == pytest.approx(13 * prompt, rel=0.01)
    assert 16.0 / float(found.request_per_s) == pytest.approx(16 * prompt + 100 * decode_s(16.0))


def test_a_prefix_cache_spares_its_share_of_the_prompts():
    hit = steady_state(served(), ClosedLoop(8.0), LENGTHS, prefix_hit=0.5)
    short = steady_state(served(), ClosedLoop(8.0), Lengths(Fixed(50.0), Fixed(101.0)))
    assert float(hit.tpot_s.mean) == pytest.approx(float(short.tpot_s.mean))


def test_three_drafts_at_four_fifths_give_the_geometric_sum_of_tokens():
    speculation = Speculation(3.0, 0.8)
    assert float(speculation.token_per_step) == pytest.approx(1 + 0.8 + 0.64 + 0.512)
    plain = steady_state(served(), ClosedLoop(1.0), LENGTHS)
    fast = steady_state(served(), ClosedLoop(1.0), LENGTHS, speculation=speculation)
    step = 1e-3 + 4 * 1e-5 + 1e-6
    assert float(fast.tpot_s.mean) == pytest.approx(step / 2.952)
    assert float(plain.tpot_s.mean) == pytest.approx(decode_s(1.0))


def test_many_configurations_are_each_what_they_are_alone():
    concurrency, prompt, output = (
        np.array([1.0, 16.0, 300.0]),
        np.array([10.0, 500.0, 3000.0]),
        np.array([2.0, 50.0, 9.0]),
    )
    together = steady_state(served(), ClosedLoop(concurrency), Lengths(Fixed(prompt), Fixed(output)))
    for i in range(3):
        alone = steady_state(served(), ClosedLoop(concurrency[i]), Lengths(Fixed(prompt[i]), Fixed(output[i])))
        for name in ("ttft_s", "tpot_s", "itl_s", "queue_s"):
            for part in ("mean", "p50", "p95", "p99"):
                one, many = getattr(getattr(alone, name), part), getattr(getattr(together, name), part)
                assert float(one) == pytest.approx(float(np.broadcast_to(many, (3,))[i]), rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    rate=st.floats(0.1, 400.0),
    prompt=st.floats(1.0, 4000.0),
    output=st.floats(1.0, 500.0),
    cv=st.floats(0.0, 2.0),
    more=st.floats(1.01, 3.0),
)
def test_more_traffic_never_shortens_a_mean_time_and_percentiles_are_ordered(rate, prompt, output, cv, more):
    lengths = Lengths(LogNormal(prompt, cv), LogNormal(output, cv))
    found = steady_state(served(), OpenLoop(np.array([rate, rate * more])), lengths)
    for name in ("ttft_s", "tpot_s", "itl_s", "queue_s"):
        spread = getattr(found, name)
        assert spread.mean[0] <= spread.mean[1] * (1.0 + 1e-6)
        assert np.all(spread.p50 <= spread.p95 * (1 + 1e-9)) and np.all(spread.p95 <= spread.p99 * (1 + 1e-9))
    assert found.request_per_s[0] <= found.request_per_s[1] * (1.0 + 1e-9)
    assert np.all(found.tpot_s.mean >= 1e-3)


def test_a_replica_that_holds_no_request_serves_none():
    limits = replace(ENGINE.limits, reserve_byte=16e9)
    small = replace(served(), memory=kv_memory(model(), device(), scenario(), limits))
    found = steady_state(small, OpenLoop(1.0), LENGTHS)
    assert float(found.slots) == 0.0
    assert float(found.saturation_request_per_s) == 0.0
    assert np.isinf(found.ttft_s.mean)
