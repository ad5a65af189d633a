"""A record as one HTML file: opens offline, asks the network for nothing, and is the same for the same record."""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import format as text
from .figures import Figure
from .parts import Record, plain

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATES = Path(__file__).parent / "templates"
_BOUND = {
    "compute": "compute",
    "memory": "memory bandwidth",
    "link": "the links between devices",
    "overhead": "fixed costs (launches, latency)",
}


@dataclass(frozen=True, slots=True)
class Contents:
    """What one page shows: a plain record, the template that lays it out, its figures, and what else it names."""

    template: str
    record: Record
    figures: Mapping[str, Figure]
    shown: Mapping[str, Any] = field(default_factory=dict)


def script_json(value: Any) -> str:
    """`value` as JSON that no HTML parser reads as markup: ASCII, without `<`, `>` and `&`."""
    dense = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return dense.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _flat(value: Record, path: str = "") -> Iterator[tuple[str, str]]:
    """Leaves of nested objects as (words, text): parallelism.tp is "parallelism tp"."""
    for key, held in value.items():
        words = f"{path} {key}".strip().replace("_", " ")
        if isinstance(held, Mapping):
            yield from _flat(held, words)
        else:
            yield words, text.count(held)


def _unbroken(shown: Callable[..., str]) -> Callable[..., str]:
    """The formatter `shown`, its number and unit kept on one line."""
    return lambda value, *more: shown(value, *more).replace(" ", "\u00a0")


def _ratio(above: Any, below: Any) -> str:
    a, b = text.finite(above), text.finite(below)
    return text.plain(None) if a is None or not b else f"{text.number(a / b)}\u00a0×"


_CITED = (
    (r"([A-Za-z0-9-]{1,39}/[\w.-]{1,99}) @([0-9a-f]{7,40})\b", "https://github.com/{}/tree/{}"),
    (r"([A-Za-z0-9-]{1,39}/[\w.-]{1,99})(?= \(\d{4}-\d\d-\d\d\),)", "https://github.com/{}"),
    (r"(?:https?://)?((?:[a-z0-9-]+\.)+[a-z]{2,12}/[\w./~%+-]*[\w/])", "https://{}"),
)
"""How a citation names a repository (with its commit, or the day it was read) or a web page, and where that is."""


def _linked(citation: Any) -> Any:
    """A citation with the repository or web page that it names as a link; else the text as it is."""
    from markupsafe import Markup, escape

    held = str(citation)
    for pattern, address in _CITED:
        if found := re.search(rf"\b{pattern}", held, re.ASCII):
            link = Markup('<a href="{}" rel="noopener noreferrer">{}</a>').format(
                address.format(*found.groups()), found.group()
            )
            return escape(held[: found.start()]) + link + escape(held[found.end() :])
    return held


PLOTLY = Path(__file__).parent / "static" / "plotly-cartesian.min.js"
"""plotly.js 4.1.1, its bundle of two-dimensional charts (MIT licence beside it), as its publisher ships it.

Kept here, not taken from the plotly package: that costs 70 MB for one file, its other bundle makes pages three times as
large, and a page must stay the same byte for byte whatever is installed.
"""


@cache
def _script(path: Path) -> tuple[str, str]:
    """A script as it can stand inside a page, and its digest for a Content-Security-Policy."""
    source = path.read_text("utf-8").replace("\r\n", "\n").replace("</script", "<\\/script")
    return source, base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()


def _policy(digests: Iterable[str], beside: bool) -> str:
    """A Content-Security-Policy under which only scripts with `digests` run and nothing is fetched, whatever the record
    says. `beside`: scripts from where the page itself lies run too.
    """
    allowed = " ".join([*(f"'sha256-{digest}'" for digest in digests), *(["'self'", "file:"] if beside else [])])
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


@cache
def _environment() -> "Environment":
    """The templates with the filters and functions that they use."""
    from jinja2 import Environment, FileSystemLoader

    made = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    with_unit = (text.seconds, text.size, text.percent, text.money, text.quantity)
    made.filters.update({f.__name__: _unbroken(f) for f in with_unit})
    made.filters.update({f.__name__: f for f in (text.number, text.count, text.clip, text.sentence)})
    made.filters["bound"] = lambda name: _BOUND.get(str(name), name)
    made.globals.update(flat=_flat, ratio=_ratio, span=text.span, finite=text.finite, linked=_linked)
    return made


def html_of(contents: Contents, plotly: str = "") -> str:
    """`contents` as one file. `plotly`: the name of a copy of PLOTLY beside the page; "" puts it into the page."""
    from markupsafe import Markup

    scripts = [_script(path) for path in (*(() if plotly else (PLOTLY,)), _TEMPLATES / "page.js")]
    return (
        _environment()
        .get_template(contents.template)
        .render(
            record=contents.record,
            policy=_policy((digest for _, digest in scripts), bool(plotly)),
            plotly=plotly,
            scripts=[Markup(source) for source, _ in scripts],
            style=Markup((_TEMPLATES / "page.css").read_text("utf-8")),
            data={
                "record": Markup(script_json(contents.record)),
                "figures": Markup(script_json(plain(contents.figures))),
            },
            **contents.shown,
        )
    )
