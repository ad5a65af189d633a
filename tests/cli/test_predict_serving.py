import json

import pytest
from typer.testing import CliRunner

import roofline
from roofline.cli.app import command_line

RUN = CliRunner()


def run(*words):
    return RUN.invoke(command_line(), ["predict", *words])


def told(*words):
    from roofline.errors import RooflineError

    result = run(*words)
    assert isinstance(result.exception, RooflineError), result.output
    return str(result.exception)


def test_a_closed_loop_is_on_the_screen_and_in_the_record():
    result = run("llama-3.1-8b", "h100-sxm", "--concurrency", "64")
    assert result.exit_code == 0
    assert "Served by vllm" in result.output and "64 clients" in result.output
    record = json.loads(run("llama-3.1-8b", "h100-sxm", "--concurrency", "64", "--json").output)
    serving = record["serving"]
    for name in ("ttft_s", "tpot_s", "itl_s", "queue_s"):
        assert set(serving[name]) == {"mean", "p50", "p95", "p99"}
    total = serving["queue_s"]["mean"] + serving["prefill_s"] + serving["interference_s"] + serving["transfer_s"]
    assert serving["ttft_s"]["mean"] == pytest.approx(total)
    assert serving["output_token_per_s"] == pytest.approx(256 * serving["request_per_s"])
    assert 0 < serving["utilisation"] <= 1
    assert serving["band"]["tpot_s"][0] < serving["tpot_s"]["mean"] < serving["band"]["tpot_s"][1]
    assert len(serving["curve"]["load"]) == len(serving["curve"]["tpot_s"]) > 10


def test_a_prediction_without_traffic_has_no_serving():
    assert roofline.prediction_record(roofline.predict("llama-3.1-8b", "h100-sxm"))["serving"] is None


def test_a_rate_beyond_saturation_is_answered_with_the_rate_of_saturation():
    result = run("llama-3.1-8b", "h100-sxm", "--rate", "1000")
    assert result.exit_code == 1
    assert "SATURATED: 1,000 requests/s arrive" in result.output
    record = json.loads(run("llama-3.1-8b", "h100-sxm", "--rate", "1000", "--json").output)
    assert record["serving"]["saturated"] and record["serving"]["ttft_s"]["mean"] is None
    assert 1 < record["serving"]["saturation_request_per_s"] < 1000


def test_lists_give_a_row_of_the_service_each():
    result = run("llama-3.1-8b", "h100-sxm", "--tp", "1,2", "--rate", "12")
    assert "of saturation" in result.output and "TTFT p95" in result.output
    rows = [line for line in result.output.splitlines() if "·1·1·1" in line]
    assert len(rows) == 2


def test_pools_share_the_devices():
    prediction = roofline.predict("llama-3.1-8b", "h100-sxm:6", rate=20, disaggregated="2P4D")
    assert prediction.scenario.parallelism.dp == 6
    assert prediction.serving is not None and prediction.serving.transfer_s > 0
    assert prediction.serving.tpot_s.mean < 0.02


def test_what_helps_helps():
    plain = roofline.predict("llama-3.1-8b", "h100-sxm", rate=5).serving
    cached = roofline.predict("llama-3.1-8b", "h100-sxm", rate=5, prefix_hit=0.8).serving
    drafted = roofline.predict("llama-3.1-8b", "h100-sxm", rate=5, draft_tokens=3, acceptance=0.8).serving
    assert cached.ttft_s.mean < plain.ttft_s.mean
    assert drafted.tpot_s.mean < 0.6 * plain.tpot_s.mean
    assert drafted.saturation_request_per_s > plain.saturation_request_per_s


def test_the_weights_of_a_draft_model_take_their_share_of_the_cache():
    drafts = {"rate": 5, "draft_tokens": 3, "acceptance": 0.8}
    free = roofline.predict("llama-3.1-8b", "h100-sxm", **drafts).serving
    held = roofline.predict("llama-3.1-8b", "h100-sxm", **drafts, draft="llama-3.2-1b").serving
    # 2.47 GB of weights hold 2.47e9 / (2,304 tokens · 131,072 bytes) = 8.2 requests
    assert 7 <= free.slots - held.slots <= 9
    assert held.tpot_s.mean > free.tpot_s.mean


def test_no_service_beats_its_bare_roofline():
    for engine in ("vllm", "sglang", "trtllm"):
        for tp in (1, 4):
            prediction = roofline.predict("llama-3.1-8b", f"h100-sxm:{tp}", batch=1, concurrency=1, engine=engine)
            assert prediction.serving.tpot_s.mean >= prediction.decode.roofline_s
            assert prediction.serving.ttft_s.mean >= prediction.prefill.roofline_s


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--concurrency", "4", "--rate", "2"], "concurrency, rate: both are given"),
        (["--engine", "vllm"], "engine: only of use with traffic"),
        (["--concurrency", "4", "--cv", "2"], "cv: arrivals vary in an open loop only"),
        (["--rate", "0"], "rate: '0' is not accepted. Accepted: numbers above 0"),
        (["--rate", "-3"], "rate: '-3' is not accepted"),
        (["--rate", "nan"], "rate: 'nan' is not accepted"),
        (["--concurrency", "2.5"], "concurrency: '2.5' is not accepted. Accepted: whole numbers from 1 on"),
        (["--concurrency", "4", "--engine", "vlm"], "Did you mean 'vllm'?"),
        (["--concurrency", "4", "--max-batch-tokens", "64"], "max-batch-tokens: 64 is below max-sequences, 256"),
        (["--concurrency", "4", "--prefix-hit", "1.5"], "prefix-hit: '1.5' is not accepted"),
        (["--concurrency", "4", "--disaggregated", "2x4"], "as in 2P4D"),
        (["--concurrency", "4", "--disaggregated", "0P4D"], "as in 2P4D"),
        (["--concurrency", "4", "--acceptance", "0.5"], "only of use with --draft-tokens"),
        (["--concurrency", "4", "--draft-tokens", "2"], "needs --acceptance"),
    ],
)
def test_what_cannot_be_meant_is_refused(flags, words):
    assert words in told("llama-3.1-8b", "h100-sxm", *flags)


def test_devices_that_do_not_divide_into_the_pools_are_refused():
    words = told("llama-3.1-8b", "h100-sxm:7", "--rate", "5", "--disaggregated", "2P4D")
    assert "7 devices do not divide by the 6 replicas" in words and "DEVICE:6" in words


def test_a_cache_that_holds_no_request_is_infeasible():
    assert "memory: the KV cache of one request" in told("llama-3.1-70b", "h100-sxm", "--concurrency", "4")


def test_an_encoder_is_not_served():
    assert "generates no tokens" in told("bert-base-uncased", "h100-sxm", "--concurrency", "4", "--input", "128")
