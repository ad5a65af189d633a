"""Figures of kernels: the roofline that they stand under, and where the time of a step goes."""

from collections.abc import Iterable, Mapping
from math import sqrt
from typing import Any

from .figures import (
    BOUND_COLOUR,
    BOUND_PATTERN,
    BOUND_SYMBOL,
    NEUTRAL,
    PATTERN,
    SMALL,
    Figure,
    axis,
    layout,
    line,
    safe,
)
from .format import clip, column_unit, finite, number, percent, quantity, seconds, size
from .parts import Record
from .roof_figures import under_roofs


def step_s(kernel: Record) -> float | None:
    """Seconds per step of all executions of a kernel; None where the record states none."""
    return _product(kernel.get("count"), kernel.get("total_s"))


def roofline(record: Record, height: int = 600) -> Figure:
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
    return under_roofs(
        [_point_trace(*key, group) for key, group in traces], record["roofs"], x, y, height, _used(record)
    )


def _used(record: Record) -> list[str]:
    """Formats in which the scenario computes."""
    precision = (record.get("scenario") or {}).get("precision")
    return [str(name) for name in precision.values()] if isinstance(precision, Mapping) else []


def unplaced(record: Record) -> list[str]:
    """Names of the kernels that the roofline cannot show, each once."""
    return list(dict.fromkeys(str(kernel.get("name")) for _, kernel in _kernels(record) if not _place(kernel)))


def longest(phase: Record, most: int = 2) -> list[tuple[str, float]]:
    """The `most` kernels that take longest in a step, and their share of it."""
    total = finite(phase.get("total_s")) or 0.0
    timed = [
        (str(kernel.get("name")), time / total) for kernel in phase["kernels"] if total and (time := step_s(kernel))
    ]
    return sorted(timed, key=lambda pair: -pair[1])[:most]


def waterfall(phase: Record) -> Figure:
    """One step from its start to its end: a bar for each kernel, the longest first, each where the one before ends;
    coloured by what binds it.
    """
    timed = [(time, kernel) for kernel in phase["kernels"] if (time := step_s(kernel)) is not None]
    timed.sort(key=lambda pair: -pair[0])
    total = finite(phase.get("total_s")) or sum(time for time, _ in timed) or 1.0
    unit, scale = column_unit([total], "s")
    bars: dict[str, list[tuple[int, float, float, Record]]] = {}
    start = 0.0
    for row, (time, kernel) in enumerate(timed):
        bars.setdefault(str(kernel.get("bound")), []).append((row, start, time, kernel))
        start += time
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": f"{safe(clip(bound, 24))}-bound",
            "base": [begin / scale for _, begin, _, _ in group],
            "x": [time / scale for _, _, time, _ in group],
            "y": [row for row, _, _, _ in group],
            "text": [percent(time / total) for _, _, time, _ in group],
            "textposition": "outside",
            "textfont": SMALL,
            "cliponaxis": False,
            "hovertext": [_kernel_text("", kernel) for _, _, _, kernel in group],
            "hoverinfo": "text",
            "marker": {
                "color": BOUND_COLOUR.get(bound, NEUTRAL),
                "pattern": {"shape": BOUND_PATTERN.get(bound, "-"), **PATTERN},
            },
        }
        for bound, group in sorted(bars.items())
    ]
    end = max(start, total) / scale
    ticks = [safe(clip(kernel.get("name"), 22)) for _, kernel in timed]
    rows = {"tickvals": list(range(len(timed))), "ticktext": ticks, "showgrid": False}
    whole = line("whole step", [total / scale] * 2, [-0.5, len(timed) - 0.5], line={"dash": "dot"})
    return {
        "data": [*data, whole],
        "layout": layout(
            height=130 + 24 * len(timed),
            bargap=0.25,
            xaxis=axis(f"time, {unit}", range=[0.0, 1.22 * end or 1.0], nticks=5, tickangle=0),
            yaxis=axis("", automargin=True, tickfont=SMALL, range=[len(timed) - 0.4, -0.6], **rows),
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
    colour, symbol = BOUND_COLOUR.get(bound, NEUTRAL), BOUND_SYMBOL.get(bound, "x")
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
