"""What all figures share: colours, axes and layout. A figure is a Plotly dict {data, layout}, made from record rows.

Plain dicts: nothing of Plotly is needed to build them, and the same record always gives the same bytes. Text colours
and grid lines come from the page's style sheet, which knows light, dark and paper; only data colours are set here.
Colours: Okabe and Ito, "Color Universal Design" (2008). Colour never speaks alone: shapes, patterns or labels say the
same.
"""

import html
from math import ceil, floor, log10
from typing import Any

from .format import number, quantity, seconds

Figure = dict[str, Any]

BOUND_COLOUR = {"compute": "#0072B2", "memory": "#E69F00", "link": "#009E73", "overhead": "#CC79A7"}
BOUND_SYMBOL = {"compute": "circle", "memory": "square", "link": "triangle-up", "overhead": "diamond"}
BOUND_PATTERN = {"compute": "", "memory": "/", "link": "x", "overhead": "."}
PATTERN = {"fillmode": "overlay", "fgcolor": "#FFFFFF", "fgopacity": 0.6, "size": 7, "solidity": 0.2}

SERIES_COLOUR = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#B0A000", "#808080")
SERIES_SYMBOL = ("circle", "square", "diamond", "triangle-up", "cross", "triangle-down", "hexagon", "x")
SERIES_DASH = ("solid", "dash", "dot", "dashdot", "longdash", "solid", "dash", "dot")
"""One for each series of a figure, in the order of the record."""

NEUTRAL = "#808080"
LIMIT = "#D00000"
LEGEND = {"orientation": "h", "x": 0, "traceorder": "normal", "itemsizing": "constant"}
SMALL = {"size": 11}


def colour(position: int) -> str:
    """The colour of the series at `position`."""
    return SERIES_COLOUR[position % len(SERIES_COLOUR)]


def symbol(position: int) -> str:
    """The marker of the series at `position`."""
    return SERIES_SYMBOL[position % len(SERIES_SYMBOL)]


def below(height: float) -> Figure:
    """A legend under the horizontal axis and its title, in a figure of `height` pixels."""
    return {**LEGEND, "y": -64.0 / max(height - 120.0, 100.0), "yanchor": "top"}


def axis(title: str, **settings: Any) -> Figure:
    """An axis with its title."""
    return {"title": {"text": title, "standoff": 8}, "zeroline": False, **settings}


def log_axis(title: str, low: float, high: float, unit: str = "", **settings: Any) -> Figure:
    """A logarithmic axis from `low` to `high`, both positive: a tick for every decade, for 1, 2 and 5 in each where
    there are few; ticks are SI values with their unit.
    """
    decades = range(floor(log10(low)), ceil(log10(high)) + 1)
    steps = (1.0, 2.0, 5.0) if len(decades) < 5 else (1.0,)
    ticks = [tick for decade in decades for step in steps if low <= (tick := step * 10.0**decade) <= high]
    ends = {"range": [log10(low), log10(high)]}
    shown = {"s": seconds, "": number}.get(unit, lambda tick: quantity(tick, unit))
    names = [shown(tick) for tick in ticks]
    return axis(title, type="log", tickvals=ticks, ticktext=names, tickfont=SMALL, **ends, **settings)


def layout(**settings: Any) -> Figure:
    """The layout that all figures share, and what one of them sets."""
    return {
        "autosize": True,
        "height": 360,
        "margin": {"l": 56, "r": 16, "t": 30, "b": 48},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 13},
        "legend": {**LEGEND, "y": 1.02, "yanchor": "bottom"},
        "showlegend": True,
        "hoverlabel": {"align": "left"},
        **settings,
    }


def line(name: str, x: list[float], y: list[float], **settings: Any) -> Figure:
    """A grey line that says nothing when hovered over."""
    style = {"color": NEUTRAL, "width": 1} | settings.pop("line", {})
    drawn = {"type": "scatter", "mode": "lines", "name": name, "x": x, "y": y, "hoverinfo": "skip"}
    return {**drawn, "showlegend": False, "line": style, **settings}


def safe(text: object) -> str:
    """Text that Plotly shows as it is: it reads a few HTML tags, links among them."""
    return html.escape(str(text))
