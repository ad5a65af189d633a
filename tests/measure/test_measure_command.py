"""`roofline measure` as its user meets it: what it writes, and what it says when it cannot."""

import json
import tomllib
from contextlib import suppress

import pytest

from roofline.cli.app import run
from roofline.errors import RooflineError
from roofline.io.datasets.own import load
from roofline.measure import draw, session
from roofline.measure.environment import cores, use_blas_threads
from roofline.measure.session import Request

from .test_session import BRIEF, MACHINE, MEASURED

TINY = {
    "model_type": "gpt2",
    "architectures": ["GPT2LMHeadModel"],
    "n_embd": 64,
    "n_head": 2,
    "n_layer": 1,
    "n_positions": 512,
    "vocab_size": 128,
    "activation_function": "gelu_new",
}


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    """Two samples per record, and the process stays on its CPUs, with one BLAS thread where that can be told: two wait
    for each other on a machine that runs other tests besides.
    """
    with suppress(RooflineError):
        use_blas_threads(1)
    monkeypatch.setattr(session, "QUICK", BRIEF)
    monkeypatch.setattr(session, "bind", lambda *_: None)
    monkeypatch.setattr(session.NumpyLibrary, "use_threads", lambda *_: None)
    yield
    with suppress(RooflineError):
        use_blas_threads(len(cores()))


def test_steps_of_a_preset_make_a_record_file(tmp_path, capsys):
    path = tmp_path / "records.json"
    arguments = [
        "measure",
        "steps",
        "--quick",
        "--model",
        "gpt2-small",
        "--layers",
        "1",
        "--steps",
        "softmax,rope,o_proj",
    ]
    assert run([*arguments, "-o", str(path)]) == 0
    file = load(path)
    assert {record.step for record in file.records} == {"softmax", "o_proj"}  # GPT-2 has no rope
    assert len({tuple(record.dims.items()) for record in file.records}) == len(file.records)
    assert all(len(record.samples_s) == 2 for record in file.records)
    assert not file.interrupted
    assert "records of numpy on" in capsys.readouterr().out


def test_whole_models_are_measured(tmp_path):
    """A model as small as a test bears, given as its users give one of their own: by its Hugging Face config."""
    config, path = tmp_path / "config.json", tmp_path / "records.json"
    config.write_text(json.dumps(TINY))
    assert run(["measure", "steps", "--quick", "--warm", "--model", str(config), "-o", str(path)]) == 0
    whole = [record for record in load(path).records if record.family == "model"]
    assert [(record.dims["sequences"], record.dims["new_token"], record.dims["context"]) for record in whole] == [
        (1.0, 64.0, 0.0),
        (1.0, 1.0, 64.0),
        (4.0, 1.0, 256.0),
    ]


def test_ctrl_c_writes_what_was_measured(tmp_path, monkeypatch, capsys):
    real = draw.measure_case

    def stopped(*arguments):
        for number, record in enumerate(real(*arguments)):
            if number == 2:
                raise KeyboardInterrupt
            yield record

    monkeypatch.setattr(draw, "measure_case", stopped)
    path = tmp_path / "records.json"
    assert run(["measure", "steps", "--quick", "-o", str(path)]) == 130
    assert json.loads(path.read_text())["interrupted"] is True
    assert len(load(path).records) == 2
    assert "what was measured until then" in capsys.readouterr().err


def test_a_host_profile_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(session, "measure_host", lambda *_: (MACHINE, MEASURED, False))
    path = tmp_path / "host.toml"
    assert run(["measure", "host", "--quick", "-o", str(path)]) == 0
    assert tomllib.loads(path.read_text())["title"] == 'A "test" machine'
    assert "roofline hardware show" in capsys.readouterr().out
    assert run(["hardware", "lint", str(path)]) == 0


def test_an_interrupted_host_profile_is_not_written_half(tmp_path, monkeypatch, capsys):
    short = session.Measured(MEASURED.rates[:3], {}, MEASURED.levels)
    monkeypatch.setattr(session, "measure_host", lambda *_: (MACHINE, short, True))
    path = tmp_path / "host.toml"
    assert run(["measure", "host", "-o", str(path)]) == 2
    assert "was not measured" in capsys.readouterr().err
    assert not path.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["steps", "-o", "missing/folder/r.json"], "cannot write missing/folder/r.json"),
        (["steps", "-o", "."], "it is a folder"),
        (["steps", "--steps", "sofmax", "-o", "r.json"], "Did you mean 'softmax'?"),
        (["steps", "--library", "jax", "-o", "r.json"], "library: 'jax' is not known"),
        (["steps", "--dtype", "fp8", "-o", "r.json"], "dtype: 'fp8' is not known"),
        (["steps", "--threads", "0", "-o", "r.json"], "threads: 0 is not accepted"),
        (["steps", "--model", "gpt3-smal", "-o", "r.json"], "is not known"),
        (["steps", "--model", "gpt2-small", "--layers", "99", "-o", "r.json"], "layers: 99 is not accepted"),
        (["host", "-o", "host.json"], "cannot hold a profile"),
        (["host", "--device", "tpu", "-o", "host.toml"], "device: 'tpu' is not known"),
        (["host", "-o", "missing/host.toml"], "cannot write missing/host.toml"),
    ],
)
def test_mistakes_are_told_before_anything_is_measured(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.undo()  # the real binding refuses zero threads
    monkeypatch.chdir(tmp_path)
    assert run(["measure", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_permission_is_told_first(capsys):
    assert run(["measure", "steps", "-o", "/proc/r.json"]) == 2  # not even root may create a file there
    assert "cannot write /proc/r.json" in capsys.readouterr().err


def test_without_torch_numpy_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    assert run(["measure", "steps", "--library", "torch", "-o", str(tmp_path / "r.json")]) == 2
    assert "torch is not installed here. Accepted without it: numpy" in capsys.readouterr().err
    monkeypatch.setattr(draw, "QUICK_DRAW", (2, 256, 32))
    chosen = Request(quick=True, steps=frozenset({"mlp_residual"}))
    assert session.measure_steps(chosen).records
