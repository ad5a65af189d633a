"""What holds for the page of every kind of record, whatever is in the record: attacks on all of them."""

import json
import math
import re
from functools import cache
from itertools import pairwise
from typing import Any

import pytest

from roofline.errors import RooflineError
from roofline.report.pages import PAGES, render
from roofline.report.parts import check_parts, plain

from .samples import NAMES, sample
from .test_html import HOSTILE, Page, with_number, with_text

BESIDE = "plotly.js"
"""Most of a page is plotly.js, which these attacks cannot reach: leave it out where it only costs time."""


@cache
def calm(name: str) -> Page:
    return Page(render(sample(name), BESIDE))


def test_every_schema_with_a_page_has_a_sample() -> None:
    assert {sample(name)["schema"] for name in NAMES} == set(PAGES)


@pytest.mark.parametrize("name", NAMES)
def test_the_page_holds_its_record_renders_again_to_the_same_bytes_and_refers_to_nothing_outside(name: str) -> None:
    record = sample(name)
    text = render(record)
    page = Page(text)
    assert page.json("record") == record and render(page.json("record")) == text
    assert len(text.encode()) < 6_000_000
    outside = [
        (tag, key, value)
        for tag, held in page.elements
        for key, value in held.items()
        if key in ("src", "href", "srcset", "action", "data", "poster", "xlink:href")
        and not str(value).startswith(("#", "data:"))
    ]
    assert {(tag, key) for tag, key, _ in outside} <= {("a", "href")}  # sources to click on
    command = record["provenance"]["command"]
    assert command and command in page.shown and str(record["provenance"]["package_version"]) in page.shown


@pytest.mark.parametrize("name", NAMES)
def test_headings_figures_and_tables_can_be_read_aloud(name: str) -> None:
    page = calm(name)
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1 and levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    plots = [held for tag, held in page.elements if held.get("class") == "plot"]
    assert {held["id"] for held in plots} == set(page.json("figures"))
    assert all(held["role"] == "img" and len(str(held["aria-label"])) > 20 for held in plots)
    tables = [held["id"] for tag, held in page.elements if tag == "table"]
    assert tables and len([tag for tag, _ in page.elements if tag == "caption"]) == len(tables)
    ids = [held["id"] for _, held in page.elements if "id" in held]
    assert len(ids) == len(set(ids))
    links = {str(held["href"])[1:] for tag, held in page.elements if tag == "a" and str(held["href"]).startswith("#")}
    assert links <= set(ids)
    labelled = [held["aria-labelledby"] for _, held in page.elements if "aria-labelledby" in held]
    assert set(labelled) <= set(ids)


@pytest.mark.parametrize("hostile", [HOSTILE[0], HOSTILE[3], HOSTILE[6], HOSTILE[7]], ids=range(4))
@pytest.mark.parametrize("name", NAMES)
def test_hostile_text_is_shown_as_text(name: str, hostile: str) -> None:
    text = render(with_text(sample(name), hostile), BESIDE)
    page = Page(text)
    assert {tag for tag, _ in page.elements} <= {tag for tag, _ in calm(name).elements} | {"li", "p"}
    assert len(page.scripts) == len(calm(name).scripts)
    assert not {key for _, held in page.elements for key in held if key.startswith("on")}
    assert "<a" not in json.dumps(page.json("figures")) and "<script" not in json.dumps(page.json("figures"))
    assert plain(hostile).split("\r")[0][:40] in page.shown


@pytest.mark.parametrize("number", [math.nan, None, -1.5, 10**400, "<b>"], ids=range(5))
@pytest.mark.parametrize("name", NAMES)
def test_any_value_in_place_of_a_number_is_shown(name: str, number: Any) -> None:
    page = Page(render(with_number(sample(name), number), BESIDE))
    assert not re.search(r"[:,\[](NaN|-?Infinity)\b", page.scripts[0] + page.scripts[1])
    assert "b" not in {tag for tag, _ in page.elements}


@pytest.mark.parametrize("wrong", [None, [1], {"a": 1}], ids=range(3))
@pytest.mark.parametrize("name", NAMES)
def test_a_part_of_another_kind_is_shown_or_named_in_a_clear_error(name: str, wrong: Any) -> None:
    record = sample(name)
    for part in record:
        if part == "schema":
            continue
        try:
            render({**record, part: wrong}, BESIDE)
        except RooflineError as error:
            assert repr(part) in str(error) or f"'{part}." in str(error)
            assert "Accepted" in str(error) and len(str(error)) < 400


def test_parts_are_followed_through_objects_lists_and_what_may_be_missing() -> None:
    record = {"a": {"x": {"rows": [{}]}, "y": None}, "l": [{"b": {}}, {"b": None}], "n": None}
    check_parts(record, {"a.*.rows": "a list of objects", "l.*.b?": "an object", "n?.deep": "a list"}, "c")
    for path, kind, named in (
        ("a.*.rows", "an object", "'a.x.rows'"),
        ("l.*.b", "an object", "'l.1.b' is None"),
        ("n", "a list", "'n' is None"),
        ("n.deep", "a list", "'n.deep' is None"),
    ):
        with pytest.raises(RooflineError, match=re.escape(named)):
            check_parts(record, {path: kind}, "c")
