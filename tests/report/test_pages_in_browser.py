"""The pages in a real headless Chromium: nothing fetched, nothing refused, figures drawn, tables that work."""

import json
from pathlib import Path
from typing import Any

import pytest

import roofline
from roofline.cli.predict import full_record
from roofline.report.pages import render

from .browsing import click, column, computed, downloaded, requests, show, sideways, too_wide, undrawn, wait_for

HOSTILE = (
    "<script>document.title='attacked'</script>",
    "</script><img src=x onerror=\"document.title='attacked'\">",
    "\u202ertl \u05d0\u05d1 \"'`",
    '=HYPERLINK("http://127.0.0.1")',
    "n" * 10_000,
)


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    prediction = roofline.predict("llama-3.1-8b", "h100-sxm:2")
    return full_record(prediction, "roofline predict llama-3.1-8b h100-sxm:2", "llama-3.1-8b", "h100-sxm:2")


@pytest.fixture(scope="module")
def page(record: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pages") / "prediction.html"
    path.write_text(render(record), "utf-8", newline="")
    return path


@pytest.mark.parametrize("width", [360, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_opens_clean_and_fits_the_window(browser: Any, page: Path, width: int, scheme: str) -> None:
    show(browser, page, width, scheme)
    assert browser.get_log("browser") == []
    assert requests(browser) == []
    assert sideways(browser) == 0
    assert too_wide(browser) == []


def test_the_checks_see_a_request_and_an_error_when_there_is_one(browser: Any, tmp_path: Path) -> None:
    planted = tmp_path / "planted.html"
    planted.write_text("<img src='http://127.0.0.1:9/x.png'><script>undefined.planted</script>", "utf-8")
    show(browser, planted)
    assert requests(browser) == ["http://127.0.0.1:9/x.png"]
    assert any("planted" in entry["message"] for entry in browser.get_log("browser"))


def test_what_slipped_through_the_escaping_would_still_not_run(browser: Any, page: Path, tmp_path: Path) -> None:
    text = page.read_text("utf-8")
    attack = (
        "<script>document.title='attacked'</script>"
        "<img src='http://127.0.0.1:9/x' onerror=\"document.title='attacked'\">"
    )
    planted = tmp_path / "slipped.html"
    planted.write_text(text.replace("</header>", f"{attack}</header>", 1), "utf-8", newline="")
    show(browser, planted)
    refused = [entry["message"] for entry in browser.get_log("browser")]
    assert any("script-src" in message for message in refused) and any("img-src" in message for message in refused)
    assert "attacked" not in browser.title


def test_light_and_dark_differ_and_figures_take_the_page_s_text_colour(browser: Any, page: Path) -> None:
    colours = []
    for scheme in ("light", "dark"):
        show(browser, page, scheme=scheme)
        assert computed(browser, "#roofline-plot .xtick text", "fill") == computed(browser, "body", "color")
        colours.append((computed(browser, "body", "color"), computed(browser, "body", "backgroundColor")))
    assert colours[0] != colours[1]


def test_every_kernel_is_drawn(browser: Any, page: Path, record: dict[str, Any]) -> None:
    show(browser, page)
    drawn = "return document.querySelectorAll(arguments[0]).length"
    phases = [record["phases"][name]["kernels"] for name in ("prefill", "decode")]
    placed = [row for rows in phases for row in rows if row["flop"] and row["intensity_flop_per_byte"]]
    assert browser.execute_script(drawn, "#roofline-plot .scatterlayer .points path") == len(placed) > 0
    for i, rows in enumerate(phases):
        assert browser.execute_script(drawn, f"#time-{i} .barlayer .point") == len(rows)
    assert browser.execute_script(drawn, "#memory-plot .barlayer .point") == 4
    assert browser.execute_script(drawn, "#memory-plot .scatterlayer .js-line") == 1
    labels = browser.execute_script(
        "return [...document.querySelectorAll('#time-1 .ytick text')].map((t) => t.textContent)"
    )
    assert sorted(labels) == sorted(row["name"] for row in phases[1])
    roofs = browser.execute_script("return document.querySelectorAll('#roofline-plot .annotation').length")
    held = record["roofs"]
    assert roofs == 1 + len(held["levels"]) + len({*held["matrix_flop_per_s"].values(), held["vector_flop_per_s"]})


def test_hovering_shows_the_kernel(browser: Any, page: Path) -> None:
    show(browser, page)
    browser.execute_script(
        "const gd = document.getElementById('time-0'); Plotly.Fx.hover(gd, [{curveNumber: 0, pointNumber: 0}])"
    )
    text = wait_for(lambda: browser.execute_script("return document.querySelector('#time-0 .hovertext')?.textContent"))
    for part in ("FLOP", "read and written", "bare roofline", "bound by"):
        assert part in text


def test_no_button_offers_to_upload_the_data(browser: Any, page: Path) -> None:
    show(browser, page)
    titles = browser.execute_script(
        "return [...document.querySelectorAll('.modebar-btn')].map((b) => b.dataset.title ?? b.ariaLabel)"
    )
    assert titles and len(titles) % 6 == 0
    assert not [title for title in titles if "cloud" in str(title).lower() or "plotly" in str(title).lower()]


def test_a_click_on_a_heading_sorts(browser: Any, page: Path) -> None:
    show(browser, page)
    before = column(browser, "decode-kernels", "step_s")
    button = "#decode-kernels th[data-key=step_s] button"
    click(browser, button)
    assert column(browser, "decode-kernels", "step_s") == sorted(before, key=float, reverse=True) != before
    assert browser.execute_script(f"return document.querySelector('{button}').closest('th').ariaSort") == "descending"
    click(browser, button)
    assert column(browser, "decode-kernels", "step_s") == sorted(before, key=float)
    click(browser, "#decode-kernels th[data-key=name] button")
    names = column(browser, "decode-kernels", "name")
    assert names == sorted(names) and len(names) == len(before)
    assert browser.execute_script("return document.querySelectorAll('#decode-kernels [aria-sort]').length") == 1
    click(browser, "#decode-kernels th[data-key=intensity_flop_per_byte] button")
    values = column(browser, "decode-kernels", "intensity_flop_per_byte")
    known = [float(value) for value in values if value]
    assert known == sorted(known, reverse=True)
    assert all(values[: len(known)]) and not any(values[len(known) :])  # what is missing comes last


def test_csv_holds_the_numbers_of_the_record_to_the_last_bit(
    browser: Any, page: Path, record: dict[str, Any], tmp_path: Path
) -> None:
    rows = download(browser, page, tmp_path)
    kernels = record["phases"]["prefill"]["kernels"]
    assert [row["name"] for row in rows] == [kernel["name"] for kernel in kernels]
    for row, kernel in zip(rows, kernels, strict=True):
        for key in ("flop", "read_byte", "write_byte", "total_s", "low_s", "high_s", "roofline_s", "count"):
            assert float(row[key]) == kernel[key]
        assert row["bound"] == kernel["bound"]
        assert float(row["step_s"]) == kernel["count"] * kernel["total_s"]


def download(browser: Any, page: Path, folder: Path) -> list[dict[str, str]]:
    show(browser, page)
    return downloaded(browser, folder, "prefill-kernels")


def test_copy_puts_the_table_on_the_clipboard(browser: Any, page: Path) -> None:
    show(browser, page)
    granted = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    browser.execute_cdp_cmd("Browser.grantPermissions", granted)
    browser.execute_cdp_cmd("Emulation.setFocusEmulationEnabled", {"enabled": True})  # headless windows have no focus
    click(browser, "button[data-do=copy][data-table=prefill-kernels]")
    wait_for(lambda: browser.execute_script("return document.querySelector('.said').textContent") == "copied")
    text = browser.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
    heading, *rows = text.split("\n")
    assert heading.split("\t")[:2] == ["name", "kind"]
    assert [row.split("\t")[0] for row in rows] == column(browser, "prefill-kernels", "name")


def test_figures_take_the_width_of_the_paper_and_come_back(browser: Any, page: Path) -> None:
    show(browser, page)
    width = "return document.querySelector('#roofline-plot .main-svg').getBoundingClientRect().width"
    screen = browser.execute_script(width)
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    wait_for(lambda: browser.execute_script(width) == 660)
    browser.execute_script("dispatchEvent(new Event('afterprint'))")
    wait_for(lambda: browser.execute_script(width) == screen)


@pytest.mark.parametrize("hostile", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("width", [360, 1440])
def test_hostile_text_is_text_and_does_not_widen_the_page(
    browser: Any, record: dict[str, Any], tmp_path: Path, hostile: str, width: int
) -> None:
    attacked = json.loads(json.dumps(record))
    attacked.update(model=hostile, device=hostile, not_modelled=[hostile], assumptions=[hostile])
    attacked["provenance"].update(command=hostile, device_title=hostile)
    for row in attacked["phases"]["prefill"]["kernels"]:
        row.update(name=hostile, kind=hostile, bound=hostile, total_s="NaN")
    path = tmp_path / "hostile.html"
    path.write_text(render(attacked), "utf-8", newline="")
    show(browser, path, width)
    assert browser.get_log("browser") == []
    assert requests(browser) == []
    assert "attacked" not in browser.title.replace(hostile[:80], "")
    assert browser.execute_script("return document.scripts.length") == 4
    assert sideways(browser) == 0
    assert browser.execute_script("return document.querySelector('#command').textContent").strip() == hostile
    cell = browser.execute_script("return document.querySelector('#prefill-kernels tbody th').textContent")
    assert cell == hostile
    rows = download(browser, path, tmp_path)
    assert rows[0]["name"] == ("'" + hostile if hostile.startswith("=") else hostile)


@pytest.mark.parametrize(
    ("model", "device", "settings"),
    [("llama-3.1-70b", "a100-sxm-80gb", {}), ("bert-base-uncased", "h100-sxm", {"input": 512, "output": 1})],
)
def test_other_predictions_open_clean(
    browser: Any, tmp_path: Path, model: str, device: str, settings: dict[str, Any]
) -> None:
    path = tmp_path / "page.html"
    made = render(roofline.prediction_record(roofline.predict(model, device, **settings)))
    path.write_text(made, "utf-8", newline="")
    show(browser, path, 360)
    assert browser.get_log("browser") == []
    assert requests(browser) == []
    assert sideways(browser) == 0
    assert undrawn(browser) == []
