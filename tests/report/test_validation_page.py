"""The page of a validation: a pure rendering of its record, whatever is in the record; and the reports kept."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roofline.errors import RooflineError
from roofline.io.calibration import load_calibration
from roofline.io.profiles import load_target
from roofline.report.pages import render
from roofline.report.parts import plain
from roofline.report.roof_figures import measured_under_roofs
from roofline.report.validation_figures import coverage, error_by_size, errors, measured_and_predicted
from roofline.validate import record as made
from roofline.validate.run import validate

from ..validate.made import gemms, measured
from .test_html import HOSTILE, Page, with_number, with_text

REPORTS = Path(__file__).parents[2] / "reports"


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    target = load_target("a100-sxm-80gb")
    calibration = load_calibration(target)
    records = measured(gemms(300), target.device, calibration, noise=0.1)
    records.measured_s[:7] = 1e-12
    predictors = {target.device.name: (target.device, calibration)}
    found = made.validation_record(validate([records], predictors), predictors, command="roofline validate x")
    return json.loads(json.dumps(found))


def test_rendering_twice_gives_the_same_bytes_and_leaves_the_record_alone(record: dict[str, Any]) -> None:
    before = copy.deepcopy(record)
    assert render(record) == render(copy.deepcopy(record))
    assert record == before


def test_the_embedded_record_renders_to_the_same_page(record: dict[str, Any]) -> None:
    page = render(record)
    embedded = Page(page).json("record")
    assert embedded == record and render(embedded) == page


def test_the_answer_comes_first_and_the_defects_are_named(record: dict[str, Any]) -> None:
    shown = " ".join(Page(render(record)).shown.split())
    answer = shown[: shown.index("Error beside the bare roofline's")]
    for expected in ("293 measured kernels", "Half of the predictions", "80 % band holds", "7 rows are faster"):
        assert expected in answer
    assert "made.json:1 gemm" in shown and "roofline validate x" in shown


def test_one_file_under_six_megabytes_that_refers_to_nothing_outside(record: dict[str, Any]) -> None:
    page = render(record)
    assert len(page.encode()) < 6_000_000
    names = ("src", "href", "srcset", "action", "data", "poster")
    refers = [value for _, held in Page(page).elements for name, value in held.items() if name in names]
    assert [value for value in refers if not value.startswith("#")] == ["data:,"]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_text_is_shown_as_text(record: dict[str, Any], hostile: str) -> None:
    attacked = with_text(record, hostile)
    calm, page = Page(render(record)), Page(render(attacked))
    assert [tag for tag, _ in page.elements if tag in ("script", "img", "b")] == [
        tag for tag, _ in calm.elements if tag in ("script", "img", "b")
    ]
    assert not any(name.startswith("on") for _, held in page.elements for name in held)
    assert page.json("record") == plain(attacked)
    assert "<a" not in json.dumps(page.json("figures")) and "<script" not in json.dumps(page.json("figures"))


@pytest.mark.parametrize(
    "number", [0, -1.5, 1e300, 1e-300, math.inf, -math.inf, math.nan, None, "<b>", True, 10**400], ids=range(11)
)
def test_any_number_has_a_page(record: dict[str, Any], number: Any) -> None:
    Page(render(with_number(record, number))).json("figures")


@pytest.mark.parametrize("part", ["devices", "overall", "families", "groups", "excluded", "points", "notices"])
@pytest.mark.parametrize("wrong", [None, "text", 3, [1]])
def test_a_part_of_the_wrong_type_is_named(record: dict[str, Any], part: str, wrong: Any) -> None:
    if part == "notices" and wrong == [1]:
        return  # a list, whatever is in it, can be shown
    with pytest.raises(RooflineError, match=rf"'{part}'.*roofline validate"):
        render({**record, part: wrong})


SERIES = {
    "device": "d",
    "family": "gemm",
    "dtype": "bf16",
    "sources": ["a/b.csv"],
    "source": [0, 0, 0],
    "line": [1, 2, 3],
    "measured_s": [1e-6, 1e-4, 1e-3],
    "predicted_s": [1.1e-6, 0.9e-4, 2e-3],
    "excluded": [2],
}


def test_points_stand_where_the_record_has_them() -> None:
    *_, kept, faster = measured_and_predicted([SERIES])["data"]
    assert (kept["x"], kept["y"]) == ([1e-6, 1e-4], [1.1e-6, 0.9e-4])
    assert (faster["x"], faster["y"], faster["text"]) == ([1e-3], [2e-3], ["a/b.csv:3"])
    assert error_by_size([SERIES], [])["data"][0]["y"] == [10.0, -10.0]


def test_margin_lines_are_10_and_25_percent() -> None:
    lines = [trace for trace in measured_and_predicted([SERIES])["data"] if trace["mode"] == "lines"]
    slopes = sorted(float(np.mean(np.divide(trace["y"], trace["x"]))) for trace in lines)
    assert slopes == pytest.approx([1 / 1.25, 1 / 1.1, 1.0, 1.1, 1.25])


def test_overview_shows_each_family_s_figures_in_percent() -> None:
    families = [{"family": "gemm", "dtype": "bf16", "median_ape": 0.04, "roofline_median_ape": 0.5, "coverage": 0.79}]
    _, prediction, bare = errors(families)["data"]
    assert (prediction["x"], bare["x"]) == ([4.0], [50.0])
    drawn = coverage(families, 0.8)
    assert drawn["data"][0]["x"] == [79.0] and drawn["layout"]["shapes"][0]["x0"] == 80.0


PLACED = {
    "device": "d",
    "family": "gemm",
    "dtype": "bf16",
    "measured_s": [1e-3, 2e-3],
    "predicted_s": [2e-3, 1e-3],
    "flop": [1e9, 4e9],
    "memory_byte": [1e8, 1e8],
    "intensity_flop_per_byte": [10.0, 40.0],
    "measured_flop_per_s": [1e12, 2e12],
    "predicted_flop_per_s": [5e11, 4e12],
}
ROOFS = {"matrix_flop_per_s": {"bf16": 1e13}, "vector_flop_per_s": 1e12, "dram_byte_per_s": 1e12}


def test_measured_and_predicted_rows_stand_together_under_the_roofs() -> None:
    drawn = measured_under_roofs([PLACED], ROOFS)["data"]
    named = {trace["name"]: trace for trace in drawn}
    measured, predicted = named["bf16, measured"], named["bf16, predicted"]
    assert measured["x"] == predicted["x"] == [10.0, 40.0]
    assert (measured["y"], predicted["y"]) == ([1e12, 2e12], [5e11, 4e12])
    assert named["bf16"]["y"] == [1e12, 5e11, None, 2e12, 4e12, None]
    assert (named["bf16 10 TFLOP/s"]["x"][0], named["bf16 10 TFLOP/s"]["y"]) == (10.0, [1e13, 1e13])
    assert "1 GFLOP, 100 MB read and written: 10 FLOP/byte" in measured["hovertext"][0]


def test_a_row_that_a_logarithmic_axis_cannot_show_is_left_out() -> None:
    broken = {**PLACED, "measured_flop_per_s": [0.0, 2e12]}
    measured = next(t for t in measured_under_roofs([broken], ROOFS)["data"] if t["name"] == "bf16, measured")
    assert measured["x"] == [40.0]


def test_the_page_has_a_roofline_for_families_whose_rows_are_placed(record: dict[str, Any]) -> None:
    assert "roofline-0" in Page(render(record)).json("figures")
    bare = {**record, "placed": []}
    assert "roofline-0" not in Page(render(bare)).json("figures")
    older = {key: value for key, value in record.items() if key != "placed"}
    assert "roofline-0" not in Page(render(older)).json("figures")
