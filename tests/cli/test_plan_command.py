"""`roofline plan` as its user meets it: the answer first, records, mistakes, and what would help."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import roofline
from roofline.cli.app import run
from roofline.errors import RooflineError

EIGHT = ["plan", "llama-3.1-8b", "--devices", "h100-sxm", "--ttft", "0.5", "--tpot", "0.05"]
QUICK = [*EIGHT, "--rate", "10", "--max-devices", "2", "--max-sequences", "64,256", "--max-batch-tokens", "8192"]


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    done = subprocess.run(
        [sys.executable, "-m", "roofline", *QUICK, "--json"], capture_output=True, text=True, check=True, env=os.environ
    )
    return json.loads(done.stdout)


def test_the_record_has_every_field_of_the_schema(record):
    assert record["schema"] == "roofline.plan/1"
    assert record["candidates_evaluated"] > 0
    best = record["plans"][0]
    for key in (
        "device",
        "n_devices",
        "replicas",
        "parallelism",
        "precision",
        "engine",
        "ttft_s",
        "tpot_s",
        "utilisation",
        "usd_per_hour",
        "usd_per_mtok_input",
        "usd_per_mtok_output",
        "joule_per_token",
        "bound",
        "headroom",
        "band",
        "robust",
    ):
        assert key in best
    assert set(best["ttft_s"]) == {"mean", "p50", "p95", "p99", "at_percentile"}
    assert best["ttft_s"]["at_percentile"] == best["ttft_s"]["p95"] <= 0.5
    assert record["infeasible"] is None
    assert record["rejected"]
    for entry in record["rejected"]:
        assert entry["count"] > 0 and entry["miss"] > 1.0 and entry["nearest"]["device"] == "h100-sxm"


def test_the_bill_adds_up(record):
    # $/h = tokens in · $ per token in + tokens out · $ per token out, over an hour
    best = record["plans"][0]
    hour = 10 * 3600.0 * (2048 * best["usd_per_mtok_input"] + 256 * best["usd_per_mtok_output"]) / 1e6
    assert hour == pytest.approx(best["usd_per_hour"])
    assert best["usd_per_hour"] == pytest.approx(6.88 * best["n_devices"])


def test_points_are_columns_of_one_length(record):
    points = record["pareto"]["points"]
    assert len({len(column) for column in points.values()}) == 1
    assert any(points["front"]) and any(points["meets"])


def test_the_same_question_gives_the_same_record(record):
    again = roofline.plan(
        "llama-3.1-8b",
        rate=10,
        ttft=0.5,
        tpot=0.05,
        devices=["h100-sxm"],
        max_devices=2,
        max_sequences=(64, 256),
        max_batch_tokens=(8192,),
        command=record["provenance"]["command"],
    )
    assert json.loads(json.dumps(again.record)) == record


def test_the_screen_says_what_to_buy_first(capsys):
    assert run(QUICK) == 0
    lines = capsys.readouterr().out.split("\n")
    assert lines[0].startswith("Llama-3.1-8B: 10 requests/s of 2,048 tokens in and 256 tokens out")
    assert lines[3].startswith("1 x NVIDIA H100 SXM5 80GB")
    assert "per hour" in lines[3]


def test_nothing_feasible_exits_with_1_and_what_would_help(capsys):
    assert run([*QUICK, "--tpot", "0.004"]) == 1
    shown = capsys.readouterr().out
    assert "No plan of up to 2 devices meets this; what binds: TPOT above what is asked for." in shown
    helped = next(line for line in shown.split("\n") if line.strip().startswith("--tpot"))
    needed = helped.split()[1].rstrip(":")
    assert run([*QUICK, "--tpot", needed]) == 0


def test_a_level_below_physics_names_the_floor(capsys):
    assert run([*QUICK, "--tpot", "0.0005", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)["infeasible"]
    assert found["floor"]["quantity"] == "tpot_s"
    assert 0.0005 < found["floor"]["value_s"] < 0.003
    assert "one pass of one token over the weights" in found["floor"]["text"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rate", "0"], "rate: 0.0 is not accepted"),
        (["--rate", "-5"], "rate: -5.0 is not accepted"),
        (["--ttft", "0"], "ttft: 0.0 is not accepted"),
        (["--output", "0"], "output: 0 is not accepted"),
        (["--input", "-1"], "input: -1 is not accepted"),
        (["--percentile", "100"], "percentile: 100.0 is not accepted"),
        (["--max-devices", "0"], "max-devices: 0 is not accepted"),
        (["--rate", "1e300"], "rate: 1e+300 is not accepted. Accepted: numbers above 0 up to"),
        (
            ["--max-sequences", "1000000000"],
            "max-sequences: 1,000,000,000 is not accepted. Accepted: whole numbers from",
        ),
        (["--max-batch-tokens", "1000000000"], "max-batch-tokens: 1,000,000,000 is not accepted"),
        (["--max-batch-tokens", "8"], "max-batch-tokens: 8 is below max-sequences, 64"),
        (["--devices", "h100-sxn"], "Did you mean"),
        (["--devices", "h100-sxm,"], "devices: 'h100-sxm,' is not accepted"),
        (["--rank", "price"], "rank: 'price' is not known"),
        (["--engine", "vlm"], "Did you mean 'vllm'"),
        (["--weights", "fp7"], "weights: 'fp7' is not known"),
        (["--prices", "nowhere"], "prices: 'nowhere' is not known"),
        (["--prices", "gcp-tpu-2024-12"], "has no on-demand price of h100-sxm"),
        (["--devices", "mi210"], "price: no price of mi210 is known"),
        (["--input", "200000"], "tokens exceed the 131072"),
        (["--max-devices", "3000000", "--max-batch-tokens", "512,1024,2048"], "are more than the 5,000,000"),
        (["--trace", "no-such-file.csv"], "trace: cannot read"),
    ],
)
def test_mistakes_are_named(words, said, capsys):
    assert run([*QUICK, *words]) == 2
    err = capsys.readouterr().err
    assert said in err and err.startswith("error: ")


def test_a_rate_is_needed(capsys):
    assert run(EIGHT) == 2
    assert "rate: missing" in capsys.readouterr().err


def trace(folder: Path, *rows: str) -> str:
    path = folder / "trace.csv"
    path.write_text("\n".join(["arrival_s,input_tokens,output_tokens", *rows]) + "\n")
    return str(path)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ((), "holds no request"),
        (("0,100,10", "2,x,10"), "is 'x', not a number"),
        (("3,100,10", "2,100,10"), "Sort the file"),
        (("-1,100,10",), "negative"),
        (("0,100,0",), "fewer than 1 token"),
    ],
)
def test_broken_traces_are_named(rows, said, tmp_path, capsys):
    assert run([*EIGHT, "--trace", trace(tmp_path, *rows)]) == 2
    assert said in capsys.readouterr().err


def test_a_trace_brings_lengths_rate_and_burstiness(tmp_path, capsys):
    path = trace(tmp_path, *(f"{0.25 * i},{100 + 200 * (i % 2)},{10 + i % 5}" for i in range(41)))
    limits = ["--max-sequences", "64", "--max-batch-tokens", "8192", "--max-devices", "1"]
    assert run([*EIGHT, "--trace", path, *limits, "--json"]) == 0
    asked = json.loads(capsys.readouterr().out)["request"]
    assert asked["request_per_s"] == pytest.approx(4.0)
    assert asked["arrival_cv2"] == pytest.approx(0.0, abs=1e-12)
    assert asked["input_token"]["kind"] == "empirical" and asked["input_token"]["p95"] == 300.0
    assert run([*EIGHT, "--trace", path, "--input", "5"]) == 2
    assert "input: the lengths are those of the trace" in capsys.readouterr().err


def test_all_at_once_has_no_rate(tmp_path, capsys):
    assert run([*EIGHT, "--trace", trace(tmp_path, "0,100,10", "0,100,10")]) == 2
    assert "has no rate" in capsys.readouterr().err


def test_the_shared_traces_run_as_workloads(data_folder):
    paths = sorted((data_folder / "vidur").rglob("processed_traces/*.csv"))
    assert len(paths) == 2
    for path in paths:
        told = roofline.plan(
            "llama-3.1-8b",
            ttft=2.0,
            tpot=0.1,
            trace=path,
            devices=["h100-sxm"],
            max_devices=4,
            max_sequences=(256,),
            max_batch_tokens=(8192,),
        )
        assert told.record["plans"]


def test_encoders_are_refused():
    with pytest.raises(RooflineError, match="generates no tokens"):
        roofline.plan("bert-base-uncased", rate=1, ttft=1, tpot=1)


def test_planning_loads_nothing_heavy():
    script = (
        "import sys, roofline\n"
        "roofline.plan('llama-3.1-8b', rate=1, ttft=1, tpot=1, devices=['h100-sxm'], max_devices=1)\n"
        "print(' '.join({m.split('.')[0] for m in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"dask", "distributed", "torch", "plotly", "pandas", "pyarrow", "scipy"}


@pytest.mark.parametrize(
    ("model", "device", "rate", "words"),
    [
        ("llama-3.1-70b", "h200-sxm", 1.25, ["--max-batch-tokens", "2048"]),
        ("mixtral-8x7b", "h100-sxm", 10.0, ["--max-batch-tokens", "8192"]),
        ("llama-3.1-8b", "a100-sxm-80gb", 20.0, ["--max-batch-tokens", "16384", "--pools", "disaggregated"]),
    ],
)
def test_predict_says_the_same_of_the_plan_that_wins(model, device, rate, words, capsys):
    ask = ["plan", model, "--devices", device, "--rate", str(rate), "--ttft", "1.5", "--tpot", "0.06"]
    assert run([*ask, *words, "--max-devices", "6", "--max-sequences", "256", "--json"]) == 0
    best = json.loads(capsys.readouterr().out)["plans"][0]
    split, formats, first = best["parallelism"], best["precision"], best["prefill_replicas"]
    if first:
        count, asked = best["n_devices"], ["--rate", str(rate), "--disaggregated", f"{first}P{best['replicas']}D"]
    else:
        count, asked = best["n_devices"] // best["replicas"], ["--rate", str(rate / best["replicas"])]
        asked += ["--ep", str(split["ep"]), "--dp", str(split["dp"])]
    for flag in ("tp", "pp"):
        asked += [f"--{flag}", str(split[flag])]
    for flag in ("weights", "activations", "kv"):
        asked += [f"--{flag}", formats[flag]]
    asked += ["--max-sequences", "256", "--max-batch-tokens", words[1], "--json"]
    assert run(["predict", model, f"{device}:{count}", *asked]) == 0
    served = json.loads(capsys.readouterr().out)["serving"]
    for name in ("ttft_s", "tpot_s"):
        for level in ("mean", "p50", "p95", "p99"):
            assert best[name][level] == pytest.approx(served[name][level], rel=0.01)
    assert best["utilisation"] == pytest.approx(served["utilisation"], rel=0.01)
    together = 1 if first else best["replicas"]
    assert best["saturation_request_per_s"] == pytest.approx(together * served["saturation_request_per_s"], rel=0.01)
