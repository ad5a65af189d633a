"""`roofline diff` as its user sees it."""

import json

import pytest

from roofline.cli.app import run


@pytest.fixture
def command(capsys):
    def call(*arguments):
        status = run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return status, out, err

    return call


def test_two_specifications_are_told_apart_by_their_inputs(command):
    status, out, _ = command("diff", "llama-3.1-8b h100-sxm", "llama-3.1-8b h200-sxm batch=64")
    assert status == 0
    for word in ("TTFT", "TPOT", "batch +", "device -", "gate_up_proj", "datasheet rate", "scenario.batch: 32 -> 64"):
        assert word in out
    assert max(map(len, out.splitlines())) <= 112


def test_two_records_are_compared_without_predicting_again(command, tmp_path):
    paths = []
    for name in ("h100-sxm", "h200-sxm"):
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text(command("predict", "llama-3.1-8b", name, "--json")[1])
    status, out, _ = command("diff", *paths, "--json")
    record = json.loads(out)
    assert status == 0 and record["schema"] == "roofline.diff/1" and record["drivers"] is None
    assert record["a"]["label"] == "h100-sxm.json"
    decode = record["phases"]["decode"]
    assert sum(decode["causes"].values()) == pytest.approx(decode["b_s"] - decode["a_s"])
    assert "No input differs" in command("diff", paths[0], paths[0])[1]


def test_models_may_differ(command):
    status, out, _ = command("diff", "llama-3.1-8b h100-sxm", "qwen3-30b-a3b h100-sxm")
    assert status == 0 and "model -" in out and "experts" in out


@pytest.mark.parametrize(
    ("a", "said"),
    [
        ("llama-3.1-8b", "neither a .json file nor a specification"),
        ("llama-3.1-8b h100-sxm 64", "name=value"),
        ("llama-3.1-8b h100-sxm batsh=64", "Did you mean 'batch'"),
        ("llama-3.1-8b h100-sxm batch=1,2", "takes one number"),
        ("llama-3.1-9b h100-sxm", "not known"),
        ("llama-3.1-8b 'h100-sxm", "quotation"),
        ("nothing.json", "cannot read"),
    ],
)
def test_bad_input_is_named(command, a, said):
    status, _, err = command("diff", a, "llama-3.1-8b h100-sxm")
    assert status == 2 and said in err
