import json

import pytest
from typer.testing import CliRunner

from roofline.cli.app import command_line
from roofline.errors import RooflineError
from roofline.io.engines import load_engine

from ..serving_sample import sample

RUN = CliRunner()
MEASURED = (
    (1024, 1024, 8, 15.9, 154.0),
    (1024, 1024, 16, 17.4, 187.0),
    (1024, 1024, 32, 20.1, 237.0),
    (1024, 1024, 64, 26.1, 381.0),
    (1024, 1024, 128, 37.8, 652.0),
    (1024, 128, 8, 18.0, 154.0),
)
"""Input, output, clients, TPOT and TTFT in ms: Qwen3-32B on two H100, vLLM 0.12."""

ROWS = [
    {
        "isl": str(length),
        "osl": str(output),
        "silicon_data_source": f"source_file=a/b.csv; silicon_concurrency={clients}",
        "batch_size": str(clients),
        "silicon_tpot_ms": str(tpot),
        "silicon_ttft_ms": str(ttft),
    }
    for length, output, clients, tpot, ttft in MEASURED
]


def test_an_engine_is_fitted_written_and_used(tmp_path):
    data, out = sample(tmp_path / "s.csv", *ROWS), tmp_path / "mine.toml"
    result = RUN.invoke(
        command_line(), ["calibrate", str(data), "--device", "h100-sxm", "--engine", "vllm", "-o", str(out)]
    )
    assert result.exit_code == 0, result.output
    assert "qwen3-32b bf16 vllm" in result.output and "host.sequence_s" in result.output
    assert load_engine(out).evidence.fitted_rows == 3
    used = RUN.invoke(
        command_line(), ["predict", "qwen3-32b", "h100-sxm:2", "--concurrency", "8", "--engine", str(out), "--json"]
    )
    serving = json.loads(used.output)["serving"]
    assert serving["engine"] == "mine"
    assert "not fitted" in serving["band"]["summary"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--engine", "sglang"], "no served rows of sglang on h100-sxm; it has vllm on h100-sxm"),
        (["--engine", "vllm", "--backend", "vllm"], "Leave out --backend"),
        (["--engine", "vlm"], "Did you mean 'vllm'"),
    ],
)
def test_mistakes_are_named(tmp_path, flags, words):
    data = sample(tmp_path / "s.csv", *ROWS)
    result = RUN.invoke(command_line(), ["calibrate", str(data), "--device", "h100-sxm", *flags])
    assert isinstance(result.exception, RooflineError)
    assert words in str(result.exception)


def test_served_rows_are_validated_as_a_family(tmp_path):
    data = sample(tmp_path / "s.csv", *ROWS)
    record = json.loads(RUN.invoke(command_line(), ["validate", str(data), "--json"]).output)
    families = {entry["dtype"]: entry for entry in record["families"]}
    assert set(families) == {"TPOT qwen3-32b bf16 vllm", "TTFT qwen3-32b bf16 vllm"}
    assert {entry["family"] for entry in record["families"]} == {"serving"}
    assert families["TPOT qwen3-32b bf16 vllm"]["n"] == 6
    assert families["TPOT qwen3-32b bf16 vllm"]["median_ape"] < 0.2
