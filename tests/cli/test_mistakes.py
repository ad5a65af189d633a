"""Mistakes of a planner at every command: one clear line, the documented status, nothing written."""

import json

import pytest

from roofline.cli.app import run

ON = ["llama-3.1-8b", "h100-sxm"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["predict", *ON, "--rate", "1e300"],
            "rate: '1e300' is not accepted. Accepted: numbers above 0 up to 1.09951e+12",
        ),
        (["predict", *ON, "--rate", "1", "--cv", "-1"], "Accepted: numbers from 0 up to 20"),
        (["predict", *ON, "--rate", "1", "--prefix-hit", "1"], "Accepted: numbers from 0 up to 0.999"),
        (["predict", *ON, "--rate", "1", "--engine", "/nope.toml"], "'/nope.toml': No such file or directory."),
        (
            [
                "predict",
                *ON,
                "--rate",
                "1",
                "--draft-tokens",
                "2",
                "--acceptance",
                "0.5",
                "--draft",
                "bert-base-uncased",
            ],
            "draft: BERT-base-uncased is an encoder",
        ),
        (["simulate", *ON, "--rate", "1", "--input", "200000"], "200256 tokens exceed the 131072"),
        (["simulate", *ON, "--rate", "1e300"], "up to 1.09951e+12"),
        (["sensitivity", *ON, "--devices", "nope"], "device: 'nope' is not known"),
        (["sensitivity", *ON, "--devices", ","], "device: '' is not known"),
        (["sensitivity", *ON, "--devices", ""], "device: '' is not known"),
        (["compare", "llama-3.1-8b", ","], "devices: an empty name is given"),
        (["compare", "llama-3.1-8b", "h100-sxm,"], "devices: an empty name is given"),
    ],
)
def test_mistakes_are_named(words, said, capsys):
    assert run(words) == 2
    told = capsys.readouterr()
    assert told.err.startswith("error: ") and said in told.err and told.out == ""


def test_weights_that_leave_no_memory_are_told_as_missing(capsys):
    assert run(["predict", "llama-3.1-70b", "h100-sxm", "--rate", "1"]) == 1
    told = capsys.readouterr().err
    assert "67.9 GB are missing for the weights" in told and "-67.9" not in told


def test_a_short_context_is_judged_by_the_lengths_that_are_simulated(capsys):
    words = ["simulate", "gpt2-small", "h100-sxm", "--rate", "5", "--requests", "5", "--json"]
    assert run([*words, "--input", "256", "--output", "16"]) == 0  # below 1,024, though the usual 2,048 are not
    assert json.loads(capsys.readouterr().out)["schema"] == "roofline.simulation/1"


def test_clients_without_a_request_cost_nothing(capsys):
    words = ["simulate", *ON, "--requests", "5", "--input", "64", "--output", "4", "--json"]
    assert run([*words, "--concurrency", "1000000000"]) == 0
    many = json.loads(capsys.readouterr().out)
    assert run([*words, "--concurrency", "5"]) == 0
    assert many["ttft_s"] == json.loads(capsys.readouterr().out)["ttft_s"]


def test_threads_that_are_not_there_leave_nothing_behind(tmp_path, capsys):
    folder = tmp_path / "here"
    assert run(["validate", "--this-machine", "--threads", "0", "-o", str(folder)]) == 2
    assert "threads: 0 is not accepted" in capsys.readouterr().err
    assert not folder.exists()


def test_an_engine_file_that_is_no_text_is_named(tmp_path, capsys):
    path = tmp_path / "engine.toml"
    path.write_bytes(b"\xff\xfe")
    assert run(["predict", *ON, "--rate", "1", "--engine", str(path)]) == 2
    assert "engine: cannot read" in capsys.readouterr().err


def test_a_folder_named_like_a_record_is_no_record(tmp_path, capsys):
    (tmp_path / "p.json").mkdir()
    assert run(["calibrate", str(tmp_path), "--device", "h100-sxm"]) == 2
    assert capsys.readouterr().err.startswith("error: data: ")
