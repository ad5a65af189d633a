"""Candidates evaluated through curves: against exact step times, against floors, and derived by hand."""

from dataclasses import replace

import numpy as np
import pytest

from roofline.footprint import weight_byte
from roofline.planning.curve import LineTimes, line_times
from roofline.planning.evaluate import at_percentile, evaluate, judge
from roofline.planning.pools import steady
from roofline.planning.replica import replica_of
from roofline.planning.request import Pools, Reason, ServiceLevel
from roofline.planning.space import grid, structures
from roofline.serving.lengths import Empirical, Lengths, normal_quantile
from roofline.serving.spread import Spread, lognormal_spread
from roofline.serving.steady import steady_state
from roofline.serving.traffic import OpenLoop
from roofline.workload import Parallelism

from .made import SMALL, offer, request


def only(asked):
    """The structure of one device."""
    (found,) = [structure for structure in structures(asked)[0] if structure.split == Parallelism()]
    return found


def test_curves_agree_with_exact_step_times():
    asked = request(rates=(20.0, 80.0), max_sequences=(64,), max_batch_tokens=(128, 512))
    structure = only(asked)
    replica, candidates = replica_of(structure, asked), grid(structure, asked)
    memory = replica.memory(candidates)
    read = steady(structure, candidates, asked, replica.served, replica.curves, memory.byte)
    limits = replace(
        asked.engine.limits, max_batch_token=candidates.max_batch_token, max_sequence=candidates.max_sequence
    )
    exact_model = replace(replica.exact, engine=replace(asked.engine, limits=limits), memory=memory)
    rate = candidates.request_per_s / candidates.replicas
    exact = steady_state(exact_model, OpenLoop(rate, 1.0), asked.lengths)
    for name in ("ttft_s", "tpot_s"):
        np.testing.assert_allclose(getattr(read, name).p95, getattr(exact, name).p95, rtol=0.01)
    np.testing.assert_allclose(read.saturation_request_per_s, exact.saturation_request_per_s, rtol=0.01)


def test_replicas_share_the_rate_and_the_bill_counts_every_device():
    asked = request(rates=(1000.0, 2000.0), max_devices=4, max_sequences=(64,), max_batch_tokens=(512,))
    structure = only(asked)
    replica, candidates = replica_of(structure, asked), grid(structure, asked)
    rows = evaluate(structure, 0, candidates, asked, replica, replica.memory(candidates).byte)
    at = {key: i for i, key in enumerate(zip(rows.replicas.tolist(), rows.request_per_s.tolist(), strict=True))}
    for name in ("ttft_s", "tpot_s", "load"):
        column = getattr(rows, name)
        assert column[at[1.0, 1000.0]] == pytest.approx(column[at[2.0, 2000.0]], rel=1e-12)
        assert column[at[1.0, 1000.0]] < column[at[1.0, 2000.0]]
    assert rows.usd_per_hour.tolist() == pytest.approx((3.6 * rows.replicas).tolist())
    # no idle power is stated: 300 W each, over 1000 or 2000 requests of 32 tokens
    np.testing.assert_allclose(rows.joule_per_token, 300.0 * rows.replicas / (32.0 * rows.request_per_s))


def test_curves_never_fall_with_the_batch():
    asked = request()
    made = replica_of(only(asked), asked).curves
    assert np.all(np.diff(made.decode_s) >= 0.0)
    assert np.all(made.added_s >= 0.0)


def test_the_floor_of_a_token_is_one_pass_over_the_weights():
    # bandwidth so low that nothing else counts: everything read once, the embedding's row for its table
    slow = offer(dram=replace(offer().device.dram, bandwidth_byte_per_s=1e9))
    asked = request(offers=(slow,))
    structure = only(asked)
    floor = replica_of(structure, asked).floor
    byte = float(weight_byte(SMALL, structure.precision, structure.split)[0]) - 1023 * 128 * 2.0
    assert floor.tpot_s == pytest.approx(byte / 1e9, rel=0.05)  # activations of one token beside it


def test_the_floor_of_requests_is_their_products_at_peak_rate():
    # 2 FLOP per matrix parameter and token; compute so slow that nothing else counts
    weak = offer(matrix_flop_per_s=dict.fromkeys(offer().device.matrix_flop_per_s, 1000000000.0))
    asked = request(offers=(weak,))
    floor = replica_of(only(asked), asked).floor
    layer = 128 * (128 + 2 * 64) + 128 * 128 + 3 * 128 * 256
    head = 128 * 1024
    rows = 256 + 31
    attention = 4 * 128 * (256 * 257 / 2 + 31 * (256 + 16)) * 4  # 4 FLOP per head value and attended token, 4 layers
    flop = 2 * 4 * layer * rows + 2 * head * 32 + attention
    assert floor.request_s == pytest.approx(flop / 1e9, rel=0.02)


def test_no_evaluated_candidate_is_below_the_floor():
    asked = request(level=ServiceLevel(10.0, 10.0, 50.0))
    for position, structure in enumerate(structures(asked)[0]):
        replica = replica_of(structure, asked)
        floor, told = replica.floor, judge(structure, position, asked, replica)
        assert np.all(told.points.ttft_s >= floor.ttft_s)
        assert np.all(told.points.mean_tpot_s >= floor.tpot_s)


def test_bounds_rule_out_only_what_evaluation_would_reject():
    # compute so slow that the roofline is most of the time: replicas from just too few to enough
    weak = offer(matrix_flop_per_s=dict.fromkeys(offer().device.matrix_flop_per_s, 5e11))
    rates = tuple(np.geomspace(200.0, 6000.0, 12).tolist())
    tight = request(rates=rates, max_devices=8, offers=(weak,), level=ServiceLevel(0.1, 0.01, 95.0))
    for position, structure in enumerate(structures(tight)[0]):
        replica, candidates = replica_of(structure, tight), grid(structure, tight)
        told = judge(structure, position, tight, replica)
        everything = evaluate(structure, position, candidates, tight, replica, replica.memory(candidates).byte)
        fine = (everything.load < 1.0) & (everything.ttft_s <= 0.1) & (everything.tpot_s <= 0.01)
        assert told.evaluated + told.pruned == everything.size
        assert told.counts.get(Reason.RATE_FLOOR, 0) <= int((everything.load >= 1.0).sum())
        assert int(fine.sum()) == everything.size - sum(told.counts.values())


def test_a_model_that_does_not_fit_is_never_evaluated():
    tiny = offer(dram=replace(offer().device.dram, capacity_byte=1.13e9))  # 0.9 of it less 1 GB: 17 MB
    asked = request(offers=(tiny,), lengths=Lengths(Empirical(np.full(3, 2000.0)), Empirical(np.full(3, 900.0))))
    asked = replace(asked, max_batch_tokens=(16384,))
    told = judge(only(asked), 0, asked, replica_of(only(asked), asked))
    assert told.evaluated == 0
    assert set(told.counts) == {Reason.MEMORY}
    assert told.misses[Reason.MEMORY].ratio > 1.0


def test_lines_answer_for_the_workload_they_were_made_for():
    asked = request()
    replica = replica_of(only(asked), asked)
    lines = replica.lines
    assert isinstance(lines, LineTimes)
    for batch in (1.0, 7.0, 40.0):
        exact = replica.exact.times.decode_attention(np.array([batch]), 272.0)
        np.testing.assert_allclose(lines.decode_attention(np.array([batch]), 0.0), exact, rtol=0.03)


def test_percentiles_between_the_known_ones_lie_on_normal_paper():
    straight = Spread(*(np.array([0.0]),), *(10.0 + 2.0 * normal_quantile(np.array([s])) for s in (0.5, 0.95, 0.99)))
    for percentile in (50.0, 80.0, 95.0, 97.0, 99.0, 99.9):
        wanted = 10.0 + 2.0 * float(normal_quantile(percentile / 100.0))
        assert at_percentile(straight, percentile)[0] == pytest.approx(wanted, rel=1e-3)


def test_endless_queues_are_endless_at_every_percentile():
    endless = lognormal_spread(np.array([1.0]), np.array([0.1])).plus(np.inf)
    assert at_percentile(endless, 80.0)[0] == np.inf


def test_lines_of_short_prompts_are_made_too():
    asked = request(lengths=Lengths(Empirical(np.array([1.0])), Empirical(np.array([1.0]))))
    made = line_times(replica_of(only(asked), asked).exact.times, 600.0, 64.0, 1.0, 1.5)
    assert np.all(np.isfinite(made.prefill_attention(1.0, np.array([1.0]), 0.0)))
    told = judge(only(asked), 0, asked, replica_of(only(asked), asked))
    assert told.evaluated > 0


def test_two_pools_by_hand():
    """A prefill pool serves prompts alone, a decode pool no prompts; the cache crosses the link between nodes."""
    asked = request(rates=(2000.0,), pools=(Pools.DISAGGREGATED,), max_devices=2, level=ServiceLevel(1.0, 1.0, 95.0))
    structure = only(asked)
    # 256 tokens · 4 layers · 2 · 4 heads · 16 · 2 B, over 25 GB/s at 75 %, and 5 us
    replica, candidates = replica_of(structure, asked), grid(structure, asked)
    made, memory = replica.curves, replica.memory(candidates)
    state = steady(structure, candidates, asked, replica.served, made, memory.byte)
    # decode steps without prompts in them: TPOT is the step at batch r·n·t, below that of one pool under this rate
    tpot = float(state.tpot_s.mean[0])
    assert tpot == pytest.approx(float(np.interp(2000.0 * 31.0 * tpot, made.batch, made.decode_s)), rel=1e-3)
    # the slower pool saturates the whole
    alone_s = float(np.interp(256.0, made.chunk, made.alone_s))
    assert float(state.saturation_request_per_s[0]) <= 1.0 / alone_s
    together = steady(only(request()), candidates, request(rates=(2000.0,)), replica.served, made, memory.byte)
    assert tpot < float(together.tpot_s.mean[0])
