"""Figures that set devices side by side, one row each, in the order of the record."""

from collections.abc import Mapping, Sequence
from typing import Any

from .figures import LIMIT, NEUTRAL, PATTERN, SMALL, Figure, axis, colour, layout, line, log_axis, safe
from .format import clip, column_unit, finite, number, percent, seconds, span
from .kernel_figures import step_s
from .parts import Record

_SHAPES = ("", "/", ".", "x", "\\", "-", "+")
_LARGEST_PARTS = 6
_LEVEL = {"color": LIMIT, "width": 2, "dash": "dash"}


def row_layout(rows: Sequence[Record], **settings: Any) -> Figure:
    """A layout with one line for each row, the first on top, named by its label."""
    names = {"tickvals": list(range(len(rows))), "ticktext": [safe(clip(row["label"], 28)) for row in rows]}
    vertical = axis("", automargin=True, tickfont=SMALL, range=[len(rows) - 0.4, -0.6], showgrid=False, **names)
    return layout(height=130 + 30 * len(rows), yaxis=vertical, dragmode=False, **settings)


def times(rows: Sequence[Record], name: str, title: str, limit_s: object = None) -> Figure:
    """The time `name` ("ttft" or "tpot") of every row with its band, and its bare roofline; hollow where the work does
    not fit into memory. `limit_s`: the service level.
    """
    phase = {"ttft": "prefill", "tpot": "decode"}[name]
    known = [(i, row, value) for i, row in enumerate(rows) if (value := finite(row.get(f"{name}_s"))) and value > 0.0]
    bare = [(i, value) for i, row, _ in known if (value := finite(row.get(f"{phase}_roofline_s"))) and value > 0.0]
    ends = [value for _, _, value in known] + [value for _, value in bare]
    ends += [end for _, row, _ in known for key in ("low", "high") if (end := finite(row.get(f"{name}_{key}_s")))]
    limit = finite(limit_s)
    if limit is not None:
        ends.append(limit)
    seen = [end for end in ends if end > 0.0] or [1e-3, 1.0]
    edge = 1.2 * max(seen)
    high = [_high(row, name, value, edge) for _, row, value in known]
    endless = [i for (i, *_), end in zip(known, high, strict=True) if end == edge]
    points = {
        "type": "scatter",
        "mode": "markers",
        "name": title,
        "x": [value for _, _, value in known],
        "y": [i for i, _, _ in known],
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [end - value for (*_, value), end in zip(known, high, strict=True)],
            "arrayminus": [max(value - (finite(row.get(f"{name}_low_s")) or value), 0.0) for _, row, value in known],
            "color": colour(0),
            "thickness": 3,
            "width": 6,
        },
        "hovertext": [
            f"<b>{safe(clip(row['label'], 60))}</b><br>{title} {seconds(value)}, within "
            f"{span([row.get(f'{name}_low_s'), row.get(f'{name}_high_s')])}"
            f"<br>{safe(row.get(f'{phase}_bound'))}-bound"
            for _, row, value in known
        ],
        "hoverinfo": "text",
        "marker": {
            "size": 12,
            "color": colour(0),
            "symbol": ["circle" if row.get("fits") is not False else "circle-open" for _, row, _ in known],
            "line": {"width": 2, "color": colour(0)},
        },
    }
    limits = {
        "type": "scatter",
        "mode": "markers",
        "name": "bare roofline",
        "x": [value for _, value in bare],
        "y": [i for i, _ in bare],
        "hovertext": [f"bare roofline {seconds(value)}" for _, value in bare],
        "hoverinfo": "text",
        "marker": {"symbol": "line-ns-open", "size": 14, "color": NEUTRAL, "line": {"width": 3, "color": NEUTRAL}},
    }
    arrows = {
        "type": "scatter",
        "mode": "markers",
        "name": "no upper end",
        "x": [edge] * len(endless),
        "y": endless,
        "hoverinfo": "skip",
        "cliponaxis": False,
        "marker": {"symbol": "triangle-right", "size": 12, "color": colour(0)},
    }
    level = line("service level", [limit] * 2, [-0.5, len(rows) - 0.5], line=_LEVEL, showlegend=True) if limit else None
    horizontal = log_axis(title, 0.8 * min(seen), 1.25 * max(seen), "s")
    return {
        "data": [each for each in (limits, points, arrows if endless else None, level) if each],
        "layout": row_layout(rows, xaxis=horizontal),
    }


def _high(row: Record, name: str, value: float, edge: float) -> float:
    """The upper end of the band of the time `name`: `edge` where there is a lower one and none above, since a queue
    then grows without bound.
    """
    high = finite(row.get(f"{name}_high_s"))
    if high is not None:
        return max(high, value)
    return value if finite(row.get(f"{name}_low_s")) is None else edge


def bars(rows: Sequence[Record], key: str, title: str) -> Figure:
    """One figure of every row as a bar; pale where memory does not hold the work, none where the record has none."""
    values = [finite(row.get(key)) for row in rows]
    longest = max((value for value in values if value is not None), default=0.0)
    drawn = {
        "type": "bar",
        "orientation": "h",
        "x": values,
        "y": list(range(len(rows))),
        "text": ["" if value is None else number(value) for value in values],
        "textposition": "outside",
        "textfont": SMALL,
        "cliponaxis": False,
        "hovertext": [f"{safe(clip(row['label'], 60))}: {number(row.get(key))} {title}" for row in rows],
        "hoverinfo": "text",
        "marker": {
            "color": [colour(0) if row.get("fits") is not False else NEUTRAL for row in rows],
            "pattern": {"shape": ["" if row.get("fits") is not False else "/" for row in rows], **PATTERN},
        },
        "showlegend": False,
    }
    horizontal = axis(title, range=[0.0, 1.25 * longest or 1.0], nticks=5)
    return {"data": [drawn], "layout": {**row_layout(rows, xaxis=horizontal, bargap=0.3), "showlegend": False}}


def shares(rows: Sequence[Record], phase: str) -> Figure:
    """Where a step of `phase` spends its time: the share of the largest kernels over all rows, and the rest."""
    held: list[dict[str, float]] = []
    for row in rows:
        found: dict[str, float] = {}
        step = row["prediction"]["phases"].get(phase) or {"kernels": ()}
        total = finite(step.get("total_s")) or 0.0
        for kernel in step["kernels"]:
            time = step_s(kernel)
            if time and total > 0.0:
                name = str(kernel.get("name"))
                found[name] = found.get(name, 0.0) + time / total
        held.append(found)
    names = list(dict.fromkeys(name for found in held for name in found))
    names.sort(key=lambda name: -sum(found.get(name, 0.0) for found in held))
    parts = [(name, [found.get(name, 0.0) for found in held]) for name in names[:_LARGEST_PARTS]]
    if names[_LARGEST_PARTS:]:
        rest = [sum(found.get(name, 0.0) for name in names[_LARGEST_PARTS:]) for found in held]
        parts.append(("all others", rest))
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": safe(clip(name, 24)),
            "x": [100.0 * share for share in values],
            "y": list(range(len(rows))),
            "hovertext": [f"{safe(clip(name, 40))}: {percent(share)} of {phase}" for share in values],
            "hoverinfo": "text",
            "marker": {
                "color": NEUTRAL if name == "all others" else colour(i),
                "pattern": {"shape": _SHAPES[i % len(_SHAPES)], **PATTERN},
            },
        }
        for i, (name, values) in enumerate(parts)
    ]
    horizontal = axis(f"share of a {phase} step, %", range=[0.0, 102.0], nticks=6)
    return {"data": data, "layout": {**row_layout(rows, xaxis=horizontal, bargap=0.3), "barmode": "stack"}}


def first_token_parts(sides: Sequence[tuple[str, Record]]) -> Figure | None:
    """Mean TTFT in two parts, for each (name, figures): the wait in the queue, and all after it."""
    known: list[tuple[str, float, float]] = []
    for name, figures in sides:
        spreads = (figures.get(key) for key in ("ttft_s", "queue_s"))
        whole, queue = (finite(spread.get("mean")) if isinstance(spread, Mapping) else None for spread in spreads)
        if whole is not None and queue is not None:
            known.append((name, queue, whole - queue))
    if not known:
        return None
    unit, scale = column_unit([queue + rest for _, queue, rest in known], "s")
    parts = (
        ("wait in the queue", [queue for _, queue, _ in known], colour(1), "/"),
        ("prefill, and what shares its steps", [rest for _, _, rest in known], colour(0), ""),
    )
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": title,
            "x": [value / scale for value in values],
            "y": list(range(len(known))),
            "hovertext": [f"{title}: {seconds(value)}" for value in values],
            "hoverinfo": "text",
            "marker": {"color": fill, "pattern": {"shape": shape, **PATTERN}, "line": {"color": NEUTRAL, "width": 0.5}},
        }
        for title, values, fill, shape in parts
    ]
    across = axis(f"mean TTFT, {unit}", nticks=6)
    labels = [{"label": entry[0]} for entry in known]
    return {"data": data, "layout": {**row_layout(labels, xaxis=across, bargap=0.3), "barmode": "stack"}}
