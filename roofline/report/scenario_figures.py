"""Figures of a deployment: what fills the memory, what binds decode where, and latency against throughput."""

from collections.abc import Mapping, Sequence
from math import log2
from typing import Any

from .figures import (
    BOUND_COLOUR,
    LIMIT,
    NEUTRAL,
    PATTERN,
    SMALL,
    Figure,
    axis,
    below,
    colour,
    layout,
    line,
    log_axis,
    safe,
    symbol,
)
from .format import clip, column_unit, count, finite, number, seconds, size
from .parts import Record, columns, listed

_MEMORY_TERM = (
    ("weights", "weight_byte", "#56B4E9", ""),
    ("KV cache", "kv_byte", "#D55E00", "/"),
    ("activations", "activation_byte", "#F0E442", "."),
    ("engine reserve", "reserve_byte", "#999999", "x"),
)


_HEIGHT = 460
_CHOSEN = "#D55E00"


def memory(held: Record) -> Figure:
    """One stacked bar, what fills the device's memory, with a line at its capacity."""
    terms = [
        (name, amount, fill, shape)
        for name, key, fill, shape in _MEMORY_TERM
        if (amount := finite(held.get(key))) is not None
    ]
    used, capacity = sum(amount for _, amount, _, _ in terms), finite(held.get("capacity_byte"))
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
            "marker": {
                "color": fill,
                "line": {"color": NEUTRAL, "width": 1},
                "pattern": {"shape": shape, **PATTERN},
            },
        }
        for name, amount, fill, shape in terms
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
            xaxis=axis(f"memory, {unit}", range=[0.0, 1.05 * max(used, capacity or 0.0) / scale or 1.0], nticks=6),
            yaxis={"visible": False, "range": [-0.55, 0.55]},
            dragmode=False,
        ),
    }


def decode_map(found: Record, batch: object) -> Figure | None:
    """What binds a decode step over batch and context, the line where that changes, what does not fit, and where the
    scenario (`batch`, and the map's own context) stands. None where the record's map has no cells.
    """
    across, up = _positive(listed(found, "context")), _positive(listed(found, "batch"))
    bounds, times = listed(found, "bound"), listed(found, "tpot_s")
    whole = all(isinstance(rows, list) and len(rows) == len(across) for rows in [*bounds, *times])
    if len(across) < 2 or len(up) < 2 or not whole or not len(bounds) == len(times) == len(up):
        return None
    names = list(BOUND_COLOUR)
    most = [finite(value) for value in listed(found, "max_batch")]
    most += [None] * (len(across) - len(most))
    data = [
        {
            "type": "heatmap",
            "x": list(range(len(across))),
            "y": list(range(len(up))),
            "z": [[names.index(name) if name in names else None for name in map(str, row)] for row in bounds],
            "zmin": -0.5,
            "zmax": len(names) - 0.5,
            "colorscale": [
                [(i + end) / len(names), BOUND_COLOUR[name]] for i, name in enumerate(names) for end in (0, 1)
            ],
            "showscale": False,
            "opacity": 0.75,
            "hoverinfo": "text",
            "text": [
                [
                    f"batch {count(b)}, {count(c)} cached tokens each<br>TPOT {seconds(times[i][j])}"
                    f"<br>{safe(bounds[i][j])}-bound{_room(b, most[j])}"
                    for j, c in enumerate(across)
                ]
                for i, b in enumerate(up)
            ],
            "showlegend": False,
        },
        *_edges(bounds),
        *_full(across, up, most),
    ]
    here = (finite(found.get("scenario_context")), finite(batch))
    if here[0] and here[1] and here[0] > 0.0 and here[1] > 0.0:
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": "this scenario",
                "x": [_between(across, here[0])],
                "y": [_between(up, here[1])],
                "hovertext": f"this scenario: batch {count(here[1])}, {count(here[0])} cached tokens",
                "hoverinfo": "text",
                "marker": {
                    "symbol": "star",
                    "size": 16,
                    "color": "#FFFFFF",
                    "line": {"color": "#000000", "width": 1.5},
                },
            }
        )
    present = {str(name) for row in bounds for name in row}
    keys = [_key(f"{name}-bound", BOUND_COLOUR[name]) for name in names if name in present]
    return {
        "data": [*data, *keys],
        "layout": layout(
            height=_HEIGHT,
            legend=below(_HEIGHT),
            annotations=[_region(bounds, name) for name in names if name in present],
            xaxis=axis("cached tokens of each request", **_steps(across), showgrid=False),
            yaxis=axis("requests at once", **_steps(up), showgrid=False),
            dragmode=False,
        ),
    }


def _positive(values: Sequence[Any]) -> list[float]:
    """`values` where all are positive finite numbers in ascending order, else nothing."""
    found = [number for value in values if (number := finite(value)) and number > 0.0]
    return found if len(found) == len(values) and found == sorted(set(found)) else []


def _between(values: Sequence[float], value: float) -> float:
    """Where `value` stands among ascending `values`, as a position on the axis of their indices."""
    right = next((i for i, each in enumerate(values) if each >= value), len(values) - 1)
    left = max(right - 1, 0)
    if left == right:
        return float(right)
    return min(max(left + log2(value / values[left]) / log2(values[right] / values[left]), -0.5), len(values) - 0.5)


def _steps(values: Sequence[float]) -> Figure:
    """Ticks of an axis of indices, at its first value and each that is four times the last tick; and its range."""
    shown: list[int] = []
    for i, value in enumerate(values):
        if not shown or value >= 3.99 * values[shown[-1]]:
            shown.append(i)
    names = [count(values[i]) for i in shown]
    return {"tickvals": shown, "ticktext": names, "tickfont": SMALL, "range": [-0.5, len(values) - 0.5]}


def _room(batch: float, most: float | None) -> str:
    return "" if most is None else "" if batch <= most else f"<br>does not fit: {count(most)} do"


def _edges(bounds: Sequence[Sequence[Any]]) -> list[Figure]:
    """The line between cells of different bounds, white under black so that it shows on every colour."""
    x: list[float | None] = []
    y: list[float | None] = []
    for i, row in enumerate(bounds):
        for j, name in enumerate(row):
            if j + 1 < len(row) and str(row[j + 1]) != str(name):
                x += [j + 0.5, j + 0.5, None]
                y += [i - 0.5, i + 0.5, None]
            if i + 1 < len(bounds) and str(bounds[i + 1][j]) != str(name):
                x += [j - 0.5, j + 0.5, None]
                y += [i + 0.5, i + 0.5, None]
    if not x:
        return []
    drawn: Figure = {"type": "scatter", "mode": "lines", "x": x, "y": y, "hoverinfo": "skip"}
    return [
        {**drawn, "line": {"color": "#FFFFFF", "width": 5}, "showlegend": False},
        {**drawn, "line": {"color": "#000000", "width": 2}, "name": "the bound changes"},
    ]


def _full(across: Sequence[float], up: Sequence[float], most: Sequence[float | None]) -> list[Figure]:
    """The largest batch that fits at each context, and a veil over what lies above it."""
    known = [(j, value) for j, value in enumerate(most[: len(across)]) if value is not None]
    if not known or all(value >= up[-1] for _, value in known):
        return []
    x = [float(j) for j, _ in known]
    y = [_between(up, value) if value >= up[0] else -0.5 for _, value in known]
    x, y = [-0.5, *x, len(across) - 0.5], [y[0], *y, y[-1]]
    top = len(up) - 0.5
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "x": [*x, x[-1], x[0]],
            "y": [*y, top, top],
            "fill": "toself",
            "fillcolor": "rgba(128,128,128,0.55)",
            "line": {"width": 0},
            "hoverinfo": "skip",
            "showlegend": False,
        },
        line("memory is full", x, y, showlegend=True, line={"color": LIMIT, "width": 3, "dash": "dash"}),
    ]


def _key(name: str, fill: str) -> Figure:
    """An entry of the legend that nothing is drawn for."""
    marker = {"symbol": "square", "size": 12, "color": fill}
    return {"type": "scatter", "mode": "markers", "name": name, "x": [None], "y": [None], "marker": marker}


def _region(bounds: Sequence[Sequence[Any]], name: str) -> Figure:
    """The name of a bound at the middle of its cells: of the rows that hold most of them, the middle one."""
    held = [[j for j, each in enumerate(row) if str(each) == name] for row in bounds]
    widest = [i for i, found in enumerate(held) if len(found) == max(map(len, held))]
    row = widest[len(widest) // 2]
    place = (sum(held[row]) / len(held[row]), row)
    return {
        "x": place[0],
        "y": place[1],
        "text": f"{safe(name)}-bound",
        "showarrow": False,
        "font": SMALL,
        "bgcolor": NEUTRAL,
        "borderpad": 2,
    }


def latency_and_throughput(
    curves: Mapping[str, Record],
    level_s: object = None,
    chosen: Mapping[str, object] | None = None,
    title: str = "output tokens/s",
) -> Figure | None:
    """TPOT over output tokens per second, one line for each of `curves` (batch grows along it), dotted where memory is
    full. `level_s`: the service level; `chosen`: the batch of each curve to mark. None where nothing can be drawn.
    """
    data, x_seen, y_seen = [], [], []
    for position, (name, curve) in enumerate(curves.items()):
        rows = [
            row
            for row in columns(curve)
            if (finite(row.get("output_token_per_s")) or 0.0) > 0.0 and (finite(row.get("tpot_s")) or 0.0) > 0.0
        ]
        x_seen += [row["output_token_per_s"] for row in rows]
        y_seen += [row["tpot_s"] for row in rows]
        fitting = [row for row in rows if row.get("fits") is not False]
        beyond = [row for row in rows if row.get("fits") is False]
        mark = finite((chosen or {}).get(name))
        style = {"color": colour(position), "width": 2}
        data.append(_curve(name, fitting, position, mark, style))
        if beyond:
            more = _curve(f"{name}, would not fit", [*fitting[-1:], *beyond], position, None, {**style, "dash": "dot"})
            data.append({**more, "showlegend": len(curves) == 1 or not fitting, "opacity": 0.55})
    if not x_seen:
        return None
    limit = finite(level_s)
    ends = 0.7 * min(x_seen), 1.4 * max(x_seen)
    if limit and limit > 0.0:
        y_seen.append(limit)
        level = line("service level", list(ends), [limit, limit], line={"color": LIMIT, "width": 2, "dash": "dash"})
        data.append({**level, "showlegend": True})
    return {
        "data": data,
        "layout": layout(
            height=_HEIGHT,
            legend=below(_HEIGHT),
            xaxis=log_axis(title, *ends),
            yaxis=log_axis("TPOT", 0.7 * min(y_seen), 1.4 * max(y_seen), "s", automargin=True),
        ),
    }


def _curve(name: str, rows: Sequence[Record], position: int, mark: float | None, style: Figure) -> Figure:
    at = [finite(row.get("batch")) == mark for row in rows]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": safe(clip(name, 40)),
        "x": [row["output_token_per_s"] for row in rows],
        "y": [row["tpot_s"] for row in rows],
        "hovertext": [
            f"<b>{safe(clip(name, 40))}</b><br>batch {count(row.get('batch'))}: TPOT {seconds(row['tpot_s'])}"
            f"<br>{number(row['output_token_per_s'])} tokens/s, TTFT {seconds(row.get('ttft_s'))}"
            for row in rows
        ],
        "hoverinfo": "text",
        "line": style,
        "marker": {
            "opacity": 1,
            "color": [_CHOSEN if here else colour(position) for here in at],
            "symbol": ["star" if here else symbol(position) for here in at],
            "size": [16 if here else 6 for here in at],
            "line": {"width": [1.5 if here else 0 for here in at], "color": NEUTRAL},
        },
    }
