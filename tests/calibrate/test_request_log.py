"""A request log beside its simulation: known constants are found again, and a real run is met."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from roofline.calibrate.request_log import fit_host, simulated, with_host
from roofline.errors import RooflineError
from roofline.io.traces import read_request_log
from roofline.serving.engine import HostCost
from roofline.serving.simulation import Simulation
from roofline.simulator import served_as_logged
from roofline.trace import LogSettings, RequestLog, Trace

from ..serving.made import served

SETTINGS = LogSettings("meta-llama/Llama-3.1-8B", "vllm", "1", 1, 1, 128, 2048, "bfloat16", "auto")
RUN = "llmservingsim/bench/examples/RTXPRO6000/Llama-3.1-8B/vllm"


def log_of(run: Simulation) -> RequestLog:
    """The log that a run like this simulation would have written."""
    trace = Trace(run.arrival_s, run.input_token, run.output_token, "made")
    return RequestLog(trace, run.arrival_s, run.scheduled_s, run.first_token_s, run.last_token_s, SETTINGS)


def trace(count: int) -> Trace:
    random = np.random.default_rng(0)
    arrival_s = np.cumsum(random.exponential(0.03, count))
    tokens = (np.floor(random.uniform(1, top, count)) for top in (400, 60))
    return Trace(arrival_s - arrival_s[0], *tokens, "made")


@pytest.mark.parametrize("host", [HostCost(step_s=2e-3, sequence_s=1e-4), HostCost(step_s=1e-3), HostCost()])
def test_known_constants_are_found_again(host: HostCost) -> None:
    unknown = log_of(simulated(with_host(served(), HostCost()), _at_rest(trace(120))))
    run = simulated(with_host(served(), host), unknown)
    found = fit_host(served(), log_of(run))
    beside = float(run.steps.decodes[run.steps.decodes > 0.0].mean())
    # What they cost together is determined well; either alone within a quarter of that.
    together = host.step_s + host.sequence_s * beside
    assert found.host.step_s + found.host.sequence_s * beside == pytest.approx(together, rel=0.03, abs=5e-5)
    assert found.host.step_s == pytest.approx(host.step_s, abs=0.25 * together + 5e-5)
    assert found.unseen.requests == 60
    assert found.unseen.tpot_mape < 0.02 and abs(found.unseen.makespan) < 0.01


def _at_rest(requests: Trace) -> RequestLog:
    nothing = np.zeros(requests.size)
    return RequestLog(requests, nothing, nothing, nothing, nothing, SETTINGS)


def test_what_is_not_fitted_is_not_looked_at() -> None:
    log = log_of(simulated(with_host(served(), HostCost(step_s=1e-3)), _at_rest(trace(60))))
    late = np.arange(60) >= 30
    spoilt = replace(log, last_token_s=log.last_token_s + 5.0 * late)
    assert fit_host(served(), spoilt).host == fit_host(served(), log).host
    assert fit_host(served(), spoilt).unseen.tpot_bias < -0.5


def test_too_few_requests_are_refused() -> None:
    log = log_of(simulated(served(), _at_rest(trace(10))))
    with pytest.raises(RooflineError, match="cannot determine two constants"):
        fit_host(served(), log)


def test_a_log_must_name_a_known_model() -> None:
    log = _at_rest(trace(10))
    with pytest.raises(RooflineError, match="does not say which model"):
        served_as_logged(replace(log, settings=replace(SETTINGS, model=None)), "rtx-pro-6000")
    case, replica = served_as_logged(log, "rtx-pro-6000")
    assert case.model.name == "Llama-3.1-8B"
    assert asdict(replica.engine.limits)["max_batch_token"] == 2048


def test_the_real_run_is_met_with_two_constants_fitted_on_its_first_half(data_folder: Path) -> None:
    # vLLM 0.19, Llama-3.1-8B bf16, RTX PRO 6000, 300 requests; kernels from this project's calibrated profile.
    log = read_request_log(data_folder / RUN)
    _, replica = served_as_logged(log, "rtx-pro-6000")
    found = fit_host(replica, log)
    assert 0.0 < found.host.step_s < 3e-3 and found.host.sequence_s < 3e-5
    assert found.unseen.tpot_median_ape < 0.02 and found.unseen.tpot_mape < 0.02
    assert abs(found.unseen.ttft_mean) < 0.05
    assert abs(found.unseen.ttft_p95) < 0.05
    assert abs(found.unseen.makespan) < 0.02
