"""`roofline simulate` as its user meets it: the screen, the record, files, and every mistake named."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from roofline.cli.app import command_line, run
from roofline.io.traces import read_trace

ASK = ["simulate", "llama-3.1-8b", "h100-sxm"]
QUICK = ["--requests", "40", "--input", "300", "--output", "20"]


def output_of(*arguments: str) -> str:
    result = CliRunner().invoke(command_line(), [*arguments])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def record_of(*arguments: str) -> dict[str, object]:
    record: dict[str, object] = json.loads(output_of(*ASK, *arguments, "--json"))
    return record


def test_the_screen_answers_first():
    lines = output_of(*ASK, *QUICK, "--rate", "10").splitlines()
    assert lines[0].startswith("Llama-3.1-8B on 1 x NVIDIA H100 SXM5 80GB, vLLM")
    assert lines[1] == "40 requests at 10/s (Poisson, seed 0); 300 (p95 300) tokens in, 20 (p95 20) out"
    assert [line.split()[0] for line in lines[5:10]] == ["TTFT", "TPOT", "ITL", "queue", "whole"]
    assert any(line.startswith("Verdict: it keeps up at") for line in lines)
    assert max(map(len, lines)) <= 125 and len(lines) <= 40


def test_the_record_is_whole_and_the_same_for_the_same_seed():
    ask = ["--rate", "20", "--arrival-cv", "2", "--requests", "60", "--input", "lognormal:400:0.7", "--output", "30"]
    record = record_of(*ask)
    assert record["schema"] == "roofline.simulation/1"
    again, other = record_of(*ask), record_of(*ask, "--seed", "1")
    assert again["requests"] == record["requests"] and other["requests"] != record["requests"]
    assert record["workload"]["arrival_cv"] == 2.0
    assert set(record["ttft_s"]) == {"mean", "p50", "p95", "p99"}
    for name in ("ttft_s", "tpot_s", "itl_s", "queue_s", "e2e_s"):
        middle = record[name]["mean"]
        assert record["band"]["low"][name]["mean"] <= middle <= record["band"]["high"][name]["mean"]
        column = record["distributions"][name]
        assert column == sorted(column) and len(column) == len(record["distributions"]["share"])
    assert len({len(column) for column in record["timeline"].values()}) == 1
    assert record["closed_form"]["saturation_request_per_s"] > 20.0


@pytest.mark.parametrize("engine", ["vllm", "sglang", "trtllm"])
def test_every_engine_serves_a_closed_loop_on_several_replicas(engine: str):
    result = output_of(
        "simulate", "llama-3.1-8b", "h100-sxm:2", "--dp", "2", *QUICK, "--concurrency", "8", "--engine", engine
    )
    assert "40 requests with 8 in flight" in result


def test_a_trace_is_replayed_and_written_out_again(tmp_path: Path):
    trace = tmp_path / "trace.csv"
    trace.write_text("arrived_at,num_prefill_tokens,num_decode_tokens\n0,100,5\n0.5,200,1\n0.5,50,9\n")
    written, steps = tmp_path / "requests.csv", tmp_path / "steps.csv"
    assert "3 requests of trace.csv, as they came" in output_of(
        *ASK, "--trace", str(trace), "--csv", str(written), "--steps", str(steps)
    )
    rows = list(csv.DictReader(written.open()))
    assert [row["output_token"] for row in rows] == ["5.0", "1.0", "9.0"]
    assert rows[1]["tpot_s"] == "" and float(rows[2]["ttft_s"]) > 0.0
    assert sum(float(row["prompt_token"]) for row in csv.DictReader(steps.open())) == 350.0
    lengths = output_of(*ASK, "--trace", str(trace), "--rate", "5", "--requests", "7")
    assert "7 requests at 5/s (Poisson, seed 0) with the lengths of trace.csv" in lengths
    drawn = output_of(*ASK, "--rate", "5", "--requests", "7", "--input", str(trace), "--output", "3")
    assert "7 requests at 5/s" in drawn


def test_a_load_beyond_saturation_is_called_so():
    assert "Verdict: overloaded" in output_of(*ASK, "--rate", "1000", *QUICK)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ([], 2, "rate, concurrency, trace: none says how requests come"),
        (["--rate", "0"], 2, "rate: '0' is not accepted. Accepted: numbers above 0"),
        (["--rate", "-3"], 2, "rate: '-3' is not accepted"),
        (["--rate", "nan"], 2, "rate: 'nan' is not accepted"),
        (["--rate", "x"], 2, "rate: 'x' is not accepted"),
        (["--rate", "1", "--concurrency", "2"], 2, "Give one of them"),
        (["--concurrency", "1.5"], 2, "concurrency: '1.5' is not accepted. Accepted: whole numbers from 1 on"),
        (["--concurrency", "4", "--arrival-cv", "1"], 2, "arrival-cv: it is about arrivals at a rate"),
        (["--rate", "1", "--output", "0"], 2, "output: '0' is not accepted. Accepted: whole numbers from 1 on"),
        (["--rate", "1", "--input", "lognormal:5"], 2, "input: 'lognormal:5' is not accepted. Accepted: a number of"),
        (["--rate", "1", "--input", "lognormal:0:1"], 2, "input: '0' is not accepted. Accepted: numbers from 1 on"),
        (["--rate", "1", "--input", "no.csv"], 2, "input: 'no.csv' is not accepted"),
        (
            ["--rate", "1", "--requests", "10000000"],
            2,
            "requests: 10,000,000 is not accepted. Accepted: 1 to 5,000,000",
        ),
        (["--rate", "1", "--engine", "vlm"], 2, "Did you mean 'vllm'?"),
        (["--rate", "1", "--tp", "1,2"], 2, "tp: a simulation is of one deployment"),
        (["--rate", "1", "--max-batch-tokens", "100"], 2, "max-batch-tokens: 100 is below max-sequences, 256"),
        (["--rate", "1", "--input", "2000000"], 2, "2000256 tokens exceed the 131072"),
        (["--trace", "no.csv"], 2, "trace: cannot read no.csv"),
        (["--trace", "no.csv", "--input", "5"], 2, "trace: it has its own lengths"),
        (["--rate", "1", "--csv", "a", "--steps", "a"], 2, "written to the same file"),
        (["--rate", "1", "--csv", "/no/such/folder/a"], 2, "cannot write /no/such/folder/a"),
    ],
)
def test_a_mistake_is_named_without_a_traceback(
    arguments: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str]
):
    assert run([*ASK, *arguments]) == status
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error


def test_other_models_are_refused(capsys: pytest.CaptureFixture[str]):
    assert run(["simulate", "bert-base-uncased", "h100-sxm", "--rate", "1"]) == 2
    assert "is an encoder and generates nothing" in capsys.readouterr().err
    assert run(["simulate", "llama-3.1-70b", "h100-sxm", "--rate", "1"]) == 1
    assert "leave nothing for the KV cache" in capsys.readouterr().err


def test_an_interrupt_ends_it_without_a_traceback_or_a_file(tmp_path: Path):
    target = tmp_path / "requests.csv"
    ask = [*ASK, "--rate", "30", "--requests", "400000", "--csv", str(target)]
    process = subprocess.Popen(
        [sys.executable, "-m", "roofline", *ask], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    time.sleep(3.0)
    os.kill(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode in (1, 130)
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


def test_published_traces_run_as_workloads(data_folder: Path, tmp_path: Path):
    for name, first in (("code", 300), ("conv", 300)):
        path = data_folder / f"vidur/data/processed_traces/splitwise_{name}.csv"
        result = CliRunner().invoke(command_line(), [*ASK, "--trace", str(path), "--requests", str(first), "--json"])
        record = json.loads(result.stdout)
        expected = read_trace(path).first(first)
        assert record["workload"]["requests"] == first
        assert record["workload"]["input_token"]["mean"] == pytest.approx(float(expected.input_token.mean()))
        assert record["makespan_s"] > float(expected.arrival_s[-1])
