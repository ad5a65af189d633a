"""`validate --this-machine` on synthetic measurements, and `calibrate` on own records, as their users meet them."""

import json
from dataclasses import replace

import pytest
import typer

from roofline.cli import this_machine as command
from roofline.cli.app import run
from roofline.errors import RooflineError
from roofline.io.datasets import own
from roofline.io.profiles import load_target
from roofline.measure import environment as environments
from roofline.measure import session, torch_executor

from ..calibrate.test_own_records import TRUE, environment, measurement, products, timed
from ..measure.test_session import MACHINE, MEASURED


def products_file(device: str = "host", machine: str = "m1") -> own.RecordFile:
    """Products timed by known parameters; every tenth measured twice, 1 % apart."""
    found = timed(products(), TRUE)
    rows = [
        measurement(
            dims={name: float(values[row]) for name, values in found.dims.items()},
            samples_s=(seconds,) * 5, median_s=seconds, low_s=seconds, high_s=seconds,
        )
        for row, seconds in enumerate((found.measured_s * 3.0).tolist())
    ]  # fmt: skip
    again = [replace(row, samples_s=(1.01 * row.median_s,) * 5, median_s=1.01 * row.median_s) for row in rows[::10]]
    return own.RecordFile(own.SCHEMA, replace(environment(machine), device=device), (*rows, *again))


@pytest.fixture
def measured(monkeypatch):
    monkeypatch.setattr(session, "measure_host", lambda *_: (MACHINE, MEASURED, False))
    monkeypatch.setattr(session, "measure_steps", lambda *_, **__: products_file())


def test_everything_is_written_and_judged_by_unseen_shapes(measured, tmp_path, capsys):
    command.this_machine(tmp_path / "new", library="numpy", quick=True)
    names = {path.name for path in (tmp_path / "new").iterdir()}
    assert names >= {"host.toml", "host-numpy.toml", "numpy.json", "validation-numpy.json", "validation-numpy.html"}
    record = json.loads((tmp_path / "new" / "validation-numpy.json").read_text())
    assert record["schema"] == "roofline.validation/1"
    assert record["overall"]["n"] == pytest.approx(48, abs=1)  # 40 % of 120
    told = capsys.readouterr().out
    assert "gemm" in told and "1.0%" in told  # the noise of shapes measured twice
    assert load_target(str(tmp_path / "new" / "host-numpy.toml")).calibration


def test_without_torch_numpy_is_measured(measured, tmp_path, monkeypatch, capsys):
    def missing():
        raise RooflineError("library: torch is not installed here.")

    monkeypatch.setattr(torch_executor, "require_torch", missing)
    command.this_machine(tmp_path, library="both")
    assert not (tmp_path / "torch.json").exists() and (tmp_path / "numpy.json").exists()
    assert "torch is not installed" in capsys.readouterr().err
    with pytest.raises(RooflineError, match="torch is not installed"):
        command.this_machine(tmp_path, library="torch")


def test_ctrl_c_keeps_what_was_measured(measured, tmp_path, monkeypatch):
    monkeypatch.setattr(session, "measure_steps", lambda *_, **__: replace(products_file(), interrupted=True))
    with pytest.raises(typer.Exit) as stopped:
        command.this_machine(tmp_path, library="numpy")
    assert stopped.value.exit_code == 130
    assert own.load(tmp_path / "numpy.json").interrupted
    assert not (tmp_path / "validation-numpy.json").exists()


def test_unknown_library(tmp_path):
    with pytest.raises(RooflineError, match="numpy"):
        command.this_machine(tmp_path, library="numpie")


def test_a_folder_that_cannot_be_made(measured, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RooflineError, match="cannot make the folder"):
        command.this_machine(tmp_path / "file" / "below", library="numpy")


@pytest.mark.parametrize(("busy", "count", "idle"), [(0.0, 2, 2), (0.2, 2, 2), (1.0, 2, 1), (9.0, 2, 1), (1.1, 8, 7)])
def test_busy_cores_are_left_alone(busy, count, idle):
    assert command.idle_cores(count, busy) == idle


def test_what_the_system_is_busy_with(monkeypatch):
    """10 of 40 ticks of two CPUs pass idle: 1.5 cores are busy."""
    ticks = iter(["cpu 100 0 20 300 10 0 0 0 0 0", "cpu 125 0 25 308 12 0 0 0 0 0"])
    monkeypatch.setattr(environments, "_text", lambda path: next(ticks))
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert environments.busy_cores(0.0) == pytest.approx(1.5)


def test_shapes_are_drawn_by_a_seed_that_is_recorded(measured, tmp_path, monkeypatch):
    asked = []

    def steps(request, **_):
        asked.append(request.seed)
        return replace(products_file(), seed=request.seed)

    monkeypatch.setattr(session, "measure_steps", steps)
    for name, seed in (("a", None), ("b", None), ("c", 7)):
        command.this_machine(tmp_path / name, library="numpy", seed=seed)
    assert asked[0] != asked[1] and asked[2] == 7
    assert own.load(tmp_path / "a" / "numpy.json").seed == asked[0]
    assert json.loads((tmp_path / "c" / "validation-numpy.json").read_text())["unseen"]["seed"] == 7


def test_own_records_calibrate_their_profile(measured, tmp_path, capsys):
    command.this_machine(tmp_path, library="numpy")
    given = [str(tmp_path / "numpy.json"), "--device", str(tmp_path / "host.toml"), "--backend", "numpy"]
    assert run(["calibrate", *given, "-o", str(tmp_path / "mine.toml")]) == 0
    assert "gemm" in capsys.readouterr().out
    assert "fp32" in load_target(str(tmp_path / "mine.toml")).calibration["numpy"]["gemm"]


def test_records_of_two_machines_are_refused_whichever_way_they_are_given(measured, tmp_path, capsys):
    command.this_machine(tmp_path, library="numpy")
    own.write(tmp_path / "other.json", products_file(machine="m2"))
    files = [str(tmp_path / name) for name in ("numpy.json", "other.json")]
    assert run(["calibrate", *files, "--device", str(tmp_path / "host.toml")]) == 2
    assert "two machines" in capsys.readouterr().err
