"""The page of an explanation: the tree opens step by step, every figure and source of it is there, damage is named."""

from typing import Any

import pytest

from roofline.errors import RooflineError
from roofline.report.pages import render

from .samples import sample
from .test_html import Page


def leaf(name: str, value: Any, kind: str = "fact") -> dict[str, Any]:
    source = {"kind": kind, "text": f"sheet of {name}"}
    return {
        "name": name, "value": value, "unit": "s", "formula": "", "exact": False, "note": "", "source": source,
        "children": [],
    }  # fmt: skip


def record(tree: Any) -> dict[str, Any]:
    return {**sample("explain"), "figure": "decode", "tree": tree}


SUM = {
    **leaf("decode", 0.003, "computed"),
    "formula": "b + a",
    "exact": True,
    "note": "a step",
    "children": [leaf("b", 0.001), leaf("a", 0.002)],
}


def test_the_first_sum_is_drawn_the_largest_part_first() -> None:
    page = Page(render(record(SUM)))
    (bars,) = page.json("figures")["parts-plot"]["data"]
    assert bars["x"] == [2.0, 1.0]
    layout = page.json("figures")["parts-plot"]["layout"]
    assert layout["yaxis"]["ticktext"] == ["a", "b"] and layout["xaxis"]["title"]["text"] == "decode, ms"


def test_value_formula_note_and_sources_are_shown() -> None:
    shown = " ".join(Page(render(record(SUM))).shown.replace("\u00a0", " ").split())
    assert "3 ms = b + a" in shown and "A step." in shown
    for told in ("fact: sheet of a", "fact: sheet of b", "decode / a"):
        assert told in shown
    assert "computed:" not in shown


def test_a_product_has_no_bars() -> None:
    page = Page(render(record({**SUM, "formula": "a * b"})))
    assert page.json("figures") == {}


def test_nested_nodes_open_and_close_and_deep_ones_do_not_break_the_page() -> None:
    tree = leaf("end", 1.0)
    for depth in range(200):
        tree = {**leaf(f"level {depth}", 1.0, "computed"), "children": [tree]}
    page = Page(render(record(tree)))
    assert sum(tag == "details" for tag, _ in page.elements) == 61  # 60 levels and the table
    assert sum(tag == "details" and "open" in held for tag, held in page.elements) == 2


@pytest.mark.parametrize("tree", [None, [], {"source": {}, "children": 3}, {"children": []}])
def test_a_damaged_tree_is_named(tree: Any) -> None:
    with pytest.raises(RooflineError, match="'tree"):
        render(record(tree))
