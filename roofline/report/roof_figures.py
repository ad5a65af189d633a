"""The roofs of a device in the log-log plane of FLOP/s over FLOP/byte, and measured and predicted rows under them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log10

from .figures import NEUTRAL, SMALL, Figure, axis, below, colour, layout, line, safe, symbol
from .format import clip, finite, number, quantity, seconds, size
from .parts import Record, listed


@dataclass(frozen=True, slots=True)
class Roof:
    """A straight line in the log-log plane, from and to (FLOP/byte, FLOP/s), its width in pixels and its dash."""

    title: str
    start: tuple[float, float]
    end: tuple[float, float]
    width: float
    dash: str = "solid"


def roofs_of(roofs: Record, left: float, right: float) -> list[Roof]:
    """The slope of DRAM and of every memory level above it up to the highest peak, and one flat line per different peak
    from the slope of DRAM to the right.
    """
    bandwidth = finite(roofs.get("dram_byte_per_s"))
    by_rate: dict[float, list[str]] = {}
    for name, rate in [*roofs["matrix_flop_per_s"].items(), ("vector units", roofs.get("vector_flop_per_s"))]:
        if (found := finite(rate)) and found > 0.0:
            by_rate.setdefault(found, []).append(str(name))
    if not bandwidth or bandwidth <= 0.0 or not by_rate:
        return []
    peak = max(by_rate)
    right = max(right, 20.0 * peak / bandwidth)
    levels = [("DRAM", bandwidth, 3.0, "solid")]
    for level in listed(roofs, "levels"):
        rate = finite(level.get("byte_per_s")) if isinstance(level, Mapping) else None
        if rate and rate > bandwidth and left < peak / rate:
            levels.append((str(level.get("name")), rate, 1.5, "dash"))
    slopes = (
        Roof(f"{clip(name, 24)} {quantity(rate, 'B/s')}", (left, left * rate), (peak / rate, peak), width, dash)
        for name, rate, width, dash in levels
    )
    flat = (
        Roof(f"{clip(', '.join(names), 40)} {quantity(rate, 'FLOP/s')}", (rate / bandwidth, rate), (right, rate), 1.5)
        for rate, names in sorted(by_rate.items(), reverse=True)
    )
    drawn = (*slopes, *flat)
    return [roof for roof in drawn if all((finite(value) or 0.0) > 0.0 for value in (*roof.start, *roof.end))]


def roof_trace(roof: Roof) -> Figure:
    """The line of a roof."""
    ends = zip(roof.start, roof.end, strict=True)
    x, y = (list(pair) for pair in ends)
    return line(safe(roof.title), x, y, hoverinfo="name", line={"width": roof.width, "dash": roof.dash})


def roof_label(roof: Roof) -> Figure:
    """The name of a roof: a flat one's above its right end, a slope's to its left, DRAM's the lowest."""
    flat = roof.start[1] == roof.end[1]
    share = 1.0 if flat else 0.5 if roof.dash == "solid" else 0.75
    x, y = (log10(start) + share * (log10(end) - log10(start)) for start, end in zip(roof.start, roof.end, strict=True))
    at = {"xanchor": "right", "yanchor": "bottom", **({} if flat else {"xshift": -6, "bgcolor": NEUTRAL})}
    return {"x": x, "y": y, "text": safe(roof.title), "showarrow": False, "font": SMALL, **at}


_LABEL_PIXELS = 18.0
"""Height of the name of a roof with room for the points under it."""


def _apart(roofs: Sequence[Roof], least: float, used: Sequence[str]) -> list[Roof]:
    """The `roofs` without flat ones whose names would touch, `least` decades apart: first of all those of the formats
    that are `used` stay, then the highest.
    """
    flat = [roof for roof in roofs if roof.start[1] == roof.end[1]]
    flat.sort(key=lambda roof: (not set(roof.title.replace(",", "").split()) & set(used), -roof.end[1]))
    kept: list[Roof] = []
    for roof in flat:
        if all(abs(log10(roof.end[1] / other.end[1])) >= least for other in kept):
            kept.append(roof)
    return [roof for roof in roofs if roof.start[1] != roof.end[1] or roof in kept]


def under_roofs(
    traces: Sequence[Figure],
    roofs: Record,
    x: Sequence[float],
    y: Sequence[float],
    height: int,
    used: Sequence[str] = (),
) -> Figure:
    """`traces` at FLOP/s over FLOP/byte under the roofs of a device; `x` and `y`: where they have points. Of roofs
    whose names would touch, those of the formats that are `used` are drawn.
    """
    left, right = 0.5 * min([*x, 1.0]), 20.0 * max([*x, 1.0])
    drawn = roofs_of(roofs, left, right)
    seen = [*y, *(roof.end[1] for roof in drawn)] or [1.0]
    low, high = log10(min(seen)) - 0.4, log10(max(seen)) + 0.5
    drawn = _apart(drawn, _LABEL_PIXELS * (high - low) / max(height - 130.0, 100.0), used)
    right = max([right, *(roof.end[0] for roof in drawn)])
    across = {"type": "log", "exponentformat": "power", "dtick": 1, "range": [log10(left), log10(right) + 0.05]}
    up = {"type": "log", "exponentformat": "SI extended", "dtick": 1}
    return {
        "data": [*map(roof_trace, drawn), *traces],
        "layout": layout(
            height=height,
            legend=below(height),
            annotations=[roof_label(roof) for roof in drawn],
            xaxis=axis("FLOP per byte of memory traffic", **across),
            yaxis=axis("FLOP/s reached", range=[low, high], **up),
        ),
    }


def measured_under_roofs(series: Sequence[Record], roofs: Record) -> Figure:
    """Measured (filled) and predicted (hollow) rows of one family under the roofs of its device; a line joins the two
    of a row, which stand at the same FLOP/byte. A colour and a shape for each format.
    """
    traces: list[Figure] = []
    x: list[float] = []
    y: list[float] = []
    for i, entry in enumerate(series):
        points = _placed(entry)
        intensities = [point.intensity for point in points]
        measured, predicted = [point.measured for point in points], [point.predicted for point in points]
        name, fill = safe(clip(entry.get("dtype"), 24)), colour(i)
        joined = {
            "x": [value for point in points for value in (point.intensity, point.intensity, None)],
            "y": [value for point in points for value in (point.measured, point.predicted, None)],
        }
        traces.append({**line(name, [], [], line={"color": fill}), **joined, "opacity": 0.6})
        for title, heights, suffix, width in (("measured", measured, "", 0), ("predicted", predicted, "-open", 1.5)):
            marker = {"color": fill, "symbol": symbol(i) + suffix, "size": 7, "line": {"width": width, "color": fill}}
            at = {"x": intensities, "y": heights, "hovertext": [point.text for point in points], "hoverinfo": "text"}
            traces.append({"type": "scatter", "mode": "markers", "name": f"{name}, {title}", **at, "marker": marker})
        x, y = [*x, *intensities], [*y, *measured, *predicted]
    return under_roofs(traces, roofs, x, y, 520, [str(entry.get("dtype")) for entry in series])


_PLACED = ("intensity_flop_per_byte", "measured_flop_per_s", "predicted_flop_per_s")
_TOLD = ("flop", "memory_byte", "measured_s", "predicted_s")


@dataclass(frozen=True, slots=True)
class Point:
    """What hovering over a row shows, its FLOP/byte, and its FLOP/s measured and predicted."""

    text: str
    intensity: float
    measured: float
    predicted: float


def _placed(entry: Record) -> list[Point]:
    """The rows that logarithmic axes can show."""
    found = []
    for row in zip(*(listed(entry, name) for name in (*_PLACED, *_TOLD)), strict=False):
        at = [value for raw in row[:3] if (value := finite(raw)) and value > 0.0]
        if len(at) == 3:
            found.append(Point(_row_text(entry, *row), *at))
    return found


def _row_text(entry: Record, *row: object) -> str:
    intensity, measured_rate, predicted_rate, flop, moved, measured_s, predicted_s = row
    lines = (
        f"<b>{safe(clip(entry.get('family'), 40))}</b> {safe(clip(entry.get('dtype'), 24))}",
        f"{quantity(flop, 'FLOP')}, {size(moved)} read and written: {number(intensity)} FLOP/byte",
        f"measured {seconds(measured_s)}: {quantity(measured_rate, 'FLOP/s')}",
        f"predicted {seconds(predicted_s)}: {quantity(predicted_rate, 'FLOP/s')}",
    )
    return "<br>".join(lines)
