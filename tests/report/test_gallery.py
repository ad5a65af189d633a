"""The kept reports: every page is what its record renders to, beside one plotly.js that all share."""

import importlib.util
import json
from pathlib import Path

import pytest

from roofline.report.html import PLOTLY
from roofline.report.pages import PAGES as PAGED
from roofline.report.pages import render

from .test_html import Page

REPORTS = Path(__file__).parents[2] / "reports"
PAGES = sorted(path for path in REPORTS.glob("*.html") if path.name != "index.html")


def test_reports_are_kept_and_stay_small() -> None:
    assert [path for path in PAGES if path.name.startswith("validation-")]
    assert sum(path.stat().st_size for path in REPORTS.rglob("*")) < 15_000_000
    assert (REPORTS / "plotly.js").read_bytes() == PLOTLY.read_bytes()


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_a_kept_page_is_what_the_record_beside_it_renders_to(page: Path) -> None:
    record = json.loads(page.with_suffix(".json").read_text("utf-8"))
    assert render(record, "plotly.js") == page.read_text("utf-8")


def records() -> list[Path]:
    """Kept records of the kinds that have a page; other files are figures of a benchmark of its own."""
    return [path for path in sorted(REPORTS.glob("*.json")) if json.loads(path.read_text("utf-8"))["schema"] in PAGED]


@pytest.mark.parametrize("record", records(), ids=lambda path: path.stem)
def test_every_kept_record_has_a_page_that_can_be_mailed(record: Path) -> None:
    assert len(render(json.loads(record.read_text("utf-8"))).encode()) < 6_000_000


def test_the_index_lists_every_record_and_links_only_what_is_there() -> None:
    path = REPORTS.parent / "benchmarks" / "gallery.py"
    spec = importlib.util.spec_from_file_location("gallery", path)
    assert spec is not None and spec.loader is not None
    gallery = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(gallery)
    text = (REPORTS / "index.html").read_text("utf-8")
    assert gallery.index(gallery.kept()) == text
    links = [held["href"] for tag, held in Page(text).elements if tag == "a"]
    assert all((REPORTS / str(link)).exists() for link in links)
    assert {record.name for record in records()} <= set(links)
    assert {page.name for page in PAGES} <= set(links)
