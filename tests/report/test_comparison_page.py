"""Comparisons: one record for devices on the same work, and its page; lists of predictions too."""

import csv
import io
import json
from typing import Any

import pytest

import roofline
from roofline.errors import RooflineError
from roofline.report.comparison_figures import times
from roofline.report.comparison_page import findings
from roofline.report.comparison_record import KEY_FIELDS, comparison_csv, comparison_record
from roofline.report.pages import render
from roofline.report.record import prediction_record
from roofline.sweep import batch_curve

from .test_html import Page

DEVICES = ("a100-sxm-80gb", "h100-sxm", "fpga-u50", "h100-sxm:3")


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    found = roofline.compare("llama-3.1-8b", DEVICES, batch=16)
    predictions = [
        entry.prediction and prediction_record(entry.prediction, batch_curve=batch_curve(entry.prediction))
        for entry in found
    ]
    return json.loads(json.dumps(comparison_record(found, predictions, "roofline compare llama-3.1-8b ..")))


def test_every_device_that_was_asked_for_is_there_with_a_prediction_or_a_reason(record: dict[str, Any]) -> None:
    assert [device["asked"] for device in record["devices"]] == list(DEVICES)
    a100, h100, fpga, three = record["devices"]
    assert a100["reason"] is None and h100["reason"] is None
    assert fpga["fits"] is False and fpga["reason"].startswith("does not fit: needs") and fpga["prediction"]
    assert three["prediction"] is None and "3" in three["reason"]  # 8 KV heads over 3 devices


def test_a_device_in_a_comparison_has_the_figures_of_its_own_prediction(record: dict[str, Any]) -> None:
    alone = roofline.predict("llama-3.1-8b", "h100-sxm", batch=16)
    device = record["devices"][1]
    assert device["tpot_s"] == alone.tpot_s and device["ttft_s"] == alone.ttft_s
    assert (device["tpot_low_s"], device["tpot_high_s"]) == alone.tpot_band_s
    assert device["usd_per_mtok_output"] == roofline.prediction_record(alone)["usd_per_mtok_output"]
    assert device["prediction"]["phases"]["decode"]["total_s"] == alone.decode.total_s


def test_csv_has_a_line_for_each_device_with_the_figures_to_the_last_bit(record: dict[str, Any]) -> None:
    rows = list(csv.DictReader(io.StringIO(comparison_csv(record))))
    assert list(rows[0]) == list(KEY_FIELDS) and len(rows) == len(DEVICES)
    assert float(rows[0]["tpot_s"]) == record["devices"][0]["tpot_s"]
    assert rows[3]["tpot_s"] == ""


def test_mistakes_are_named() -> None:
    for devices, named in (
        (["h100-sxm", "h100-sxm"], "twice"),
        ([], "0 were given"),
        (["h100-sxm", "h1000"], "h1000"),
        (["h100-sxm:3", "h100-sxm:5"], "3"),  # none can: the first one's reason
        ([f"h100-sxm:{n}" for n in range(1, 70)], "69 were given"),
    ):
        with pytest.raises(RooflineError, match=named):
            roofline.compare("llama-3.1-8b", devices)


ROW = {"fits": True, "tpot_s": 0.01, "tpot_low_s": 0.009, "tpot_high_s": 0.012, "label": "a"}


def test_findings_name_the_best_how_far_ahead_it_is_and_whether_that_is_certain() -> None:
    second = {**ROW, "label": "b", "tpot_s": 0.015, "tpot_low_s": 0.013, "tpot_high_s": 0.02}
    (told,) = findings([second, ROW])
    assert told == "The next token comes soonest from a: 10 ms TPOT (9 ms to 12 ms), 1.5 times ahead of b."
    assert "10 ms TPOT (9 ms to 12 ms, memory-bound)." in findings([{**ROW, "decode_bound": "memory"}])[0]
    assert "bands overlap" in findings([{**second, "tpot_low_s": 0.011}, ROW])[0]
    assert findings([{**ROW, "fits": False}]) == []  # what does not fit is in no running
    assert "a: 10 ms" in findings([ROW, {**second, "tpot_s": 0.001, "fits": False}])[0]


def test_the_page_says_who_is_best_first_and_shows_every_device(record: dict[str, Any]) -> None:
    text = render(record)
    page = Page(text)
    shown = " ".join(page.shown.split())
    assert shown.index("The next token comes soonest from h100-sxm") < shown.index("Times with their bands")
    for device in record["devices"]:
        assert device["asked"] in shown and (device["reason"] or "") in shown
    assert page.json("record") == record and render(page.json("record")) == text
    assert len(text.encode()) < 6_000_000
    figures = page.json("figures")
    assert {f"roofline-{i}" for i in range(3)} <= set(figures) and "roofline-3" not in figures
    assert figures["roofline-0"]["layout"]["xaxis"]["range"] == figures["roofline-2"]["layout"]["xaxis"]["range"]
    tpot = figures["tpot-plot"]["data"][1]
    assert tpot["x"] == [device["tpot_s"] for device in record["devices"][:3]]
    assert tpot["error_x"]["array"][0] == pytest.approx(
        record["devices"][0]["tpot_high_s"] - record["devices"][0]["tpot_s"]
    )
    for row in range(3):
        assert sum(part["x"][row] for part in figures["shares-decode"]["data"]) == pytest.approx(100.0)


def test_a_list_of_predictions_has_a_page_whose_rows_say_what_differs(capsys: pytest.CaptureFixture[str]) -> None:
    from roofline.cli.app import run

    assert run(["predict", "llama-3.1-8b", "h100-sxm", "--batch", "1,8", "--input", "128", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    page = Page(render(found))
    assert "batch 1" in page.shown and "batch 8" in page.shown and "2 scenarios" in page.shown
    assert page.json("record") == found
    with pytest.raises(RooflineError, match="has 202 of them"):
        render({**found, "predictions": found["predictions"] * 101})


@pytest.mark.parametrize("part", ["devices", "scenario", "provenance"])
@pytest.mark.parametrize("wrong", [None, "text", 3, [1]])
def test_a_part_of_the_wrong_kind_is_named(record: dict[str, Any], part: str, wrong: Any) -> None:
    with pytest.raises(RooflineError, match=rf"'{part}'.*roofline compare"):
        render({**record, part: wrong})


def test_the_command_prints_what_it_compares_and_writes_the_same_page_as_report(
    tmp_path: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from roofline.cli.app import run

    page, table = tmp_path / "own.html", tmp_path / "c.csv"
    arguments = ["compare", "llama-3.1-8b", "h100-sxm, fpga-u50", "--html", str(page), "--csv", str(table)]
    monkeypatch.setattr("sys.argv", ["roofline", *arguments, "--json"])
    assert run([*arguments, "--json"]) == 0
    (tmp_path / "record.json").write_text(capsys.readouterr().out, "utf-8")
    assert run(["report", str(tmp_path / "record.json")]) == 0
    assert (tmp_path / "record.html").read_bytes() == page.read_bytes()
    assert len(table.read_text().splitlines()) == 3
    assert run(arguments) == 0
    out = capsys.readouterr().out
    assert "h100-sxm" in out and "* fpga-u50: does not fit" in out
    assert run(["compare", "llama-3.1-8b", "fpga-u50"]) == 1  # nothing fits
    assert run(["compare", "llama-3.1-8b", "h100-sxm", "--batch", "1,2"]) == 2
    assert "one scenario" in capsys.readouterr().err


def test_a_band_without_an_upper_end_reaches_the_edge_with_an_arrow() -> None:
    rows = [ROW, {**ROW, "tpot_high_s": None}, {**ROW, "tpot_low_s": None, "tpot_high_s": None}]
    _, points, arrows = times(rows, "tpot", "TPOT")["data"]
    assert points["error_x"]["array"] == pytest.approx([0.002, 0.0044, 0.0])
    assert (arrows["name"], arrows["x"], arrows["y"]) == ("no upper end", [pytest.approx(0.0144)], [1])
    assert "within 9 ms or more" in points["hovertext"][1]
