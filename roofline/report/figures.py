"""Figures of a prediction as Plotly dicts {data, layout}, made from the rows of a record.

Plain dicts: nothing of Plotly is needed to build them, and the same record always gives the same bytes. Text colours
and grid lines come from the page's style sheet, which knows light, dark and paper; only data colours are set here.
Colours: Okabe and Ito, "Color Universal Design" (2008). Colour never speaks alone: shapes or labels say the same.
"""

import html
from collections.abc import Iterable
from dataclasses import dataclass
from math import log10, sqrt
from typing import Any

from .format import clip, column_unit, finite, number, percent, quantity, seconds, size
from .parts import Record

Figure = dict[str, Any]

BOUND_COLOUR = {"compute": "#0072B2", "memory": "#E69F00", "link": "#009E73", "overhead": "#CC79A7"}
_BOUND_SYMBOL = {"compute": "circle", "memory": "square", "link": "triangle-up", "overhead": "diamond"}
_MEMORY_TERM = (
    ("weights", "weight_byte", "#56B4E9"),
    ("KV cache", "kv_byte", "#D55E00"),
    ("activations", "activation_byte", "#F0E442"),
    ("engine reserve", "reserve_byte", "#999999"),
)
NEUTRAL = "#808080"
LIMIT = "#D00000"
LEGEND = {"orientation": "h", "x": 0, "traceorder": "normal", "itemsizing": "constant"}
SMALL = {"size": 11}


@dataclass(frozen=True, slots=True)
class Roof:
    """A straight line in the log-log plane, from and to (FLOP/byte, FLOP/s), and its width in pixels."""

    title: str
    start: tuple[float, float]
    end: tuple[float, float]
    width: float


def step_s(kernel: Record) -> float | None:
    """Seconds per step of all executions of a kernel; None where the record states none."""
    return _product(kernel.get("count"), kernel.get("total_s"))


def roofline(record: Record) -> Figure:
    """Every kernel of both phases at (FLOP/byte, FLOP/s reached) under the roofs of the device, log-log.

    Kernels without FLOP or without memory traffic have no place in it: `unplaced` counts them. Marker area grows with
    the share of the phase's time.
    """
    points: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for phase, kernel in _kernels(record):
        place = _place(kernel)
        if place:
            at = points.setdefault((phase, str(kernel.get("bound"))), [])
            drawn = {"text": _kernel_text(phase, kernel), "size": _marker(kernel, record["phases"][phase])}
            at.append({"x": place[0], "y": place[1], **drawn})
    x = [point["x"] for group in points.values() for point in group]
    y = [point["y"] for group in points.values() for point in group]
    order = list(record["phases"])
    traces = sorted(points.items(), key=lambda item: (order.index(item[0][0]), item[0][1]))
    ends = (0.5 * min([*x, 1.0]), 20.0 * max([*x, 1.0]))
    roofs = _roofs(record["roofs"], *ends)
    seen = [*y, *(roof.end[1] for roof in roofs)] or [1.0]
    return {
        "data": [*map(_roof_trace, roofs), *(_point_trace(*key, group) for key, group in traces)],
        "layout": layout(
            height=600,
            legend={**LEGEND, "y": -0.14, "yanchor": "top"},
            annotations=[_roof_label(roof) for roof in roofs],
            xaxis=axis(
                "FLOP per byte of memory traffic",
                type="log",
                exponentformat="power",
                dtick=1,
                range=[log10(ends[0]), log10(max([ends[1], *(roof.end[0] for roof in roofs)])) + 0.05],
            ),
            yaxis=axis(
                "FLOP/s reached",
                type="log",
                exponentformat="SI extended",
                dtick=1,
                range=[log10(min(seen)) - 0.4, log10(max(seen)) + 0.5],
            ),
        ),
    }


def unplaced(record: Record) -> list[str]:
    """Names of the kernels that the roofline cannot show, each once."""
    return list(dict.fromkeys(str(kernel.get("name")) for _, kernel in _kernels(record) if not _place(kernel)))


def time_by_kernel(phase: Record) -> Figure:
    """Horizontal bars, the longest on top: seconds per step of each kernel, coloured by what binds it."""
    timed = [(time, kernel) for kernel in phase["kernels"] if (time := step_s(kernel)) is not None]
    timed.sort(key=lambda pair: -pair[0])
    total = finite(phase.get("total_s")) or sum(time for time, _ in timed) or 1.0
    longest = timed[0][0] if timed else 0.0
    unit, scale = column_unit([longest], "s")
    bars: dict[str, list[tuple[int, float, Record]]] = {}
    for row, (time, kernel) in enumerate(timed):
        bars.setdefault(str(kernel.get("bound")), []).append((row, time, kernel))
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": f"{safe(bound)}-bound",
            "x": [time / scale for _, time, _ in group],
            "y": [row for row, _, _ in group],
            "text": [f"{percent(time / total)} {safe(bound)}" for _, time, _ in group],
            "textposition": "outside",
            "textfont": SMALL,
            "cliponaxis": False,
            "hovertext": [_kernel_text("", kernel) for _, _, kernel in group],
            "hoverinfo": "text",
            "marker": {"color": BOUND_COLOUR.get(bound, NEUTRAL)},
        }
        for bound, group in sorted(bars.items())
    ]
    ticks = [safe(clip(kernel.get("name"), 26)) for _, kernel in timed]
    rows = {"tickvals": list(range(len(timed))), "ticktext": ticks, "autorange": "reversed", "showgrid": False}
    return {
        "data": data,
        "layout": layout(
            height=130 + 24 * len(timed),
            bargap=0.25,
            xaxis=axis(f"{unit} per step", range=[0.0, 1.85 * longest / scale or 1.0], nticks=5, tickangle=0),
            yaxis=axis("", automargin=True, tickfont=SMALL, ticks="outside", tickcolor="rgba(0,0,0,0)", **rows),
            dragmode=False,
        ),
    }


def memory(held: Record) -> Figure:
    """One stacked bar, what fills the device's memory, with a line at its capacity."""
    terms = [
        (name, amount, colour) for name, key, colour in _MEMORY_TERM if (amount := finite(held.get(key))) is not None
    ]
    used, capacity = sum(amount for _, amount, _ in terms), finite(held.get("capacity_byte"))
    unit, scale = column_unit([capacity, used], "B")
    data: list[Figure] = [
        {
            "type": "bar",
            "orientation": "h",
            "name": f"{name} {size(amount)}",
            "x": [amount / scale],
            "y": [0],
            "hovertext": [f"{name}: {size(amount)}"],
            "hoverinfo": "text",
            "marker": {"color": colour, "line": {"color": NEUTRAL, "width": 1}},
        }
        for name, amount, colour in terms
    ]
    if capacity is not None:
        limit = {
            "type": "scatter",
            "mode": "lines",
            "name": f"capacity {size(capacity)}",
            "x": [capacity / scale, capacity / scale],
            "y": [-0.5, 0.5],
            "hoverinfo": "name",
            "line": {"color": LIMIT, "width": 4, "dash": "dash"},
        }
        data.append(limit)
    return {
        "data": data,
        "layout": layout(
            height=230,
            barmode="stack",
            xaxis=axis(unit, range=[0.0, 1.05 * max(used, capacity or 0.0) / scale or 1.0], nticks=6),
            yaxis={"visible": False, "range": [-0.55, 0.55]},
            dragmode=False,
        ),
    }


def _product(left: object, right: object) -> float | None:
    """The product of two finite numbers where it is finite too, else None."""
    a, b = finite(left), finite(right)
    return None if a is None or b is None else finite(a * b)


def _kernels(record: Record) -> Iterable[tuple[str, Record]]:
    for name, phase in record["phases"].items():
        for kernel in (phase or {}).get("kernels", ()):
            yield name, kernel


def _place(kernel: Record) -> tuple[float, float] | None:
    """(FLOP/byte, FLOP/s), or None where either cannot be drawn on a logarithmic axis."""
    flop, time = finite(kernel.get("flop")), finite(kernel.get("total_s"))
    intensity = finite(kernel.get("intensity_flop_per_byte"))
    if not flop or not time or not intensity or min(flop, time, intensity) <= 0.0:
        return None
    rate = finite(flop / time)
    return (intensity, rate) if rate else None


def _marker(kernel: Record, phase: Record) -> float:
    """Marker diameter in pixels: 7 for no share of the phase's time, 27 for all of it."""
    total, time = finite(phase.get("total_s")), step_s(kernel)
    share = min(max(time / total, 0.0), 1.0) if total and time else 0.0
    return round(7.0 + 20.0 * sqrt(share), 2)


def _kernel_text(phase: str, kernel: Record) -> str:
    """What a reader sees on hovering over a kernel."""
    moved = (finite(kernel.get("read_byte")) or 0.0) + (finite(kernel.get("write_byte")) or 0.0)
    lines = (
        f"<b>{safe(clip(kernel.get('name'), 60))}</b>{' in ' + safe(phase) if phase else ''}",
        f"{quantity(kernel.get('flop'), 'FLOP')}, {size(moved)} read and written",
        f"{number(kernel.get('intensity_flop_per_byte'))} FLOP/byte",
        f"{seconds(kernel.get('total_s'))} (bare roofline {seconds(kernel.get('roofline_s'))})",
        f"expected within {seconds(kernel.get('low_s'))} to {seconds(kernel.get('high_s'))}",
        f"{number(kernel.get('count'))} times a step: {seconds(step_s(kernel))}",
        f"bound by {safe(kernel.get('bound'))}",
    )
    return "<br>".join(lines)


def _point_trace(phase: str, bound: str, points: list[dict[str, Any]]) -> Figure:
    """Markers of one phase and bound: prefill filled, decode hollow."""
    colour, symbol = BOUND_COLOUR.get(bound, NEUTRAL), _BOUND_SYMBOL.get(bound, "x")
    hollow = "-open" if phase == "decode" else ""
    return {
        "type": "scatter",
        "mode": "markers",
        "name": f"{safe(phase)}, {safe(bound)}-bound",
        "x": [point["x"] for point in points],
        "y": [point["y"] for point in points],
        "hovertext": [point["text"] for point in points],
        "hoverinfo": "text",
        "marker": {
            "color": colour,
            "symbol": symbol + hollow,
            "size": [point["size"] for point in points],
            "opacity": 1,
            "line": {"width": 2, "color": colour} if hollow else {"width": 1, "color": NEUTRAL},
        },
    }


def _roofs(roofs: Record, left: float, right: float) -> list[Roof]:
    """The DRAM slope up to the highest peak, and one flat line per different peak from the slope to the right."""
    bandwidth = finite(roofs.get("dram_byte_per_s"))
    by_rate: dict[float, list[str]] = {}
    for name, rate in [*roofs["matrix_flop_per_s"].items(), ("vector units", roofs.get("vector_flop_per_s"))]:
        if (found := finite(rate)) and found > 0.0:
            by_rate.setdefault(found, []).append(str(name))
    if not bandwidth or bandwidth <= 0.0 or not by_rate:
        return []
    peak = max(by_rate)
    right = max(right, 20.0 * peak / bandwidth)
    slope = Roof(f"DRAM {quantity(bandwidth, 'B/s')}", (left, left * bandwidth), (peak / bandwidth, peak), 3.0)
    flat = (
        Roof(f"{clip(', '.join(names), 40)} {quantity(rate, 'FLOP/s')}", (rate / bandwidth, rate), (right, rate), 1.5)
        for rate, names in sorted(by_rate.items(), reverse=True)
    )
    return [slope, *flat]


def _roof_trace(roof: Roof) -> Figure:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": safe(roof.title),
        "x": [roof.start[0], roof.end[0]],
        "y": [roof.start[1], roof.end[1]],
        "hoverinfo": "name",
        "showlegend": False,
        "line": {"color": NEUTRAL, "width": roof.width},
    }


def _roof_label(roof: Roof) -> Figure:
    """The name of a roof: a flat one's above its right end, the slope's beside its middle."""
    flat = roof.start[1] == roof.end[1]
    x = log10(roof.end[0]) if flat else 0.5 * (log10(roof.start[0]) + log10(roof.end[0]))
    y = log10(roof.end[1]) if flat else 0.5 * (log10(roof.start[1]) + log10(roof.end[1]))
    anchor = (
        {"xanchor": "right", "yanchor": "bottom"} if flat else {"xanchor": "right", "yanchor": "bottom", "xshift": -6}
    )
    return {"x": x, "y": y, "text": safe(roof.title), "showarrow": False, "font": SMALL, **anchor}


def axis(title: str, **settings: Any) -> Figure:
    """An axis with its title."""
    return {"title": {"text": title}, "zeroline": False, **settings}


def layout(**settings: Any) -> Figure:
    """The layout that all figures share, and what one of them sets."""
    return {
        "autosize": True,
        "margin": {"l": 56, "r": 16, "t": 30, "b": 48},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 13},
        "legend": {**LEGEND, "y": 1.02, "yanchor": "bottom"},
        "showlegend": True,
        "hoverlabel": {"align": "left"},
        **settings,
    }


def safe(text: object) -> str:
    """Text that Plotly shows as it is: it reads a few HTML tags, links among them."""
    return html.escape(str(text))
