"""Figures of a served deployment are those of its steady state, and its bill adds up."""

import pytest

from roofline.api import case_of
from roofline.io.engines import load_engine
from roofline.sensitivity.figures import MAX_BATCH, REQUEST_USD
from roofline.sensitivity.levers import HOST, workload_levers
from roofline.sensitivity.served import measured, served
from roofline.serving.lengths import Fixed, Lengths
from roofline.serving.steady import steady_state
from roofline.serving.step import served_model
from roofline.serving.traffic import ClosedLoop, OpenLoop

CASE = case_of("llama-3.1-8b", "h100-sxm", prices="aws-2026-07")
ENGINE = load_engine("vllm")


@pytest.mark.parametrize("traffic", [ClosedLoop(32.0), OpenLoop(3.0)])
def test_tables_stay_close_to_exact_step_times(traffic):
    of = served(CASE, ENGINE, traffic)
    model = served_model(of.model, of.device, of.calibration, of.scenario, ENGINE)
    exact = steady_state(model, traffic, Lengths(Fixed(2048.0), Fixed(256.0)))
    found = measured(of).figures
    assert float(found["tpot_s"]) == pytest.approx(float(exact.tpot_s.mean), rel=0.03)
    assert float(found["ttft_s"]) == pytest.approx(float(exact.ttft_s.mean), rel=0.03)
    assert float(found[MAX_BATCH.key]) == float(exact.slots)
    assert of.scenario.batch == pytest.approx(float(exact.batch), rel=0.05, abs=1.0)


@pytest.mark.parametrize("traffic", [ClosedLoop(32.0), OpenLoop(3.0)])
def test_input_and_output_tokens_pay_the_whole_bill(traffic):
    found = measured(served(CASE, ENGINE, traffic))
    figures = {key: None if value is None else float(value) for key, value in found.figures.items()}
    request_per_s = figures["output_token_per_s"] / 256
    bill = (2048 * figures["usd_per_mtok_input"] + 256 * figures["usd_per_mtok_output"]) / 1e6
    assert bill == pytest.approx(55.04 / 8 / 3600 / request_per_s)
    at = request_per_s if isinstance(traffic, ClosedLoop) else figures["saturation_request_per_s"]
    assert figures[REQUEST_USD.key] == pytest.approx(55.04 / 8 / 3600 / at)
    assert float(found.usd_per_hour) == pytest.approx(55.04 / 8)


def test_levers_turn_what_they_name():
    of = served(CASE, ENGINE, ClosedLoop(32.0))
    levers = {lever.key: lever for lever in workload_levers(of)}
    assert levers["concurrency"].at(of, 64.0).traffic.concurrency == 64.0
    assert levers["max_batch_token"].at(of, 512.0).engine.limits.max_batch_token == 512.0
    slow = HOST.scaled(of, 3.0).engine.host
    assert slow.step_s == 3.0 * ENGINE.host.step_s and slow.layer_s == 3.0 * ENGINE.host.layer_s
    rate = workload_levers(served(CASE, ENGINE, OpenLoop(0.3)))[0]
    assert rate.key == "rate" and not rate.whole
