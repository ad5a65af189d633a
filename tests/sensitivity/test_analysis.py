"""Elasticities obey the laws of the roofline, crossovers are where the thing changes, changes are full predictions."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import roofline
from roofline.api import case_of
from roofline.crossing import change_beyond, factor_of_change
from roofline.deployment import decode_times, prefill_times
from roofline.economics import Rental, Site
from roofline.io.calibration import uncalibrated
from roofline.outcome import Case, bound_index, outcome
from roofline.sensitivity.analysis import base_figures, bound_crossovers, format_crossover, lever_rows
from roofline.sensitivity.changes import Alternative, evaluated, ranked
from roofline.sensitivity.figures import MAX_BATCH, REQUEST_USD, static_figures
from roofline.sensitivity.levers import HARDWARE, levers_of
from roofline.timing import BOUNDS
from roofline.workload import Parallelism
from tests.builders import DENSE, MIXTURE, STRUCTURES, device, model, scenario

SITE = Site(Rental(3.6), None)


def case(layer=DENSE, structure=None, on=None, **asked):
    on = on or device(structure)
    return Case(model(layer, max_context=1e6), on, uncalibrated(), scenario(**asked), SITE)


def rows_of(of):
    base = base_figures(of, static_figures(of))
    return base, {row.key: row for row in lever_rows(of, base)}


@settings(max_examples=40)
@given(
    st.sampled_from([DENSE, MIXTURE]),
    st.sampled_from(STRUCTURES),
    st.integers(2, 300),
    st.integers(2, 2000),
    st.sampled_from([1, 2, 4]),
)
def test_rates_and_fixed_times_together_set_the_pace(layer, structure, batch, length, tp):
    # Twice every rate and half of every fixed time is half of the time: it is homogeneous of degree -1 in them, so
    # (Euler) the elasticities to rates add up to -1 with the fixed times counted the other way. Derivatives are taken
    # over a step of 20 %, across which a kernel may change its bound: hence the tolerance.
    of = case(layer, structure, batch=float(batch), input_token=float(length), parallelism=Parallelism(tp=tp))
    if layer is MIXTURE:
        of = replace(of, scenario=replace(of.scenario, parallelism=Parallelism(tp=tp, ep=tp)))
    faster = of
    for lever in levers_of(of):
        if lever.key != "capacity":
            faster = lever.scaled(faster, 0.5 if lever.unit == "s" else 2.0)
    # caches stay as fast as they were: only where they do not serve does the law hold exactly
    if type(structure).__name__ in ("Gpu", "Systolic"):
        assert outcome(faster).ttft_s == pytest.approx(outcome(of).ttft_s / 2.0, rel=1e-9)
        _, rows = rows_of(of)
        for key in ("ttft_s", "tpot_s"):
            rates = sum(row.elasticity[key] * (-1.0 if row.unit == "s" else 1.0) for row in rows.values() if row.unit)
            assert rates == pytest.approx(-1.0, abs=0.02)


def test_a_decode_that_only_streams_follows_bandwidth_percent_for_percent():
    # No launch cost, batch 1: every byte is read for two FLOP, far under the ridge of 100 FLOP/byte.
    on = device(efficiency=replace(device().efficiency, kernel_overhead_s=0.0))
    _, rows = rows_of(case(on=on, batch=1.0, input_token=512.0))
    assert rows["dram_bandwidth"].elasticity["tpot_s"] == pytest.approx(-1.0, abs=1e-9)
    assert rows["dram_bandwidth"].elasticity["output_token_per_s"] == pytest.approx(1.0, abs=1e-9)
    assert rows["flop_rate"].elasticity["tpot_s"] == pytest.approx(0.0, abs=1e-9)
    assert rows["dram_bandwidth"].elasticity["usd_per_mtok_output"] == pytest.approx(-1.0, abs=1e-9)
    assert rows["dram_bandwidth"].elasticity["joule_per_output_token"] == pytest.approx(-1.0, abs=1e-9)  # rated power


def test_capacity_moves_the_batch_alone():
    base, rows = rows_of(case(batch=8.0))
    row = rows["capacity"]
    assert all(row.elasticity[key] == 0.0 for key in base if key not in (MAX_BATCH.key,) and base[key])
    double = next(step for step in row.steps if step.factor == 2.0)
    assert double.figures[MAX_BATCH.key] >= 2.0 * base[MAX_BATCH.key]


def test_levers_keep_calibration_parameters():
    of = case_of("llama-3.1-8b", "h100-sxm")
    for lever in HARDWARE[:3]:
        assert lever.scaled(of, 2.0).calibration is of.calibration
    slower = HARDWARE[3].scaled(of, 2.0).calibration.models
    before, after = (models[("gemm", "bf16")].parameters for models in (of.calibration.models, slower))
    assert after.launch_s == 2.0 * before.launch_s and after.dram_fraction == before.dram_fraction
    assert (
        slower[("all_reduce", "bf16")] == of.calibration.models[("all_reduce", "bf16")]
    )  # link latency is another lever


def test_steps_beyond_the_models_context_are_left_out():
    of = case(input_token=600_000.0, output_token=16.0, batch=1.0)
    _, rows = rows_of(of)
    assert [step.figures["ttft_s"] is None for step in rows["input"].steps] == [False, False, False, True]
    assert rows["input"].elasticity["ttft_s"] is not None


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.integers(1, 10**6))
def test_a_change_is_found_where_it_is(start, edge, limit):
    # One change, at `edge`: found from either side, at the first value of the other kind, where it lies between.
    def kind_at(values):
        return (np.asarray(values) >= edge).astype(np.intp)

    found = change_beyond(kind_at, start, limit)
    if (start >= edge) == (limit >= edge):
        assert found is None
    else:
        value, kind = found
        near = edge if start < edge else edge - 1
        assert kind == int(limit >= edge)
        assert abs(value - near) <= max(1, 1e-4 * near)


def test_a_factor_of_change_is_found_within_its_resolution():
    found = factor_of_change(lambda factor: int(factor > 3.0), 8.0)
    assert found is not None and found[0] == pytest.approx(3.0, rel=0.01) and found[1] == 1
    assert factor_of_change(lambda factor: 0, 8.0) is None


def test_crossovers_change_the_bound_of_the_phase_that_they_name():
    of = case_of("llama-3.1-8b", "h100-sxm")
    found = [crossing for crossing in bound_crossovers(of) if crossing.quantity == "input"]
    assert found
    for crossing in found:
        times = prefill_times if crossing.phase == "prefill" else decode_times
        for token, bound in ((crossing.value, crossing.after), (of.scenario.input_token, crossing.before)):
            asked = replace(of.scenario, input_token=float(token))
            assert BOUNDS[int(bound_index(times(of.deployment, asked)[0]))] == bound


def test_a_format_stops_paying_where_it_is_said_to():
    of = case_of("llama-3.1-8b", "h100-sxm")
    other = case_of("llama-3.1-8b", "h100-sxm", weights="int4")
    found = format_crossover(of, other, "int4")
    assert found is not None and found.factor > 1.0
    for batch, faster in ((found.value - 1, True), (found.value, False)):
        asked = [replace(c.scenario, batch=float(batch)) for c in (of, other)]
        tpot = [float(decode_times(c.deployment, s)[1]) for c, s in zip((of, other), asked, strict=True)]
        assert (tpot[1] < tpot[0]) is faster


def test_changes_are_ranked_predictions_and_what_does_not_fit_comes_last():
    of = case_of("llama-3.1-8b", "h100-sxm")
    base = base_figures(of, static_figures(of))
    asked = {"cheap": {"kv": "fp8"}, "large": {"batch": 4096}, "dear": {"batch": 16}}
    options = [
        Alternative("x", name, name, "", case_of("llama-3.1-8b", "h100-sxm", **changed))
        for name, changed in asked.items()
    ]
    unpriced = replace(options[0].case, site=Site(None, None))
    options += [Alternative("x", "unpriced", "", "", unpriced), Alternative("x", "no", "", "", None, "cannot be")]
    changes = evaluated(options, REQUEST_USD.key, base)
    assert [change.refusal for change in changes] == ["", "", "", "", "cannot be"]
    order = [change.alternative.value for change in ranked(changes, REQUEST_USD)]
    assert order == ["cheap", "dear", "unpriced", "large"]
    predicted = roofline.predict("llama-3.1-8b", "h100-sxm", kv="fp8")
    assert changes[0].figures["tpot_s"] == predicted.tpot_s
    assert changes[0].figures["usd_per_mtok_output"] == predicted.output_cost.usd_per_mtok
    assert changes[0].gain == pytest.approx(changes[0].objective / base[REQUEST_USD.key] - 1.0)
