"""The page of whole models and a sweep: what its figures draw, and what a damaged record gives."""

import json

import pytest

from roofline.errors import RooflineError
from roofline.report.html import html_of
from roofline.report.this_machine import contents, sweep

POINTS = [
    {"library": "numpy", "rows": 1, "measured_s": 1e-3, "predicted_s": 2e-3, "predicted_bound": "memory"},
    {"library": "numpy", "rows": 2, "measured_s": 3e-3, "predicted_s": 4e-3, "predicted_bound": "compute"},
    {"library": "torch", "rows": 1, "measured_s": 9e-3, "predicted_s": 9e-3, "predicted_bound": "memory"},
]
RECORD = {
    "schema": "roofline.this_machine/1",
    "environment": {"cpu_model": "<b>CPU", "thread_count": 2, "date": "2026-11-25T00:00:00"},
    "seed": 7,
    "models": [
        {
            "library": "numpy", "model": "gpt2", "attention": "unfused", "step": "1 x 1 behind 9",
            "measured_s": 0.02, "predicted_s": 0.019, "low_s": 0.018, "high_s": 0.021, "error": -0.05,
            "repeat_error": 0.01,
        }
    ],
    "flips": [
        {
            "library": "numpy", "measured_balance": 14.2, "predicted_balance": 17.0, "label_rows": 16,
        }
    ],
    "sweep": POINTS,
    "provenance": {"package_version": "0", "command": ""},
}  # fmt: skip


def test_a_sweep_draws_its_own_library_and_marks_each_bound():
    measured, predicted = sweep("numpy", POINTS)["data"]
    assert (measured["x"], measured["y"], predicted["y"]) == ([1, 2], [1e-3, 3e-3], [2e-3, 4e-3])
    assert predicted["marker"]["symbol"] == ["square", "circle"]


def test_the_page_holds_its_record_and_says_that_no_gpu_was_used():
    page = html_of(contents(RECORD), "plotly.js")
    assert "has not been run on a GPU" in page
    assert "<b>CPU" not in page
    assert "2, 2026-11-25. The calibration" in page  # the date whole, without its time of day
    held = page.split('id="record">', 1)[1].split("</script>", 1)[0]
    assert json.loads(held) == RECORD


@pytest.mark.parametrize("part", ["sweep", "models", "flips", "environment"])
def test_a_damaged_record_is_refused(part):
    with pytest.raises(RooflineError, match=part):
        contents({name: value for name, value in RECORD.items() if name != part})


def test_the_answer_says_how_far_whole_steps_are_predicted_off_and_how_many_the_band_holds():
    models = [
        {**RECORD["models"][0], "error": error, "measured_s": measured_s}
        for error, measured_s in ((-0.05, 0.02), (0.1, 0.019), (-0.3, 0.03))
    ]
    page = html_of(contents({**RECORD, "models": models}), "plotly.js").replace("\u00a0", " ")
    assert "Half of the 3 whole steps are predicted within <strong>10 %</strong>" in page
    assert "the worst within 30 %; the predicted band holds <strong>2</strong> of them" in page
    assert "up to 14 rows as measured, 17 as predicted" in page
    assert "whole steps are predicted" not in html_of(contents({**RECORD, "models": []}), "plotly.js")
