"""Records beside predictions: what is compared, what is left out and why; nothing is dropped in silence."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest

from roofline.calibrate.run import calibrate
from roofline.errors import RooflineError
from roofline.io.calibration import calibration_of, load_calibration, uncalibrated
from roofline.io.datasets import read
from roofline.io.profiles import load_target
from roofline.io.records import DIMENSIONS, Family, Refused
from roofline.timing import Band
from roofline.timing.loop import BenchmarkLoop
from roofline.validate.pair import FASTER_THAN_PHYSICS, pair
from roofline.validate.placed import ROWS, placed_rows
from roofline.validate.record import EXAMPLES, POINTS, ROW_FIELDS, rows_csv, validation_record
from roofline.validate.run import validate
from roofline.validate.select import EAGER, REPEATED, SEEN, UNKNOWN, Unseen
from roofline.validate.statistics import error_statistics, rows_of

from .made import gemms, measured, paired

TARGET = load_target("a100-sxm-80gb")
A100, CALIBRATION = TARGET.device, load_calibration(TARGET)
PREDICTORS = {A100.name: (A100, CALIBRATION)}
HALF = Unseen(0.5, 0)


def made(size: int = 200, noise: float = 0.05, **changes):
    return replace(measured(gemms(size), A100, CALIBRATION, noise), **changes)


def left_out(validation) -> dict[str, int]:
    found: dict[str, int] = {}
    for entry in validation.selection.left_out:
        found[entry.reason] = found.get(entry.reason, 0) + entry.records.size
    return found


def test_predictions_of_themselves_are_right_and_lie_in_their_band():
    (found,) = validate([made(noise=0.0)], PREDICTORS).pairs
    errors = error_statistics(rows_of([found]))
    assert errors.mape == pytest.approx(0.0, abs=1e-12) and errors.coverage == 1.0
    assert np.all(found.roofline_s <= found.low_s) and np.all(found.low_s <= found.high_s)


def test_rows_faster_than_physics_are_marked_at_two_percent_below_the_limit():
    limit = pair(made(), A100, CALIBRATION).roofline_s
    found = pair(replace(made(), measured_s=limit * np.where(np.arange(200) < 30, 0.97, 0.99)), A100, CALIBRATION)
    assert found.excluded.sum() == 30 and found.excluded[:30].all()


def test_a_band_ends_at_the_physical_limit():
    wide = replace(CALIBRATION, models={}, bands=dict.fromkeys(CALIBRATION.bands, Band(0.01, 2.0, "made")))
    found = pair(made(), A100, wide)
    assert np.array_equal(found.low_s, found.roofline_s) and np.array_equal(found.high_s, 2.0 * found.predicted_s)


def test_a_cache_may_be_faster_than_memory_where_the_loop_is_warm_and_no_fit_says_how():
    one = gemms(
        1, dims={name: np.array([value]) for name, value in (("m", 1.0), ("n", 1024.0), ("k", 1024.0), ("copies", 1.0))}
    )
    streamed_s = 1024.0 * 1024.0 * 2.0 / A100.dram.bandwidth_byte_per_s
    for loop, excluded in ((BenchmarkLoop(operand_copies=1.0), False), (BenchmarkLoop(), True)):
        row = replace(one, loop=loop, measured_s=np.array([0.5 * streamed_s]))
        assert pair(row, A100, uncalibrated()).excluded[0] == excluded


def test_a_fit_is_judged_by_the_library_it_was_made_of_unless_another_is_asked_for():
    other = made(backend="sglang", version="3")
    found = validate([made(), other], PREDICTORS)
    assert {pair.records.backend for pair in found.pairs} == {"vllm"}
    assert left_out(found) == {"of sglang, where vllm is compared": 200}
    asked = validate([made(), other], PREDICTORS, backend="sglang")
    assert {pair.records.backend for pair in asked.pairs} == {"sglang"}
    assert any("fitted to vllm, compared with sglang" in notice for notice in asked.selection.notices)
    with pytest.raises(RooflineError, match="vllm"):
        validate([made()], PREDICTORS, backend="nothing")


def test_without_a_fit_every_library_is_compared():
    bare = {A100.name: (A100, uncalibrated())}
    found = validate([made(), made(backend="sglang")], bare)
    assert {pair.records.backend for pair in found.pairs} == {"vllm", "sglang"} and not found.selection.left_out


def test_older_releases_and_eager_loops_are_left_out_with_the_reason():
    old, eager = made(version="8"), made(loop=BenchmarkLoop(launch_floor_s=1e-5))
    assert left_out(validate([old, eager, made()], PREDICTORS)) == {"of vllm 8, where 9 is compared": 200, EAGER: 200}


def test_repeats_are_compared_by_their_median_and_counted():
    once = made(10, noise=0.0)
    thrice = replace(
        once.take(np.repeat(np.arange(10), 3)),
        measured_s=np.repeat(once.measured_s, 3) * np.tile([1.0, 1.1, 5.0], 10),
        line=np.arange(30) + 1.0,
    )
    found = validate([thrice], PREDICTORS)
    assert left_out(found) == {REPEATED: 20}
    assert found.pairs[0].measured_s == pytest.approx(1.1 * once.measured_s)
    (family,) = validation_record(found, PREDICTORS)["families"]
    assert family["repeats"] == 20 and family["repeat_median_ape"] > 0.0


def test_another_device_and_a_kernel_without_a_model_are_left_out_with_the_reason():
    found = validate([made(), gemms(7, device="unheard-of")], PREDICTORS)
    assert left_out(found) == {"measured on unheard-of": 7}
    shapes = {name: np.arange(5) + 1.0 for name in DIMENSIONS[Family.MIXED_ATTENTION]}
    mixed = gemms(5, family=Family.MIXED_ATTENTION, dims=shapes)
    (entry,) = validate([mixed], PREDICTORS).selection.left_out
    assert "no calibration for mixed_attention" in entry.reason and entry.records.size == 5


@pytest.fixture(scope="module")
def fitted():
    """Noisy records, some of them faster than physics, and a calibration made of half of them."""
    records = made(600, noise=0.1)
    records = replace(records, measured_s=np.where(np.arange(600) < 20, 1e-10, records.measured_s))
    fits, _ = calibrate([records], A100, date="2026-11-23")
    return records, {A100.name: (A100, replace(CALIBRATION, models=fits))}, fits["gemm", "bf16"].evidence


def test_unseen_rows_are_those_that_the_calibration_judged_itself_by(fitted):
    records, predictors, evidence = fitted
    found = validate([records], predictors, unseen=HALF)
    errors = error_statistics(rows_of(found.pairs))
    assert errors.n == evidence.unseen_rows == 290
    for name in ("median_ape", "mape", "p90_ape", "bias", "coverage", "roofline_median_ape"):
        assert getattr(errors, name) == pytest.approx(getattr(evidence, name), rel=1e-12)
    assert left_out(found) == {SEEN: 290} and sum(pair.excluded.sum() for pair in found.pairs) == 20


def test_another_fraction_than_the_calibration_s_leaves_the_family_out(fitted):
    records, predictors, _ = fitted
    found = validate([records], predictors, unseen=Unseen(0.6, 0))
    assert not found.pairs and left_out(found) == {UNKNOWN: 600}
    with pytest.raises(RooflineError, match="fit-fraction"):
        validate([records], predictors, unseen=Unseen(1.0, 0))


def test_records_of_other_files_are_all_unseen(fitted):
    records, predictors, _ = fitted
    found = validate([replace(records, digest="1")], predictors, unseen=HALF)
    assert not found.selection.left_out and "other files" in found.selection.notices[0]


def test_unseen_figures_of_shipped_profiles_are_the_ones_they_state(data_folder):
    records, _ = read(data_folder / "aiconfigurator")
    found = validate([group for group in records if group.device == A100.name], PREDICTORS, unseen=HALF)
    own = calibration_of(TARGET.calibration, A100.name).models["gemm", "bf16"].evidence
    rows = rows_of(
        pair for pair in found.pairs if (pair.records.family, pair.records.precision.label) == ("gemm", "bf16")
    )
    errors = error_statistics(rows)
    assert errors.n == own.unseen_rows
    assert errors.median_ape == pytest.approx(own.median_ape, rel=1e-3)
    assert errors.coverage == pytest.approx(own.coverage, rel=1e-3)


@pytest.fixture(scope="module")
def validation(fitted):
    records, predictors, _ = fitted
    again = replace(records.take(np.arange(100)), line=np.arange(100) + 1001.0)
    return validate([records, made(40, backend="sglang"), again, gemms(3, device="other")], predictors)


def test_every_record_is_compared_or_counted_with_a_reason(validation):
    refused = (Refused("the time is zero or negative", 4, "x:1"), Refused("the time is zero or negative", 1, "y:1"))
    record = validation_record(validation, PREDICTORS, refused=refused)
    assert record["overall"]["n"] + sum(entry["n"] for entry in record["excluded"]) == 600 + 40 + 100 + 3 + 5
    assert {"reason": "the time is zero or negative", "n": 5} in record["excluded"]
    assert sum(entry["n"] for entry in record["groups"]) == record["overall"]["n"]
    assert sum(entry["n"] for entry in record["families"]) == record["overall"]["n"]
    rows = list(csv.DictReader(io.StringIO(rows_csv(validation))))
    assert len(rows) == 600 + 40 + 100 + 3
    assert sum(row["excluded"] == "false" for row in rows) == record["overall"]["n"]
    assert all((row["reason"] == "") == (row["excluded"] == "false") for row in rows)


def test_record_has_the_promised_keys_and_is_strict_json(validation):
    record = validation_record(validation, PREDICTORS, command="roofline validate")
    assert record["schema"] == "roofline.validation/1"
    promised = {"family", "dtype", "regime", "n", "median_ape", "mape", "p90_ape", "bias", "coverage"}
    assert all(promised | {"roofline_median_ape"} <= group.keys() for group in record["groups"])
    assert all(entry.keys() == {"reason", "n"} for entry in record["excluded"])
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_rows_faster_than_physics_are_named(validation):
    record = validation_record(validation, PREDICTORS)
    assert {"reason": FASTER_THAN_PHYSICS, "n": 40} in record["excluded"]
    named = record["faster_than_physics"]
    assert len(named) == EXAMPLES and named[0]["key"] == "made.json:1 gemm"
    assert all(entry["measured_s"] < entry["roofline_s"] for entry in named)


def test_points_are_few_and_the_same_every_time():
    many = validate([made(POINTS + 500)], PREDICTORS)
    (points,) = validation_record(many, PREDICTORS)["points"]
    assert len(points["measured_s"]) == len(points["line"]) == len(points["source"]) == POINTS
    assert points["line"][0] == 1 and points["line"][-1] == POINTS + 500
    assert validation_record(many, PREDICTORS) == validation_record(many, PREDICTORS)


def test_rows_file_has_the_stated_columns_and_unrounded_seconds(validation):
    lines = rows_csv(validation).splitlines()
    assert lines[0] == "key,measured_s,predicted_s,low_s,high_s,roofline_s,excluded,reason" == ",".join(ROW_FIELDS)
    row = next(csv.DictReader(io.StringIO(rows_csv(validation))))
    first = validation.pairs[0]
    assert float(row["predicted_s"]) == first.predicted_s[0] and float(row["measured_s"]) == first.measured_s[0]
    assert row["key"] == "made.json:1 gemm"


def test_nothing_left_to_compare_is_a_record_too():
    nothing = validate([gemms(3, device="other")], PREDICTORS)
    record = validation_record(nothing, PREDICTORS)
    assert record["overall"] == {"n": 0, "bound_agreement": None} and record["groups"] == []


def test_rows_are_placed_by_what_the_shape_computes_and_moves():
    """2·m·n·k FLOP over 2 bytes of each operand and of the result, by hand; half the time is twice the rate."""
    dims = {name: np.array([size]) for name, size in (("m", 64.0), ("n", 128.0), ("k", 256.0), ("copies", 1.0))}
    placed = placed_rows([paired([1e-3], [2e-3], dims=dims)])
    flop, byte = 2 * 64 * 128 * 256, 2 * (64 * 256 + 256 * 128 + 64 * 128)
    assert (placed["flop"], placed["memory_byte"]) == ([float(f"{flop:.4g}")], [float(f"{byte:.4g}")])
    assert placed["intensity_flop_per_byte"] == [float(f"{flop / byte:.4g}")]
    assert placed["measured_flop_per_s"][0] == 2 * placed["predicted_flop_per_s"][0] == float(f"{flop / 1e-3:.4g}")


def test_rows_faster_than_physics_and_families_without_flop_are_not_placed():
    assert placed_rows([paired([1.0, 1.0], [1.0, 1.0], excluded=[True, True])]) is None
    assert len(placed_rows([paired(np.ones(500), np.ones(500), excluded=np.arange(500) < 10)])["flop"]) == ROWS
    norm = replace(gemms(3), family=Family.NORM, dims={name: np.ones(3) for name in ("row", "read_byte", "write_byte")})
    assert placed_rows([replace(paired(np.ones(3), np.ones(3)), records=norm)]) is None
