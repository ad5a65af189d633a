"""`roofline explain`: one number expanded to its formula and inputs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ..api import case_of, split_device
from ..explanation.figures import explanation, figure_names
from ..explanation.node import Citations
from ..io.sources import sources_of
from ..outcome import Case
from ..prediction import check_scenario
from ..report.explanation import explanation_record
from ..report.format import count, number, quantity, seconds
from .options import takes_scenario
from .output import called, check_files, name_files, print_json
from .scenario import NAMES, NUMBERS, Request, single
from .screen import WIDTH, scenario_lines

Node = Mapping[str, Any]

DEPTH = 2
"""Levels below the figure on the screen."""

PREFIXED = frozenset({"B", "FLOP", "B/s", "FLOP/s", "W", "J"})
"""Units that take a prefix on the screen."""


@takes_scenario
def explain_command(
    asked: Request,
    figure: Annotated[
        str | None, typer.Argument(help="What to explain, such as ttft, decode.attention, memory.kv.")
    ] = None,
    depth: Annotated[int, typer.Option(help="Levels to show.", min=1, max=20)] = DEPTH,
    json_: Annotated[bool, typer.Option("--json", help="Print the whole tree as JSON.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write the whole tree as one HTML page.")] = None,
) -> None:
    """Expand one FIGURE of MODEL on DEVICE into its formula and inputs, each with its source."""
    check_files(html=html)
    case = case_of(asked.model, asked.device, **single(asked, "explain"))
    check_scenario(case.model, case.scenario)
    if figure is None:
        typer.echo("\n".join(["Figures that can be explained here:", *(f"  {name}" for name in figure_names(case))]))
        return
    tree = explanation(case, figure, citations(asked, case))
    record = explanation_record(case, figure, tree, called())
    if html is not None:
        from ..report.pages import write_page

        write_page(record, html)
    if json_:
        print_json(record)
    else:
        typer.echo(screen(record, depth))
    name_files(html)


def citations(asked: Request, case: Case) -> Citations:
    """What leaves cite: the facts of the profile, the source of the model's shape, which settings were given."""
    name, _ = split_device(asked.device)
    sources = sources_of(asked.model, name)
    facts = {
        entry["fact"]: f"{entry['printed']} ({entry['kind']}): {entry['source']}"
        + (f", {entry['date']}" if entry["date"] else "")
        for entry in sources["facts"]
    }
    given = {name for name, default in (NUMBERS | NAMES).items() if _given(asked, name) != default}
    return Citations(facts, f"{case.model.name}: {sources['model']['source']}", frozenset(given))


def _given(asked: Request, name: str) -> Any:
    return asked.numbers[name][0] if name in asked.numbers else asked.names[name]


def screen(record: Mapping[str, Any], depth: int) -> str:
    """The tree as indented lines: value and formula of each node, then the sources that its leaves cite."""
    told = _Told({}, [0])
    lines = [*scenario_lines(record), "", *told.lines(record["tree"], "", depth), ""]
    for text, mark in told.marks.items():
        lines += _folded(f"[{mark}] {text}", "")
    more = f"{told.hidden[0]} nodes lie deeper: --depth {depth + 2}, or --json for all. " if told.hidden[0] else ""
    reading = "'=': the expression in the nodes below gives the value; '~': in words, from what is below."
    return "\n".join([*lines, *_folded(more + reading, "")])


@dataclass(frozen=True, slots=True)
class _Told:
    """What a screen has told so far: the marks of the sources cited, and how many nodes lie deeper than it shows."""

    marks: dict[str, int]
    hidden: list[int]

    def lines(self, node: Node, indent: str, depth: int, share: str = "") -> Iterator[str]:
        """A node and those below it."""
        line = f"{indent}{node['name']}  {shown(node['value'], node['unit'])}{share}"
        if node["formula"]:
            line += f"  {'=' if node['exact'] else '~'} {node['formula']}"
        if node["note"]:
            line += f"  ({node['note']})"
        source = node["source"]
        if source["kind"] != "computed":
            text = f"{source['kind']}: {source['text']}"
            line += f"  [{self.marks.setdefault(text, len(self.marks) + 1)}]"
        yield from _folded(line, indent + "      ")
        if depth == 0:
            self.hidden[0] += _size(node) - 1
            return
        parts = node["formula"].split(" + ")
        adds = node["exact"] and parts == [child["name"] for child in node["children"]] and len(parts) > 1
        for child in node["children"]:
            part = f"  {child['value'] / node['value']:.1%}" if adds and node["value"] else ""
            yield from self.lines(child, indent + "  ", depth - 1, part)


def _folded(line: str, indent: str) -> list[str]:
    from textwrap import wrap

    return wrap(line, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _size(node: Node) -> int:
    return 1 + sum(_size(child) for child in node["children"])


def shown(value: float, unit: str) -> str:
    """A value with its unit as people read it."""
    if unit == "s":
        return seconds(value) if value >= 0.0 else f"-{seconds(-value)}"
    if unit in PREFIXED:
        return quantity(value, unit) if value >= 0.0 else f"-{quantity(-value, unit)}"
    return f"{count(value) if not unit else number(value)} {unit}".rstrip()
