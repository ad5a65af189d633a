"""The page of every kind of record in a real headless Chromium: clean, drawn, readable, and tables that work."""

import json
from pathlib import Path
from typing import Any

import pytest

from roofline.report.pages import render

from .browsing import (
    click,
    column,
    computed,
    downloaded,
    look,
    requests,
    show,
    sideways,
    too_wide,
    undrawn,
    wait_for,
)
from .samples import NAMES, REPORTS, sample


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    made = {}
    for name in NAMES:
        made[name] = folder / f"{name}.html"
        made[name].write_text(render(sample(name)), "utf-8", newline="")
    return made


@pytest.mark.parametrize("name", NAMES)
def test_the_page_opens_clean_draws_all_and_fits_phone_and_desk_in_light_and_dark(
    browser: Any, pages: dict[str, Path], name: str
) -> None:
    show(browser, pages[name])
    colours = set()
    for width, scheme in ((1440, "light"), (1440, "dark"), (360, "dark")):
        look(browser, width, scheme)
        wait_for(lambda: sideways(browser) == 0 and not too_wide(browser))  # figures follow the window a moment later
        ink = computed(browser, "body", "color")
        colours.add(ink)
        assert all(
            fill == ink
            for fill in browser.execute_script(
                "return [...document.querySelectorAll('.plot .xtick text')].map((t) => getComputedStyle(t).fill)"
            )
        )
    assert len(colours) == 2
    assert undrawn(browser) == []
    for drawn, room, asked in browser.execute_script(
        "return [...document.querySelectorAll('.plot')].map((p) => [p.querySelector('.main-svg').clientHeight,"
        " p.offsetHeight, JSON.parse(document.getElementById('figures').textContent)[p.id].layout.height])"
    ):
        assert drawn == room == asked  # neither squeezed nor over what follows, though the window has changed
    assert browser.execute_script("return document.querySelectorAll('.plot').length") > 0
    assert browser.get_log("browser") == []
    assert requests(browser) == []


@pytest.mark.parametrize("name", NAMES)
def test_every_table_sorts_and_downloads(browser: Any, pages: dict[str, Path], name: str, tmp_path: Path) -> None:
    show(browser, pages[name])
    tables = browser.execute_script("return [...document.querySelectorAll('table')].map((t) => t.id)")
    for table in tables:
        keys = browser.execute_script(
            "return [...document.querySelectorAll(`#${arguments[0]} th[data-key]`)].map((h) => h.dataset.key)", table
        )
        click(browser, f"#{table} th[data-key={keys[0]}] button")
        large = browser.execute_script("return !!document.getElementById(arguments[0]).dataset.source", table)
        shown = column(browser, table, keys[0])
        ordered = browser.execute_script("return [...arguments[0]].sort(new Intl.Collator('en').compare)", shown)
        numeric = browser.execute_script(
            "return !document.querySelector(`#${arguments[0]} th[data-key]`).classList.contains('text')", table
        )
        assert shown == (sorted(shown, key=float, reverse=True) if numeric else ordered)
        assert large == (len(shown) == 50) or not large
    rows = downloaded(browser, tmp_path, tables[0])
    assert rows and list(rows[0]) == browser.execute_script(
        "return [...document.querySelectorAll(`#${arguments[0]} th[data-key]`)].map((h) => h.dataset.key)", tables[0]
    )
    assert browser.get_log("browser") == []


def shown_cells(browser: Any) -> list[str]:
    """What the cells of the table of candidates show, row by row."""
    cells = "[...document.querySelectorAll('#points tbody td')]"
    return list(browser.execute_script(f"return {cells}.map((cell) => cell.textContent.trim())"))


def same(one: str, other: str) -> bool:
    """Whether two cells show the same; of a tie between two digits Python takes the even one, a browser the larger."""
    try:
        return float(one.replace(",", "")) == pytest.approx(float(other.replace(",", "")), rel=6e-3)
    except ValueError:
        return one == other


def test_a_large_table_sorts_and_searches_rows_that_are_not_shown(
    browser: Any, pages: dict[str, Path], tmp_path: Path
) -> None:
    points = sample("plan")["pareto"]["points"]
    show(browser, pages["plan"])
    assert column(browser, "points", "device") == points["device"][:50]  # what the server wrote, in its order
    before = shown_cells(browser)
    click(browser, "#points th[data-key=ttft_s] button")
    assert [float(v) for v in column(browser, "points", "ttft_s")] == sorted(points["ttft_s"], reverse=True)[:50]
    click(browser, "button[data-do=more][data-table=points]")
    assert len(column(browser, "points", "ttft_s")) == 100
    script = (
        "const i = document.querySelector('input[data-filter=points]'); i.value = arguments[0];"
        "i.dispatchEvent(new Event('input', { bubbles: true }))"
    )
    formats = zip(points["weights"], points["kv"], points["ttft_s"], strict=True)
    found = [ttft_s for weights, kv, ttft_s in formats if "fp8" in (weights, kv)]
    assert 0 < len(found) < len(points["ttft_s"])
    browser.execute_script(script, "FP8")
    assert [float(v) for v in column(browser, "points", "ttft_s")] == sorted(found, reverse=True)[:50]
    assert f"of {len(found)} found" in browser.execute_script(
        "return document.querySelector('input[data-filter=points]').parentElement.querySelector('.said').textContent"
    )
    rows = downloaded(browser, tmp_path, "points")
    assert [float(row["ttft_s"]) for row in rows] == sorted(found, reverse=True)
    browser.execute_script(script, "no such thing")
    assert column(browser, "points", "ttft_s") == []
    show(browser, pages["plan"])
    click(browser, "button[data-do=more][data-table=points]")  # drawn by the script: the same texts as by the server
    after = shown_cells(browser)
    assert len(before) == 50 * 16 and len(after) == 2 * len(before)
    assert all(map(same, before, after))


def test_pages_of_the_gallery_read_the_plotly_beside_them_and_nothing_else(browser: Any) -> None:
    for name in ("sensitivity", "index"):
        show(browser, REPORTS / f"{name}.html")
        assert browser.get_log("browser") == [] and requests(browser) == [] and undrawn(browser) == []
    assert browser.execute_script("return document.querySelectorAll('li a').length") >= len(NAMES)


def test_headings_and_tables_can_be_reached_by_keyboard(browser: Any, pages: dict[str, Path]) -> None:
    from selenium.webdriver.common.keys import Keys

    show(browser, pages["compare"])
    focused = "return document.activeElement.outerHTML.slice(0, 60)"
    body = browser.switch_to.active_element
    body.send_keys(Keys.TAB)
    assert "skip" in browser.execute_script(focused)
    heading = browser.find_element("css selector", "#answer th[data-key=tpot_s] button")
    heading.send_keys(Keys.ENTER)
    values = [float(value) for value in column(browser, "answer", "tpot_s") if value]
    assert values == sorted(values, reverse=True)
    assert browser.execute_script("return [...document.querySelectorAll('.scroll')].every((e) => e.tabIndex === 0)")


def test_figures_of_a_hostile_record_are_drawn_without_markup(browser: Any, tmp_path: Path) -> None:
    hostile = "<img src=x onerror=\"document.title='attacked'\"><a href='http://127.0.0.1:9/x'>x</a>"
    for name in ("plan", "simulate", "sensitivity", "diff", "compare"):
        text = (
            json.dumps(sample(name))
            .replace("h100-sxm", json.dumps(hostile)[1:-1])
            .replace("KV", json.dumps(hostile)[1:-1])
        )
        path = tmp_path / f"{name}.html"
        path.write_text(render(json.loads(text)), "utf-8", newline="")
        show(browser, path, 360)
        assert browser.get_log("browser") == [] and requests(browser) == []
        assert browser.title != "attacked"
        assert sideways(browser) == 0 and undrawn(browser) == []
        assert browser.execute_script("return document.querySelectorAll('.plot a, img').length") == 0
