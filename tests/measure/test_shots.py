"""A few dozen single kernels: drawn by a seed, measured by the same code on any device, enough to calibrate."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from roofline.calibrate.models import parameters_time
from roofline.cli.app import run
from roofline.io.calibration import calibration_of, carried_over
from roofline.io.datasets import own, read
from roofline.io.profiles import load_target
from roofline.io.records import DIMENSIONS, Family
from roofline.measure import session
from roofline.measure.numpy_executor import NumpyLibrary
from roofline.measure.shots import (
    ACCELERATOR,
    PROCESSOR,
    Largest,
    Shot,
    Wide,
    draw_shots,
    draw_wide,
    executed_shot,
    measure_wide,
)
from roofline.structs import NO_WINDOW, Dtype

from ..calibrate.test_own_records import environment, measurement
from .test_session import BRIEF, WARM


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    monkeypatch.setattr(session, "QUICK", BRIEF)
    monkeypatch.setattr(session, "bind", lambda *_: None)
    monkeypatch.setattr(session, "PROCESSOR", Largest(32, 256, 32, 4, 256))


def test_a_third_of_each_family_and_the_same_for_the_same_seed():
    shots = draw_shots(60, ACCELERATOR, 5)
    assert shots == draw_shots(60, ACCELERATOR, 5) != draw_shots(60, ACCELERATOR, 6)
    for family in (Family.GEMM, Family.PREFILL_ATTENTION, Family.DECODE_ATTENTION):
        found = [shot for shot in shots if shot.family is family]
        assert len(found) == 20
        assert all(set(shot.dims) == set(DIMENSIONS[family]) for shot in found)


def test_shapes_spread_over_the_regimes():
    """Twenty log-uniform draws leave no gap of half of the range between neighbours."""
    shots = draw_shots(60, ACCELERATOR, 0)
    for family, name in (
        (Family.GEMM, "m"),
        (Family.PREFILL_ATTENTION, "new_token"),
        (Family.DECODE_ATTENTION, "context"),
    ):
        drawn = sorted(np.log(shot.dims[name]) for shot in shots if shot.family is family)
        assert max(after - before for before, after in pairwise(drawn)) < 0.5 * (drawn[-1] - drawn[0])


def test_the_kernel_that_runs_is_the_one_that_was_drawn():
    dims = {"m": 6.0, "n": 16.0, "k": 32.0, "copies": 1.0}
    (product,) = executed_shot(Shot(Family.GEMM, dims), NumpyLibrary()).products
    assert (product.m, product.n, product.k, product.copies) == (6, 16, 32, 1)
    dims = dict(zip(DIMENSIONS[Family.DECODE_ATTENTION], (2.0, 1.0, 9.0, 8.0, 2.0, 64.0, NO_WINDOW), strict=True))
    cost = executed_shot(Shot(Family.DECODE_ATTENTION, dims), NumpyLibrary()).cost
    assert cost.matrix_flop == 2 * 2 * (2 * 8) * 10 * 64.0  # two products, a pair for each query head and key
    assert cost.kv_read_byte == 2 * (2 * 2 * 10 * 64) * 4.0


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_the_command_writes_records_that_can_be_read(library, tmp_path, capsys):
    if library == "torch":
        pytest.importorskip("torch")
    path = tmp_path / "rows.json"
    assert run(["measure", "--shots", "6", "--library", library, "--seed", "4", "-o", str(path)]) == 0
    assert "6 records" in capsys.readouterr().out
    assert own.load(path).seed == 4
    groups, refused = read(path)
    assert not refused and sum(group.size for group in groups) == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shots", "2", "-o", "r.json"], "shots: 2 is not accepted"),
        (["--shots", "60"], "output: where to write"),
        (["--shots", "60", "--device", "tpu", "-o", "r.json"], "device: 'tpu' is not known"),
        (["--shots", "60", "--device", "cuda", "-o", "r.json"], "no CUDA GPU"),
        (["--shots", "60", "host", "-o", "host.toml"], "takes none"),
    ],
)
def test_mistakes(arguments, message, tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    assert run(["measure", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_sixty_shots_are_enough_to_start_from_a_relative(tmp_path, capsys):
    """An H100 whose times are those of the A100's parameters, scaled, by the kernels its profile declares, and 20 %
    slower, with 2 % of noise: the fit to 80 % of 60 shots finds them again within 10 %.
    """
    source, target = load_target("a100-sxm-80gb"), load_target("h100-sxm")
    models = carried_over(calibration_of(source.calibration, "a100-sxm-80gb").models, source, target)
    draw = np.random.default_rng(1)
    base = measurement(backend="torch", activation=Dtype.BF16, weight=Dtype.BF16, cache=Dtype.BF16)
    rows = [
        replace(
            base, family=shot.family.value, step="o_proj" if shot.family is Family.GEMM else "attention", dims=shot.dims
        )
        for shot in draw_shots(60, ACCELERATOR, 3)
    ]
    path, state = tmp_path / "rows.json", replace(environment(), device="h100-sxm", library_version={"torch": "2"})
    own.write(path, own.RecordFile(own.SCHEMA, state, tuple(rows)))
    timed = list(rows)
    for group in read(path)[0]:
        seconds = 1.2 * parameters_time(group, target.device, models[str(group.family), "bf16"].parameters).total_s
        for line, second in zip(
            group.line.astype(int) - 1, seconds * np.exp(0.02 * draw.standard_normal(group.size)), strict=True
        ):
            timed[line] = replace(rows[line], samples_s=(second,) * 5, median_s=second, low_s=second, high_s=second)
    own.write(path, own.RecordFile(own.SCHEMA, state, tuple(timed)))
    out = tmp_path / "mine.toml"
    given = [str(path), "--device", "h100-sxm", "--like", "a100-sxm-80gb", "--fit-fraction", "0.8", "-o", str(out)]
    assert run(["calibrate", *given]) == 0, capsys.readouterr().err
    fits = calibration_of(load_target(str(out)).calibration, "mine").models
    for family in ("gemm", "prefill_attention", "decode_attention"):
        assert fits[family, "bf16"].evidence.median_ape < 0.10, family


def test_processors_get_smaller_shapes():
    assert PROCESSOR.width < ACCELERATOR.width and PROCESSOR.cached < ACCELERATOR.cached


def test_wide_weights_fit_in_memory_one_by_one_and_vocabularies_meet_no_prompt():
    drawn = draw_wide(24, 7)
    assert drawn == draw_wide(24, 7) != draw_wide(24, 8)
    assert max(4.0 * weight.n * weight.k for weight in drawn) < 1e9
    assert max(weight.k for weight in drawn) > 10_000 and max(weight.n for weight in drawn) > 40_000
    for number, weight in enumerate(drawn):
        single, few, more, *prompt = weight.rows
        assert single == 1 < few <= 3 < more <= 8  # up to three rows are multiplied one by one by some libraries
        assert len(prompt) == (0 if number % 4 == 1 else 1)


def test_every_row_count_of_a_wide_weight_is_a_record():
    found = list(measure_wide(Wide(96, 64, (1, 3)), NumpyLibrary(), WARM))
    assert [record.dims for record in found] == [{"m": m, "n": 96.0, "k": 64.0, "copies": 1.0} for m in (1.0, 3.0)]
    assert all(record.family == "gemm" and record.samples_s for record in found)


def test_shots_of_chosen_families():
    shots = draw_shots(5, PROCESSOR, 3, (Family.DECODE_ATTENTION,))
    assert [(shot.family, shot.dims["new_token"]) for shot in shots] == [(Family.DECODE_ATTENTION, 1.0)] * 5
    assert len({tuple(shot.dims.values()) for shot in shots}) == 5
