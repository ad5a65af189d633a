"""The page of a prediction: a pure rendering of its record, whatever is in the record."""

import copy
import html
import json
import math
import re
from html.parser import HTMLParser
from typing import Any

import pytest

import roofline
from roofline.cli.predict import full_record
from roofline.errors import RooflineError
from roofline.report import kernel_figures, scenario_figures
from roofline.report.html import script_json
from roofline.report.pages import render
from roofline.report.roof_figures import under_roofs
from roofline.report.tables import kernel_table

COMMAND = "roofline predict llama-3.1-8b h100-sxm:2"
HOSTILE = (
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "<!-- <script>",
    "\"'><b onmouseover=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "\u202eright to left \u05d0\u05d1",
    "line\u2028separators\u2029\r\nand\x00null \ud800",
    '<a href="https://example.org">x</a>',
    "n" * 10_000,
)


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    prediction = roofline.predict("llama-3.1-8b", "h100-sxm:2")
    return json.loads(json.dumps(full_record(prediction, COMMAND, "llama-3.1-8b", "h100-sxm:2")))


class Page(HTMLParser):
    """What a browser would make of a page: elements, the text that is shown, and the content of scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.shown = ""
        self._in = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._in = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in == "script":
            self.scripts[-1] += data
        elif self._in != "style":
            self.shown += data

    def json(self, name: str) -> Any:
        ids = [attributes.get("id") for tag, attributes in self.elements if tag == "script"]
        return json.loads(self.scripts[ids.index(name)])


def with_text(value: Any, hostile: str) -> Any:
    """`value` with every text in it, keys aside, replaced."""
    if isinstance(value, dict):
        return {key: held if key == "schema" else with_text(held, hostile) for key, held in value.items()}
    if isinstance(value, list):
        return [with_text(held, hostile) for held in value]
    return hostile if isinstance(value, str) else value


def with_number(value: Any, number: Any) -> Any:
    """`value` with every number in it replaced."""
    if isinstance(value, dict):
        return {key: with_number(held, number) for key, held in value.items()}
    if isinstance(value, list):
        return [with_number(held, number) for held in value]
    return number if isinstance(value, int | float) else value


def test_rendering_twice_gives_the_same_bytes(record: dict[str, Any]) -> None:
    before = copy.deepcopy(record)
    assert render(record) == render(copy.deepcopy(record))
    assert record == before


def test_the_embedded_record_is_the_record_and_renders_to_the_same_page(record: dict[str, Any]) -> None:
    page = render(record)
    embedded = Page(page).json("record")
    assert embedded == record
    assert render(embedded) == page


def test_the_first_screen_is_the_answer(record: dict[str, Any]) -> None:
    shown = re.sub(r"\s+", " ", Page(render(record)).shown)
    answer, _, evidence = shown.partition("Roofline: every kernel under the device's limits")
    for expected in (
        "TTFT",
        "TPOT",
        "output tokens/s",
        "It fits.",
        "Prefill is limited by",
        "bare roofline",
        "In 80 %",
    ):
        assert expected in answer
    order = (
        "Where the time goes",
        "Memory of the fullest",
        "in numbers",
        "Assumptions",
        "Not modelled",
        "Facts of the",
    )
    assert [evidence.index(title) for title in order] == sorted(evidence.index(title) for title in order)
    for line in (*record["not_modelled"], *record["assumptions"], COMMAND, record["provenance"]["profile_digest"]):
        assert " ".join(line.split()) in shown


def test_a_model_that_does_not_fit_says_so_and_what_would_help() -> None:
    record = roofline.prediction_record(roofline.predict("llama-3.1-70b", "a100-sxm-80gb"))
    shown = Page(render(record)).shown
    assert "It does not fit." in shown
    assert "It fits." not in shown
    assert record["memory"]["changes"][0]["text"] in shown


def test_an_encoder_has_a_page_without_decode() -> None:
    record = roofline.prediction_record(roofline.predict("bert-base-uncased", "h100-sxm", input=512, output=1))
    page = Page(render(record))
    assert record["phases"]["decode"] is None
    assert "One pass over the batch" in page.shown
    assert "TPOT" not in page.shown
    assert set(page.json("figures")) == {"roofline-plot", "time-0", "memory-plot"}


def test_one_file_under_six_megabytes_that_refers_to_nothing_outside(record: dict[str, Any]) -> None:
    text = render(record)
    page = Page(text)
    assert len(text.encode()) < 6_000_000
    refers = [
        (tag, name, value)
        for tag, attributes in page.elements
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href")
    ]
    assert refers[:2] == [("link", "href", "data:,"), ("a", "href", "#evidence")]
    assert {(tag, name) for tag, name, _ in refers[2:]} == {("a", "href")}  # sections, and sources to click on
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style and "@import" not in style


def test_the_policy_lets_only_the_two_own_scripts_run_and_nothing_load(record: dict[str, Any]) -> None:
    (policy,) = [
        attributes["content"]
        for tag, attributes in Page(render(record)).elements
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert [word[:8] for word in rules["script-src"].split()] == ["'sha256-", "'sha256-"]
    assert "http" not in policy and "unsafe-eval" not in policy


@pytest.mark.parametrize("hostile", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_shown_as_text(record: dict[str, Any], hostile: str) -> None:
    clean, attacked = Page(render(record)), with_text(record, hostile)
    attacked["phases"][hostile] = attacked["phases"].pop("prefill")
    attacked["scenario"]["precision"][hostile] = "x"
    attacked["roofs"]["matrix_flop_per_s"][hostile] = 1e15
    text = render(attacked)
    page = Page(text)
    assert {tag for tag, _ in page.elements} <= {tag for tag, _ in clean.elements}
    assert len(page.scripts) == len(clean.scripts) == 4
    assert not {name for _, attributes in page.elements for name in attributes if name.startswith("on")}
    seen = hostile.encode("utf-8", "replace").decode()
    assert page.json("record")["model"] == seen
    assert seen.split("\r")[0] in page.shown
    assert render(page.json("record")) == text


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, None, 0, -1.0, 1e308, 10**400, "<b>"], ids=range(9))
def test_any_value_in_place_of_a_number_is_shown(record: dict[str, Any], number: Any) -> None:
    text = render(with_number(record, number))
    page = Page(text)
    assert not re.search(r"[:,\[](NaN|-?Infinity)\b", page.scripts[0] + page.scripts[1])
    assert render(page.json("record")) == text
    assert "b" not in {tag for tag, _ in page.elements}


def test_script_json_has_no_character_that_html_or_javascript_reads() -> None:
    value = {"</script>": "<!-- & \u2028 \u2029 é"}
    assert not set(script_json(value)) & set("<>&\u2028\u2029é")
    assert json.loads(script_json(value)) == value
    with pytest.raises(ValueError, match="Out of range"):
        script_json(math.nan)


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda r: r.update(schema="roofline.prediction/9"), "roofline.prediction/1"),
        (lambda r: r.pop("schema"), "schema"),
        (lambda r: r.pop("memory"), "memory"),
        (lambda r: r.update(phases=[1]), "phases"),
        (lambda r: r["phases"].update(decode=3), "decode"),
        (lambda r: r["phases"]["decode"].pop("kernels"), "decode.kernels"),
        (lambda r: r["phases"]["decode"].update(kernels=["x"]), "decode.kernels"),
        (lambda r: r["roofs"].update(matrix_flop_per_s=None), "roofs.matrix_flop_per_s"),
        (lambda r: r.update(not_modelled="x" * 10_000), "not_modelled"),
        (lambda r: r["band"].update(families={"gemm": 1}), "gemm"),
    ],
)
def test_a_damaged_record_is_an_error_that_names_the_part(record: dict[str, Any], damage: Any, named: str) -> None:
    broken = copy.deepcopy(record)
    damage(broken)
    with pytest.raises(RooflineError, match=re.escape(named)) as caught:
        render(broken)
    assert "Accepted" in str(caught.value) and len(str(caught.value)) < 400


KERNEL = {"name": "k", "count": 2, "flop": 1e12, "intensity_flop_per_byte": 50.0, "total_s": 0.01, "bound": "memory"}


def small(*kernels: dict[str, Any]) -> dict[str, Any]:
    """A record of one phase, with 1e12 byte/s and a peak of 2e14 FLOP/s: the ridge is at 200 FLOP/byte."""
    return {
        "phases": {"prefill": {"total_s": 0.1, "kernels": list(kernels)}, "decode": None},
        "roofs": {
            "dram_byte_per_s": 1e12,
            "vector_flop_per_s": 1e13,
            "matrix_flop_per_s": {"bf16": 2e14, "fp16": 2e14},
        },
    }


def test_roofline_places_kernels_at_intensity_and_rate_under_roofs_that_meet_at_the_ridge() -> None:
    drawn = kernel_figures.roofline(small(KERNEL, {**KERNEL, "name": "copy", "flop": 0.0}))["data"]
    slope, matrix, vector, points = drawn
    assert (slope["x"][1], slope["y"][1]) == (200.0, 2e14)
    assert slope["y"][0] == pytest.approx(slope["x"][0] * 1e12, rel=1e-15)
    assert (matrix["x"][0], matrix["y"], vector["x"][0]) == (200.0, [2e14, 2e14], 10.0)
    assert matrix["name"] == "bf16, fp16 200 TFLOP/s"  # equal rates share one roof
    assert (points["x"], points["y"]) == ([50.0], [1e14])  # 1e12 FLOP in 0.01 s
    assert points["marker"]["size"] == [round(7 + 20 * math.sqrt(0.2), 2)]  # 2 x 0.01 s of 0.1 s
    assert kernel_figures.unplaced(small(KERNEL, {**KERNEL, "name": "copy", "flop": 0.0})) == ["copy"]


def test_waterfall_starts_each_kernel_where_the_longer_one_ended() -> None:
    often = {**KERNEL, "name": "often", "count": 80, "total_s": 0.001, "bound": "compute"}
    drawn = kernel_figures.waterfall(small(KERNEL, often)["phases"]["prefill"])
    compute, memory, whole = drawn["data"]
    assert (compute["y"], compute["base"], compute["text"]) == ([0], [0.0], ["80 %"])
    assert compute["x"] == [pytest.approx(80.0)]  # in ms: 80 x 0.001 s
    assert (memory["y"], memory["base"], memory["x"]) == ([1], [pytest.approx(80.0)], [pytest.approx(20.0)])
    assert whole["x"] == [pytest.approx(100.0)] * 2
    assert drawn["layout"]["yaxis"]["ticktext"] == ["often", "k"]
    assert compute["marker"]["pattern"]["shape"] != memory["marker"]["pattern"]["shape"]
    assert kernel_figures.longest(small(KERNEL, often)["phases"]["prefill"], 1) == [("often", pytest.approx(0.8))]


MAP = {
    "batch": [1.0, 2.0, 4.0],
    "context": [128.0, 256.0],
    "tpot_s": [[0.01, 0.02], [0.01, 0.02], [0.02, 0.03]],
    "bound": [["memory", "memory"], ["memory", "memory"], ["compute", "memory"]],
    "max_batch": [3.0, 2.0],
    "scenario_context": 128.0 * math.sqrt(2.0),
}


def test_the_map_has_the_flip_line_between_cells_of_different_bounds_and_the_scenario_between_its_neighbours() -> None:
    drawn = scenario_figures.decode_map(MAP, 2)
    assert drawn is not None
    cells, _, flip, veil, full, star, *_ = drawn["data"]
    assert cells["z"] == [[1, 1], [1, 1], [0, 1]]
    # the compute cell is column 0, row 2: its right and its lower edge
    assert list(zip(flip["x"], flip["y"], strict=True))[:5] == [
        (-0.5, 1.5), (0.5, 1.5), (None, None), (0.5, 1.5), (0.5, 2.5),
    ]  # fmt: skip
    assert (star["x"], star["y"]) == ([pytest.approx(0.5)], [pytest.approx(1.0)])
    assert full["y"][1:3] == [pytest.approx(1.0 + math.log2(1.5)), pytest.approx(1.0)]  # 3 of 1, 2, 4 and 2
    assert veil["fill"] == "toself"
    assert "does not fit: 3 do" in cells["text"][2][0] and "does not fit" not in cells["text"][1][0]


@pytest.mark.parametrize(
    "damage",
    [{"batch": []}, {"bound": [["memory"]]}, {"context": [2.0, 1.0]}, {"tpot_s": None}, {"batch": [1, "x", 4]}],
    ids=range(5),
)
def test_a_map_without_a_grid_is_not_drawn(damage: dict[str, Any]) -> None:
    assert scenario_figures.decode_map({**MAP, **damage}, 2) is None


def test_latency_is_drawn_over_throughput_with_the_service_level_and_what_does_not_fit_apart() -> None:
    curve = {
        "batch": [1.0, 2.0, 4.0],
        "ttft_s": [0.1, 0.2, 0.4],
        "tpot_s": [0.01, 0.01, 0.02],
        "output_token_per_s": [100.0, 200.0, 200.0],
        "fits": [True, True, False],
    }
    drawn = scenario_figures.latency_and_throughput({"d": curve}, 0.05, {"d": 2})
    assert drawn is not None
    fitting, beyond, level = drawn["data"]
    assert (fitting["x"], fitting["y"]) == ([100.0, 200.0], [0.01, 0.01])
    assert beyond["x"] == [200.0, 200.0] and beyond["line"]["dash"] == "dot"
    assert level["y"] == [0.05, 0.05]
    assert fitting["marker"]["symbol"][1] == "star" != fitting["marker"]["symbol"][0]
    assert scenario_figures.latency_and_throughput({"d": {"tpot_s": [None]}}) is None


def test_roofs_of_caches_run_beside_the_one_of_dram_up_to_the_highest_peak() -> None:
    record = small(KERNEL)
    record["roofs"]["levels"] = [{"name": "cache", "byte_per_s": 4e12}, {"name": "none", "byte_per_s": None}, "text"]
    dram, cache, *_ = kernel_figures.roofline(record)["data"]
    assert (cache["x"][1], cache["y"][1]) == (50.0, 2e14)
    assert cache["y"][0] == pytest.approx(4.0 * dram["y"][0]) and cache["line"]["dash"] == "dash"


@pytest.mark.parametrize(
    ("citation", "address"),
    [
        (
            "NVIDIA ai-dynamo/aiconfigurator @095f58a, x.yaml",
            "https://github.com/ai-dynamo/aiconfigurator/tree/095f58a",
        ),
        ("stas00/ml-engineering (2026-08-22), network/README.md", "https://github.com/stas00/ml-engineering"),
        (
            "glennklockwood.com/garden/processors/h100 (cites NVIDIA)",
            "https://glennklockwood.com/garden/processors/h100",
        ),
        ("general knowledge, no document at hand", None),
        ("javascript:alert(1)//a/b", None),
        ('x" onclick="alert(1)', None),
    ],
)
def test_a_citation_links_to_the_page_it_names(record: dict[str, Any], citation: str, address: str | None) -> None:
    fact = {"fact": "f", "printed": "1 s", "kind": "measured", "source": citation, "date": None}
    page = Page(render({**record, "sources": {"model": None, "facts": [fact]}}))
    links = [held["href"] for tag, held in page.elements if tag == "a" and not str(held["href"]).startswith("#")]
    assert links == ([address] if address else [])
    assert citation in page.shown


def test_memory_bar_stacks_to_the_sum_and_marks_the_capacity() -> None:
    held = {"weight_byte": 4e9, "kv_byte": 3e9, "activation_byte": 2e9, "reserve_byte": 1e9, "capacity_byte": 8e9}
    *parts, limit = scenario_figures.memory(held)["data"]
    assert [part["x"][0] for part in parts] == [4.0, 3.0, 2.0, 1.0]
    assert limit["x"] == [8.0, 8.0]
    assert scenario_figures.memory(held)["layout"]["xaxis"]["range"][1] == pytest.approx(10.5)


def test_plotly_text_is_escaped_because_plotly_reads_links_in_it() -> None:
    name = '<a href="https://example.org">x</a>'
    drawn = json.dumps(
        [
            kernel_figures.roofline(small({**KERNEL, "name": name})),
            kernel_figures.waterfall({"kernels": [{**KERNEL, "name": name}]}),
        ]
    )
    assert "<a" not in drawn and html.escape("<a") in drawn


def test_table_cells_keep_the_raw_si_value_beside_what_is_shown() -> None:
    table = kernel_table("prefill", small({**KERNEL, "total_s": 0.012345})["phases"]["prefill"])
    cells = {column.key: (unit, *cell) for (column, unit, _), cell in zip(table.columns, table.rows[0], strict=True)}
    assert cells["total_s"] == ("ms", "12.3", 0.012345)
    assert cells["step_s"] == ("ms", "24.7", 0.02469)
    assert cells["share"] == ("%", "24.7", pytest.approx(0.2469))
    assert cells["flop"] == ("TFLOP", "1", 1e12)
    assert cells["link_byte"][1:] == ("–", None)


def test_of_roofs_whose_names_would_touch_those_of_formats_in_use_are_drawn() -> None:
    roofs = {"matrix_flop_per_s": {"fp8": 2e15, "bf16": 1e15, "tf32": 5e14}, "dram_byte_per_s": 1e12}

    def flat(height: int) -> list[str]:
        drawn = under_roofs([], roofs, [1.0, 1e3], [1e11, 1e15], height, ["bf16"])["data"]
        return [trace["name"].split()[0] for trace in drawn if trace["y"][0] == trace["y"][1]]

    assert flat(600) == ["fp8", "bf16", "tf32"]
    assert flat(300) == ["bf16"]
