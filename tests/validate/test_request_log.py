"""Request logs in `roofline validate` and `roofline calibrate --engine`: a made log, and the measured run."""

import json
from pathlib import Path

import pytest

from roofline.cli.app import run
from roofline.io.engines import load_engine

RUN = "llmservingsim/bench/examples/RTXPRO6000/Llama-3.1-8B/vllm"


def made_log(folder: Path, requests: int = 12, tpot_s: float = 0.02) -> Path:
    """A log of requests that come one a second and are answered at once, under a folder that names the device."""
    place = folder / "RTXPRO6000" / "run"
    place.mkdir(parents=True)
    rows = [
        {
            "arrival_time": float(i),
            "input_toks": 500,
            "output_toks": 11,
            "queued_ts": 100.0 + i,
            "scheduled_ts": 100.0 + i,
            "first_token_ts": 100.1 + i,
            "last_token_ts": 100.1 + i + 10 * tpot_s,
        }
        for i in range(requests)
    ]
    (place / "requests.jsonl").write_text("\n".join(map(json.dumps, rows)))
    settings = {"model": "meta-llama/Llama-3.1-8B", "max_num_seqs": 16, "max_num_batched_tokens": 1024}
    (place / "meta.json").write_text(
        json.dumps({"model": settings["model"], "vllm_version": "9", "engine_kwargs": settings})
    )
    return place


def test_a_log_is_compared_request_by_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["validate", str(made_log(tmp_path)), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    families = {entry["dtype"].split()[0]: entry for entry in record["families"]}
    assert {entry["family"] for entry in record["families"]} == {"serving"}
    assert {name: entry["n"] for name, entry in families.items()} == {"TTFT": 12, "TPOT": 12}
    assert record["devices"][0]["name"] == "rtx-pro-6000"
    # 16.06 GB of weights at 1.79 TB/s are 9 ms a token at least; 20 ms is more than predicted: the bias is negative.
    assert -0.6 < families["TPOT"]["bias"] < 0.0


def test_times_faster_than_physics_are_flagged(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["validate", str(made_log(tmp_path, tpot_s=0.005)), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert sum(entry["n"] for entry in record["excluded"]) == 12


def test_two_constants_of_an_engine_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    target = tmp_path / "mine.toml"
    ask = ["calibrate", str(made_log(tmp_path, 20)), "--device", "rtx-pro-6000", "--engine", "vllm", "-o", str(target)]
    assert run([*ask, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["unseen"]["requests"] == 10 and record["unseen"]["tpot_mape"] < 0.02
    written = load_engine(target)
    assert written.host.step_s == pytest.approx(record["host"]["step_s"], rel=0.01)
    assert written.host.request_s == 0.0 and written.release == "9"


def test_what_a_log_does_not_say_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    place = made_log(tmp_path)
    other = tmp_path / "elsewhere"
    place.rename(other)
    assert run(["validate", str(other)]) == 2
    assert "names the device that served it. Give --device" in capsys.readouterr().err
    assert run(["validate", str(other), "--device", "rtx-pro-6000"]) == 0
    several = ["calibrate", str(other), str(other), "--device", "rtx-pro-6000", "--engine", "vllm"]
    assert run(several) == 2
    assert "one request log at a time" in capsys.readouterr().err


def test_the_measured_run_is_compared(data_folder: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["validate", str(data_folder / RUN), "--json"]) == 0
    families = {entry["dtype"].split()[0]: entry for entry in json.loads(capsys.readouterr().out)["families"]}
    assert families["TPOT"]["n"] == families["TTFT"]["n"] == 300
    # The preset, fitted to other models on H100: on models not fitted it is within 11 % (TPOT) and 35 % (TTFT).
    assert families["TPOT"]["median_ape"] < 0.12
    assert families["TTFT"]["median_ape"] < 0.35
