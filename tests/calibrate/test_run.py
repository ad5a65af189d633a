"""Calibration end to end on records made from known parameters: it finds them, and says when it cannot."""

from dataclasses import replace

import numpy as np
import pytest

from roofline.calibrate.candidates import Candidate
from roofline.calibrate.judge import fit_rows, interval, out_of_fold, outside_ranges, ratio_of
from roofline.calibrate.models import key_of, parameters_time
from roofline.calibrate.rows import Rows, grouped, split
from roofline.calibrate.run import calibrate
from roofline.errors import RooflineError
from roofline.io.calibration import load_calibration
from roofline.io.profiles import load_target
from roofline.io.records import Family, Precision, Records
from roofline.structs import Dtype
from roofline.timing.gemm import GemmParameters
from roofline.timing.loop import BenchmarkLoop
from roofline.timing.tiles import TileLibrary

A100 = load_target("a100-sxm-80gb").device
BF16 = Precision("bf16", Dtype.BF16, Dtype.BF16, Dtype.BF16)
TRUE = GemmParameters(launch_s=4e-6, matrix_fraction=0.8, dram_fraction=0.7, library=TileLibrary.CUBLAS_AMPERE)
PRIOR = replace(load_calibration(load_target("a100-sxm-80gb")).models["gemm", "bf16"], parameters=TRUE)


def gemms(size=400, noise=0.0, seed=0, **changes):
    generator = np.random.default_rng(seed)
    dims = {
        "m": np.exp(generator.uniform(0, np.log(8192), size)).round(),
        "n": 128.0 * generator.integers(1, 128, size),
        "k": 128.0 * generator.integers(1, 128, size),
        "copies": np.ones(size),
    }
    records = Records(
        family=Family.GEMM,
        device=A100.name,
        backend="made",
        version="1.0",
        kernel="gemm",
        precision=BF16,
        loop=BenchmarkLoop(),
        dims=dims,
        measured_s=np.ones(size),
        line=np.arange(size) + 1.0,
        source="made.csv",
        digest="0",
    )
    truth = parameters_time(records, A100, TRUE).total_s
    return replace(records, measured_s=truth * np.exp(noise * generator.standard_normal(size)), **changes)


def fitted(records, **options):
    fits, skipped = calibrate([records], A100, date="2026-11-23", **options)
    assert not skipped, skipped
    return fits["gemm", "bf16"]


def test_known_parameters_are_found():
    found = fitted(gemms())
    assert found.parameters.library is TileLibrary.CUBLAS_AMPERE
    assert found.parameters.launch_s == pytest.approx(4e-6, rel=0.05)
    assert found.parameters.matrix_fraction == pytest.approx(0.8, rel=0.02)
    assert found.parameters.dram_fraction == pytest.approx(0.7, rel=0.02)
    assert found.evidence.median_ape < 0.005


def test_outliers_do_not_bend_the_fit():
    clean = gemms(noise=0.02)
    spoiled = replace(clean, measured_s=np.where(np.arange(400) % 12 == 0, 3.0, 1.0) * clean.measured_s)
    assert fitted(spoiled).parameters.matrix_fraction == pytest.approx(0.8, rel=0.06)


def test_same_seed_same_fit_and_another_seed_another_half():
    records = gemms(size=120, noise=0.05)
    first = fitted(records, seed=1)
    assert first == fitted(records, seed=1)
    assert first.evidence.median_ape != fitted(records, seed=2).evidence.median_ape


def test_rows_faster_than_physics_are_counted_and_not_fitted():
    records = gemms()
    defective = replace(records, measured_s=np.where(np.arange(400) < 40, 1e-9, records.measured_s))
    found = fitted(defective)
    assert found.evidence.excluded_rows == 40
    assert found.parameters.matrix_fraction == pytest.approx(0.8, rel=0.05)


def test_band_covers_what_it_says_of_unseen_rows():
    found = fitted(gemms(size=3000, noise=0.05))
    assert 0.75 <= found.evidence.coverage <= 0.85
    assert found.band.low == pytest.approx(np.exp(-1.28 * 0.05), rel=0.02)


def test_how_a_calibration_was_made_is_part_of_its_evidence():
    records = gemms(size=80)
    known = fitted(records, fit_fraction=0.25, seed=7, like={("gemm", "bf16"): PRIOR}).evidence
    seen = split([records], A100, fit_fraction=0.25, seed=7).fitted
    assert (known.fit_fraction, known.seed, known.fitted_rows) == (0.25, 7, seen.size)
    assert known.ranges["copies"] == (1.0, 1.0)
    # Rows that judge bound the sizes too: there the errors are known.
    assert known.ranges["m"] == (records.dims["m"].min(), records.dims["m"].max())


@pytest.mark.parametrize("below", [False, True])
def test_what_extrapolation_costs_is_measured_by_leaving_one_end_of_the_sizes_out(below):
    # A quarter of the values of k takes 1.5 times as long: on that side of the others, and not on the other side.
    rows = gemms(size=240, noise=0.02)
    k = rows.dims["k"]
    slow = k <= 128.0 * 32 if below else k > 128.0 * 96
    rows = Rows((replace(rows, measured_s=np.where(slow, 1.5, 1.0) * rows.measured_s),))
    candidate = Candidate(TRUE, ("launch_s", "matrix_fraction", "dram_fraction"))
    found, other = (outside_ranges(rows, A100, candidate, TRUE, 0, below=end) for end in (below, not below))
    assert 1.3 < found["k"][0] < found["k"][1] == pytest.approx(1.5, rel=0.06)
    assert other["k"][1] < 1.3
    assert "copies" not in found  # one value tells nothing


def test_the_band_of_hardly_more_rows_than_parameters_is_not_that_of_the_fits_own_rows():
    option = Candidate(TRUE, ("launch_s", "matrix_fraction", "dram_fraction", "feed_byte_per_flop", "cache_fraction"))
    own, coverage = [], []
    for seed in range(4):
        rows, others = Rows((gemms(size=7, noise=0.1, seed=seed),)), Rows((gemms(size=100, noise=0.1, seed=9 + seed),))
        found = fit_rows(rows, A100, option).parameters
        inside = interval(ratio_of(rows, A100, found), 7)
        honest = interval(out_of_fold(rows, A100, option, found), 7)
        ratio = ratio_of(others, A100, found)
        for shares, (low, high) in ((own, inside), (coverage, honest)):
            shares.append(np.mean((low <= ratio) & (ratio <= high)))
    assert np.mean(own) < 0.7 < np.mean(coverage) < 0.95


def test_few_rows_of_a_relative_are_enough():
    prior = fitted(gemms())
    faster = replace(TRUE, launch_s=6e-6, matrix_fraction=0.9)
    other = gemms(size=60, seed=5)
    other = replace(other, measured_s=parameters_time(other, A100, faster).total_s)
    found = fitted(other, like={("gemm", "bf16"): prior})
    assert found.parameters.library is TileLibrary.CUBLAS_AMPERE
    assert found.evidence.median_ape < 0.03


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        (gemms(size=4), "rows"),
        (replace(gemms(), measured_s=np.full(400, 1e-12)), "faster than physics"),
        (replace(gemms(), dims={name: np.full(400, 256.0) for name in "mnk"} | {"copies": np.ones(400)}), "rows"),
    ],
)
def test_what_cannot_be_fitted_is_skipped_with_its_reason(records, reason):
    fits, skipped = calibrate([records], A100, date="2026-11-23")
    assert not fits and reason in skipped[0].reason


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1.0, float("nan")])
def test_fit_fraction_out_of_range(fraction):
    with pytest.raises(RooflineError, match="fit-fraction"):
        calibrate([gemms()], A100, date="2026-11-23", fit_fraction=fraction)


def test_newest_release_of_the_asked_backend_is_taken():
    groups = [gemms(size=20, version=v, backend=b) for b, v in (("x", "0.9"), ("x", "0.14"), ("y", "2"))]
    chosen = grouped(groups, "x")[key_of(groups[0])]
    assert {(group.backend, group.version) for group in chosen} == {("x", "0.14")}
    assert {group.backend for group in grouped(groups, None)[key_of(groups[0])]} == {"x"}
