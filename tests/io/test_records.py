"""Records: usable rows are kept, others refused with the reason; repeats collapse to medians. Own files round-trip."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofline.errors import RooflineError
from roofline.io.datasets import own, read
from roofline.io.records import DIMENSIONS, Family, Precision, Records, checked, collapse
from roofline.structs import Dtype
from roofline.timing.loop import BenchmarkLoop

BF16 = Precision("bf16", Dtype.BF16, Dtype.BF16, Dtype.BF16)


def gemm_records(m: list[float], measured_s: list[float]) -> Records:
    """GEMM records that differ in m."""
    one = np.ones(len(m))
    return Records(
        family=Family.GEMM,
        device="h100-sxm",
        backend="vllm",
        version="1",
        kernel="gemm",
        precision=BF16,
        loop=BenchmarkLoop(),
        dims={"m": np.array(m), "n": 64.0 * one, "k": 64.0 * one, "copies": one},
        measured_s=np.array(measured_s),
        line=np.arange(1.0, len(m) + 1.0),
        source="a/b.csv",
        digest="0",
    )


def test_every_family_has_dimensions():
    assert set(DIMENSIONS) == set(Family)


def test_unusable_rows_are_refused_with_reason_and_place():
    records, refused = checked(gemm_records([1, 2, 3, 0, np.nan, 6], [1e-6, 0.0, -1.0, 1e-6, 1e-6, np.nan]))
    assert records.dims["m"].tolist() == [1.0]
    assert {(entry.reason, entry.n, entry.example) for entry in refused} == {
        ("the time is missing or not a number", 1, "a/b.csv:6 gemm"),
        ("the time is zero or negative", 2, "a/b.csv:2 gemm"),
        ("m is missing or not a number", 1, "a/b.csv:5 gemm"),
        ("m is not a size", 1, "a/b.csv:4 gemm"),
    }


def test_zero_is_a_context_but_not_a_batch():
    names = DIMENSIONS[Family.DECODE_ATTENTION]
    base = gemm_records([1, 2], [1e-6, 1e-6])
    dims = {name: np.array([4.0, 4.0]) for name in names}
    records = replace(base, family=Family.DECODE_ATTENTION, dims={**dims, "context": np.zeros(2)})
    assert checked(records)[0].size == 2
    with_empty = replace(records, dims={**records.dims, "sequences": np.array([0.0, 1.0])})
    assert checked(with_empty)[0].size == 1


@pytest.mark.parametrize("change", [{"q": np.ones(2)}, None])
def test_missing_or_unknown_dimensions_are_an_error(change: dict[str, np.ndarray] | None):
    records = gemm_records([1, 2], [1e-6, 1e-6])
    dims = {**records.dims, **change} if change else {"m": records.dims["m"]}
    with pytest.raises(RooflineError, match="copies"):
        checked(replace(records, dims=dims))


def test_collapse_by_hand():
    collapsed, noise = collapse(gemm_records([8, 4, 8, 4, 8, 2], [3.0, 10.0, 1.0, 11.0, 2.0, 7.0]))
    assert collapsed.dims["m"].tolist() == [8.0, 4.0, 2.0]  # in order of first appearance
    assert collapsed.measured_s.tolist() == [2.0, 10.5, 7.0]
    assert collapsed.line.tolist() == [1.0, 2.0, 6.0]
    # neighbours of one shape, in file order: |1/3 - 1|, |2/1 - 1| for m = 8 and |11/10 - 1| for m = 4
    assert noise.pairs == 3
    assert noise.median == pytest.approx(2.0 / 3.0)
    assert noise.mean == pytest.approx((2.0 / 3.0 + 1.0 + 0.1) / 3.0)


def test_collapse_without_repeats_has_no_noise():
    collapsed, noise = collapse(gemm_records([1, 2], [1e-6, 2e-6]))
    assert collapsed.size == 2 and noise.pairs == 0 and np.isnan(noise.median)


@given(st.lists(st.tuples(st.integers(1, 4), st.floats(1e-6, 1.0)), min_size=1, max_size=30))
def test_collapse_is_the_median_of_each_shape(rows: list[tuple[int, float]]):
    collapsed, _ = collapse(gemm_records([float(m) for m, _ in rows], [time for _, time in rows]))
    for m, measured in zip(collapsed.dims["m"], collapsed.measured_s, strict=True):
        assert measured == pytest.approx(np.median([time for other, time in rows if other == m]))


def test_take_keeps_what_a_loop_says_of_each_row_with_it():
    loop = BenchmarkLoop(np.array([5.0, 6.0, 7.0]), aged_byte=np.array([1.0, 2.0, 3.0]), aged_share=0.5)
    taken = replace(gemm_records([1, 2, 3], [1, 2, 3]), loop=loop).take(np.array([2, 0])).loop
    assert np.asarray(taken.operand_copies).tolist() == [7.0, 5.0]
    assert np.asarray(taken.aged_byte).tolist() == [3.0, 1.0] and taken.aged_share == 0.5


ENVIRONMENT = own.Environment(
    machine_id="m1",
    device="host",
    cpu_model="CPU",
    core_count=2,
    cache_byte={"L1d": 32768.0},
    library_version={"numpy": "2.0"},
    blas="openblas",
    governor=None,
    load=0.5,
    thread_count=2,
    affinity=(0, 1),
    date="2026-01-01T00:00:00+00:00",
)
MEASUREMENT = own.Measurement(
    family="gemm",
    step="up_proj",
    backend="numpy",
    activation=Dtype.FP32,
    weight=Dtype.FP32,
    cache=Dtype.FP32,
    dims={"m": 1.0, "n": 64.0, "k": 64.0, "copies": 1.0},
    operand_copies=None,
    launch_floor_s=0.0,
    samples_s=(2e-6, 1e-6, 3e-6),
    median_s=2e-6,
    low_s=1e-6,
    high_s=3e-6,
)


def own_file(*records: own.Measurement) -> own.RecordFile:
    return own.RecordFile(own.SCHEMA, ENVIRONMENT, records)


def test_own_records_round_trip(tmp_path: Path):
    warm = replace(MEASUREMENT, operand_copies=1.0, step="q_proj")
    file = own_file(MEASUREMENT, warm, replace(MEASUREMENT, dims={"m": 8.0, "n": 64.0, "k": 64.0, "copies": 1.0}))
    own.write(tmp_path / "run.json", file)
    assert own.load(tmp_path / "run.json") == file
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]  # no temporary file left
    records, refused = read(tmp_path)
    assert not refused
    assert {(group.kernel, group.size, group.loop.operand_copies) for group in records} == {
        ("up_proj", 2, np.inf),
        ("q_proj", 1, 1.0),
    }
    first = next(group for group in records if group.kernel == "up_proj")
    assert (first.device, first.backend, first.version, first.precision.label) == ("host", "numpy", "2.0", "fp32")
    assert first.measured_s.tolist() == pytest.approx([1.4e-6, 1.4e-6])  # the fast side: 20th percentile of 1, 2, 3
    assert first.line.tolist() == [1.0, 3.0]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"family": "gemn"}, "did you mean 'gemm'"),
        ({"dims": {"m": 1.0}}, "needs the dimensions m, n, k, copies"),
        ({"samples_s": (1e-6, 0.0, 2e-6)}, "zero, negative"),
        ({"samples_s": ()}, "missing"),
        ({"median_s": -1.0}, "negative"),
        ({"median_s": 9e-6}, "not the median"),
        ({"dims": {"m": 0.0, "n": 1.0, "k": 1.0, "copies": 1.0}}, "m is not a size"),
    ],
)
def test_bad_own_rows_are_refused_not_guessed(tmp_path: Path, change: dict[str, object], reason: str):
    own.write(tmp_path / "run.json", own_file(MEASUREMENT, replace(MEASUREMENT, **change)))  # type: ignore[arg-type]
    records, refused = read(tmp_path)
    assert sum(group.size for group in records) == 1
    assert [entry.n for entry in refused] == [1] and reason in refused[0].reason


def test_not_a_number_in_own_records_is_refused(tmp_path: Path):
    text = json.dumps(asdict(own_file(MEASUREMENT, MEASUREMENT)))
    (tmp_path / "run.json").write_text(text.replace("3e-06]", "NaN]", 1))
    assert "not a number" in read(tmp_path)[1][0].reason


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda text: text[: len(text) // 2], "cut off"),
        (lambda text: text.replace("records/1", "records/2"), "Accepted: 'roofline.records/1'"),
        (lambda text: text.replace('"core_count": 2', '"core_count": "two"'), "environment.core_count"),
        (lambda text: text.replace('"load": 0.5,', ""), "environment.load"),
        (lambda text: text.replace('"load": 0.5', '"load": 0.5, "surprise": 1'), "surprise"),
        (lambda text: text.replace('"fp32"', '"fp31"', 1), "activation"),
    ],
)
def test_broken_own_files_are_errors_that_name_the_place(tmp_path: Path, edit, message: str):
    own.write(tmp_path / "run.json", own_file(MEASUREMENT))
    text = (tmp_path / "run.json").read_text()
    assert edit(text) != text
    (tmp_path / "run.json").write_text(edit(text))
    with pytest.raises(RooflineError, match=message):
        read(tmp_path)


def test_two_machines_are_not_mixed(tmp_path: Path):
    own.write(tmp_path / "a.json", own_file(MEASUREMENT))
    other = replace(ENVIRONMENT, machine_id="m2")
    own.write(tmp_path / "b.json", replace(own_file(MEASUREMENT), environment=other))
    with pytest.raises(RooflineError, match="two machines are mixed"):
        read(tmp_path)


def test_a_folder_that_is_not_there_cannot_be_written(tmp_path: Path):
    with pytest.raises(RooflineError, match="cannot write"):
        own.write(tmp_path / "missing" / "run.json", own_file(MEASUREMENT))


def test_a_folder_without_permission_cannot_be_written():
    with pytest.raises(RooflineError, match="cannot write"):
        own.write(Path("/proc/run.json"), own_file(MEASUREMENT))  # not even root may create a file there
