"""`roofline validate` as its user sees it: screen, JSON, CSV, page, exit codes, and what bad input is answered with."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from roofline.calibrate.models import record_time
from roofline.cli.app import run
from roofline.io.calibration import load_calibration
from roofline.io.datasets import own, read
from roofline.io.profiles import load_target
from roofline.structs import Dtype
from roofline.validate.record import ROW_FIELDS

ENVIRONMENT = own.Environment(
    machine_id="one",
    device="a100-sxm-80gb",
    cpu_model="a CPU",
    core_count=2,
    cache_byte={"L1d": 32768.0},
    library_version={"vllm": "0.14.0"},
    blas="none",
    governor=None,
    load=0.1,
    thread_count=2,
    affinity=(0, 1),
    date="2026-11-23",
)


def gemm(m: float, time_s: float = 1.0, **changes: Any) -> own.Measurement:
    made = own.Measurement(
        family="gemm",
        step="o_proj",
        backend="vllm",
        activation=Dtype.BF16,
        weight=Dtype.BF16,
        cache=Dtype.BF16,
        dims={"m": m, "n": 4096.0, "k": 4096.0, "copies": 1.0},
        operand_copies=None,
        launch_floor_s=0.0,
        samples_s=(time_s,),
        median_s=time_s,
        low_s=time_s,
        high_s=time_s,
    )
    return replace(made, **changes)


def write(path: Path, *measurements: own.Measurement, **changes: Any) -> Path:
    own.write(path, own.RecordFile(own.SCHEMA, replace(ENVIRONMENT, **changes), measurements))
    return path


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """Six shapes that took exactly what is predicted, one that took twice as long, one faster than physics."""
    sizes = [2.0**i for i in range(1, 9)]
    path = write(tmp_path / "run.json", *(gemm(m) for m in sizes))
    target = load_target("a100-sxm-80gb")
    times = record_time(read(path)[0][0], target.device, load_calibration(target))[0].total_s.tolist()
    times[6], times[7] = 2.0 * times[6], 1e-9
    return write(path, *(gemm(m, time) for m, time in zip(sizes, times, strict=True)))


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]):
    def call(*arguments: object) -> tuple[int, str, str]:
        status = run([str(argument) for argument in ("validate", *arguments)])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return status, out, err

    return call


def test_screen_is_short_and_says_what_was_left_out(command, records: Path):
    status, out, err = command(records)
    assert status == 0 and err == "" and len(out.splitlines()) < 30
    assert "7 rows on a100-sxm-80gb" in out and "bare roofline" in out and "gemm" in out
    assert "1 faster than the physical limit" in out
    detailed = command(records, "--detail")[1]
    assert "memory" in detailed and "does time follow" in detailed


def test_json_has_the_promised_shape_and_figures(command, records: Path):
    status, out, _ = command(records, "--json")
    record = json.loads(out)
    assert status == 0 and record["schema"] == "roofline.validation/1"
    assert {"groups", "excluded", "overall"} <= record.keys()
    assert record["overall"]["n"] == 7
    assert record["overall"]["mape"] == pytest.approx(0.5 / 7)  # six are right, one took twice the prediction
    assert record["overall"]["coverage"] == pytest.approx(6 / 7)
    assert record["excluded"] == [{"reason": "faster than the physical limit", "n": 1}]
    doubled = {entry["dimension"]: entry for entry in record["bound_agreement"]}
    assert doubled["m"]["pairs"] == 6  # m doubles seven times, once into the row that is faster than physics


def test_rows_file_has_a_line_for_each_record(command, records: Path, tmp_path: Path):
    status, _, err = command(records, "--rows", tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert status == 0 and "wrote" in err
    assert tuple(rows[0]) == ROW_FIELDS and len(rows) == 8
    assert [row["excluded"] for row in rows] == ["false"] * 7 + ["true"]
    assert rows[7]["reason"] == "faster than the physical limit"


def test_directory_and_file_give_the_same_figures(command, records: Path):
    of_file, of_folder = (json.loads(command(path, "--json")[1]) for path in (records, records.parent))
    assert of_file["overall"] == of_folder["overall"]


def test_page_is_written_and_is_the_rendering_of_the_record(command, records: Path, tmp_path: Path):
    from roofline.report.pages import render

    status, out, _ = command(records, "--json", "--html", tmp_path / "page.html")
    assert status == 0
    assert (tmp_path / "page.html").read_text("utf-8") == render(json.loads(out))


def test_unseen_of_records_that_no_calibration_saw_are_all_of_them(command, records: Path):
    status, out, _ = command(records, "--unseen")
    assert status == 0 and "7 rows that the calibration did not see" in out and "calibrated on other files" in out


def test_rows_of_another_device_are_refused_unless_forced(command, records: Path):
    status, out, err = command(records, "--device", "h100-sxm")
    assert status == 2 and out == "" and "no rows of h100-sxm; it has a100-sxm-80gb" in err and "--force" in err
    status, out, _ = command(records, "--device", "h100-sxm", "--force")
    assert status == 0 and "on h100-sxm" in out
    status, _, err = command(records, "--force")
    assert status == 2 and "--device" in err


def test_rows_of_several_devices_are_each_predicted_by_their_own_profile(command, records: Path):
    write(records.parent / "other.json", gemm(64.0), machine_id="one", device="h100-sxm")
    record = json.loads(command(records.parent, "--json")[1])
    assert {group["device"] for group in record["groups"]} == {"a100-sxm-80gb", "h100-sxm"}
    one = json.loads(command(records.parent, "--device", "h100-sxm", "--json")[1])
    assert one["overall"]["n"] == 1 and {"reason": "measured on a100-sxm-80gb", "n": 8} in one["excluded"]


def test_records_of_an_unknown_device_ask_for_a_profile(command, tmp_path: Path):
    status, _, err = command(write(tmp_path / "run.json", gemm(64.0), device="h100-sxx"))
    assert status == 2 and "h100-sxm" in err and "--device" in err


def test_all_rows_excluded_is_exit_1_with_the_reason(command, tmp_path: Path):
    path = write(tmp_path / "run.json", gemm(64.0, 1e-12), gemm(128.0, 1e-12))
    status, out, err = command(path)
    assert status == 1 and "2 faster than the physical limit" in out and "nothing to compare" in err
    status, out, _ = command(path, "--json", "--html", tmp_path / "page.html")
    assert status == 1 and json.loads(out)["overall"]["n"] == 0 and (tmp_path / "page.html").stat().st_size > 0


def test_times_that_are_no_times_are_refused_and_counted(command, records: Path):
    held = json.loads(records.read_text())
    for entry, time in zip(held["records"], (0.0, -1.0), strict=False):
        entry.update(samples_s=[time], median_s=time, low_s=time, high_s=time)
    records.write_text(json.dumps(held))
    status, out, _ = command(records)
    assert status == 0 and "5 rows on" in out and "2 a time is missing, zero, negative or not a number" in out


def test_unknown_steps_and_families_are_refused_and_counted(command, records: Path):
    held = json.loads(records.read_text())
    held["records"][0]["family"] = "gem"
    records.write_text(json.dumps(held))
    status, out, _ = command(records)
    assert status == 0 and "unknown family 'gem'; did you mean 'gemm'?" in " ".join(out.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{missing}"], "does not exist"),
        (["{empty}"], "no usable record"),
        (["{records}", "--device", "h100-sxmm"], "Did you mean"),
        (["{records}", "--backend", "sglang"], "no record is of 'sglang'. The records have: vllm"),
        (["{records}", "--unseen", "--fit-fraction", "1"], "fit-fraction"),
        (["{records}", "--rows", "{missing}/rows.csv"], "cannot write"),
        (["{records}", "--html", "{empty}"], "it is a folder"),
        (["{other_schema}"], "schema"),
        (["{cut_off}"], "cut off"),
        (["{two_machines}"], "two machines are mixed"),
        (["{layer}"], "nothing to compare"),
    ],
)
def test_mistakes_are_named_with_what_to_do(command, records: Path, tmp_path: Path, arguments: list[str], said: str):
    places = {name: tmp_path / "more" / name for name in ("missing", "empty", "two_machines")}
    for name in ("empty", "two_machines"):
        places[name].mkdir(parents=True)
    files = {name: tmp_path / f"{name}.json" for name in ("other_schema", "cut_off", "layer")}
    files["other_schema"].write_text(records.read_text().replace("records/1", "records/9"))
    files["cut_off"].write_text(records.read_text()[:-500])
    step = {"sequences": 1.0, "new_token": 1.0, "context": 9.0}
    write(files["layer"], gemm(1.0, family="layer", step="layer", dims=step))
    write(places["two_machines"] / "a.json", gemm(64.0))
    write(places["two_machines"] / "b.json", gemm(64.0), machine_id="two")
    given = [argument.format(records=records, **places, **files) for argument in arguments]
    status, out, err = command(*given)
    assert status in (1, 2) and said in " ".join((out + err).split())


def test_text_from_files_is_shown_as_text(command, tmp_path: Path):
    hostile = "[red]x</script><img src=x onerror=alert(1)>\x07"
    times = [gemm(2.0**i, 1e-3, backend=hostile) for i in range(4)]
    path = write(tmp_path / "run.json", *times)
    status, out, _ = command(path, "--backend", hostile, "--html", tmp_path / "page.html")
    assert status == 0 and "\x07" not in out
    (row,) = (line for line in out.splitlines() if line.startswith("│ gemm"))
    assert "[red]x</script>" in row
    assert "<img src=x" not in (tmp_path / "page.html").read_text("utf-8")


def test_help_explains_every_option(command):
    status, out, _ = command("--help")
    assert status == 0
    for option in ("--device", "--backend", "--unseen", "--fit-fraction", "--seed", "--force", "--rows", "--html"):
        assert option in out
