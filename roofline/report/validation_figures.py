"""Figures of a validation as Plotly dicts, made from the rows of its record: see figures."""

from collections.abc import Mapping, Sequence
from itertools import compress
from math import log10
from typing import Any

from .figures import LIMIT, NEUTRAL, SMALL, Figure, axis, colour, layout, line, log_axis, safe, symbol
from .format import clip, finite, percent
from .parts import Record, listed

_MARGINS = ((1.1, "10 %", "dash"), (1.25, "25 %", "dot"))
_HEIGHT = 400


def measured_and_predicted(series: Sequence[Record]) -> Figure:
    """Predicted over measured seconds of one family, log-log, with the lines of 10 % and 25 % error; rows faster than
    physics are crosses.
    """
    placed = [(entry, _points(entry)) for entry in series]
    ends = [x for _, points in placed for point in points for x in point[:2]] or [1e-6, 1e-3]
    low, high = 0.7 * min(ends), 1.4 * max(ends)
    lines = [line("prediction = measurement", [low, high], [low, high])]
    for factor, name, dash in _MARGINS:
        for over in (factor, 1.0 / factor):
            shown = over == factor
            off = line(f"± {name}", [low, high], [over * low, over * high], line={"dash": dash})
            lines.append({**off, "showlegend": shown})
    data = [*lines, *(_markers(entry, points, i, 1) for i, (entry, points) in enumerate(placed)), *_crosses(placed)]
    across, up = (log_axis(title, low, high, "s") for title in ("measured", "predicted"))
    return {"data": data, "layout": layout(height=_HEIGHT, xaxis=across, yaxis={**up, "automargin": True})}


def error_by_size(series: Sequence[Record], families: Sequence[Record]) -> Figure:
    """Error of each row over its measured seconds, the median error by size, and the bare roofline's."""
    placed = [(entry, _points(entry)) for entry in series]
    sizes = sorted(abs(point[1] / point[0] - 1.0) for _, points in placed for point in points if not point[3])
    measured = [point[0] for _, points in placed for point in points] or [1e-6, 1e-3]
    reach = sizes[int(0.99 * (len(sizes) - 1))] if sizes else 0.25
    top = 100.0 * min(max(1.1 * reach, 0.3), 2.0)
    data = [_markers(entry, points, i, 2) for i, (entry, points) in enumerate(placed)]
    for i, family in enumerate(families):
        bins = [row for row in listed(family, "by_size") if isinstance(row, Mapping) and finite(row.get("median_s"))]
        x = [row["median_s"] for row in bins]
        name = safe(clip(family.get("dtype"), 24))
        for key, title, sign, dash in (
            ("bias", "median", 100.0, "solid"),
            ("roofline_median_ape", "bare roofline", -100.0, "dash"),
        ):
            y = [None if (value := finite(row.get(key))) is None else sign * value for row in bins]
            data.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers",
                    "name": f"{name}, {title}",
                    "x": x,
                    "y": y,
                    "line": {"color": colour(i), "width": 2, "dash": dash},
                    "marker": {"size": 4, "color": colour(i)},
                    "hoverinfo": "name+y",
                    "showlegend": False,
                }
            )
    return {
        "data": data,
        "layout": layout(
            height=_HEIGHT,
            xaxis=log_axis("measured", 0.7 * min(measured), 1.4 * max(measured), "s"),
            yaxis=axis("predicted / measured − 1, %", range=[-105.0, top], automargin=True),
            shapes=[
                _level(100.0 * (bound - 1.0), dash) for factor, _, dash in _MARGINS for bound in (factor, 2 - factor)
            ]
            + [_level(0.0, "solid")],
        ),
    }


def errors(families: Sequence[Record]) -> Figure:
    """Median error of the predictions and of the bare roofline, one line for each family and format."""
    rows = list(range(len(families)))
    found = {
        key: [_in_percent(family.get(key)) for family in families] for key in ("median_ape", "roofline_median_ape")
    }
    bars: list[Figure] = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": [x for a, b in zip(*found.values(), strict=True) for x in (a, b, None)],
            "y": [y for row in rows for y in (row, row, None)],
            "line": {"color": NEUTRAL, "width": 1},
            "hoverinfo": "skip",
            "showlegend": False,
        }
    ]
    for key, title, fill, shape in (
        ("median_ape", "this prediction", colour(0), "circle"),
        ("roofline_median_ape", "bare roofline", colour(5), "x"),
    ):
        bars.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": title,
                "x": found[key],
                "y": rows,
                "marker": {"color": fill, "symbol": shape, "size": 10},
                "hovertext": [f"{_title(family)}: {percent(family.get(key))}" for family in families],
                "hoverinfo": "text",
            }
        )
    known = [x for column in found.values() for x in column if x and x > 0.0]
    ends = [log10(0.7 * min([*known, 1.0])), log10(1.3 * max([*known, 100.0]))]
    horizontal = axis("median error, %", type="log", range=ends, tickvals=[0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000])
    return {"data": bars, "layout": _by_family(families, horizontal)}


def coverage(families: Sequence[Record], target: object) -> Figure:
    """Share of measurements inside the predicted band, one bar for each family and format, with the share promised."""
    promised = finite(target)
    bars = {
        "type": "bar",
        "orientation": "h",
        "x": [_in_percent(family.get("coverage")) for family in families],
        "y": list(range(len(families))),
        "text": [percent(family.get("coverage")) for family in families],
        "textposition": "inside",
        "insidetextanchor": "start",
        "hovertext": [f"{_title(family)}: {percent(family.get('coverage'))}" for family in families],
        "hoverinfo": "text",
        "marker": {"color": colour(4)},
        "showlegend": False,
    }
    lines = [] if promised is None else [{**_level(0.0, "dash"), **_upright(100.0 * promised)}]
    horizontal = axis("measurements within the band, %", range=[0.0, 105.0])
    return {"data": [bars], "layout": _by_family(families, horizontal, shapes=lines, bargap=0.25)}


def _by_family(families: Sequence[Record], horizontal: Figure, **more: Any) -> Figure:
    rows = {"tickvals": list(range(len(families))), "ticktext": [_title(family) for family in families]}
    vertical = axis("", automargin=True, tickfont=SMALL, range=[len(families) - 0.4, -0.6], showgrid=False, **rows)
    return layout(height=130 + 24 * len(families), xaxis=horizontal, yaxis=vertical, dragmode=False, **more)


def _title(family: Record) -> str:
    """Family and format as a figure names them."""
    return safe(clip(f"{family.get('family')} {family.get('dtype')}", 34))


def _in_percent(value: object) -> float | None:
    found = finite(value)
    return None if found is None else 100.0 * found


Point = tuple[float, float, str, bool]
"""Measured and predicted seconds, where the row is from, and whether it is faster than physics."""


def _points(entry: Record) -> list[Point]:
    """The rows of a series that a logarithmic axis can show."""
    columns = [listed(entry, name) for name in ("measured_s", "predicted_s", "source", "line")]
    sources, faster = listed(entry, "sources"), set(map(str, listed(entry, "excluded")))
    found = []
    for i, (measured, predicted, source, at) in enumerate(zip(*columns, strict=False)):
        x, y = finite(measured), finite(predicted)
        if x and y and x > 0.0 and y > 0.0:
            known = isinstance(source, int) and 0 <= source < len(sources)
            name = str(sources[source]) if known else "row"
            # of a path only the end, which tells the files of one set apart
            found.append((x, y, safe(f"{'/'.join(name.split('/')[-3:])[-60:]}:{at}"), str(i) in faster))
    return found


def _markers(entry: Record, points: Sequence[Point], position: int, figure: int) -> Figure:
    """Rows that physics allows: predicted over measured (figure 1), or their error in percent (figure 2)."""
    kept = [point for point in points if not point[3]]
    y = [p[1] for p in kept] if figure == 1 else [round(100.0 * (p[1] / p[0] - 1.0), 2) for p in kept]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": safe(clip(entry.get("dtype"), 24)),
        "x": [point[0] for point in kept],
        "y": y,
        "text": [point[2] for point in kept] if figure == 1 else [],
        "hoverinfo": "text+x+y" if figure == 1 else "x+y",
        "marker": {
            "color": colour(position),
            "symbol": symbol(position),
            "size": 4,
            "opacity": 0.5,
        },
    }


def _crosses(placed: Sequence[tuple[Record, Sequence[Point]]]) -> list[Figure]:
    """Rows that are faster than physics allows, of all formats together; nothing without any."""
    faster = [point for _, points in placed for point in compress(points, (point[3] for point in points))]
    if not faster:
        return []
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "name": "faster than physics",
            "x": [point[0] for point in faster],
            "y": [point[1] for point in faster],
            "text": [point[2] for point in faster],
            "hoverinfo": "text+x+y",
            "marker": {"color": LIMIT, "symbol": "x", "size": 7},
        }
    ]


def _level(y: float, dash: str) -> Figure:
    """A horizontal line across the figure."""
    across = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": y, "y1": y}
    return {**across, "line": {"color": NEUTRAL, "width": 1, "dash": dash}}


def _upright(x: float) -> Figure:
    """What makes a level a vertical line at `x`."""
    return {"xref": "x", "yref": "paper", "x0": x, "x1": x, "y0": 0, "y1": 1}
