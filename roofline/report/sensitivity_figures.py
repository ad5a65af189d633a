"""Figures of a sensitivity: which lever moves which figure, and what the next best change is worth."""

from collections.abc import Mapping, Sequence
from typing import Any

from .comparison_figures import row_layout
from .figures import NEUTRAL, PATTERN, SMALL, Figure, axis, colour, layout, safe
from .format import clip, count, finite, number, percent
from .parts import Record, listed

_BETTER, _WORSE = "#0072B2", "#D55E00"
_LARGEST = 20


def _held(entry: Record, *path: str) -> Any:
    part: Any = entry
    for key in path:
        part = part.get(key) if isinstance(part, Mapping) else None
    return part


def tornado(levers: Sequence[Record], key: str, title: str, sign: float) -> Figure | None:
    """Change of the figure `key` as each lever goes to half and to twice its value, the widest on top. `sign`: 1 where
    more is better, -1 where less is.
    """
    told = safe(clip(title, 40))
    spans: list[tuple[str, list[tuple[float, float]]]] = []
    for lever in levers:
        steps = [
            (factor, change)
            for step in listed(lever, "steps")
            if (factor := finite(_held(step, "factor"))) in (0.5, 2.0)
            and (change := finite(_held(step, "change", key))) is not None
        ]
        if steps and any(change for _, change in steps):
            spans.append((str(lever.get("title")), [(float(factor or 0.0), change) for factor, change in steps]))
    spans.sort(key=lambda span: -(max(c for _, c in span[1]) - min(0.0, *(c for _, c in span[1]))))
    if not spans:
        return None
    rows = [{"label": name} for name, _ in spans]
    data = []
    for factor, name, shape in ((0.5, "halved", "/"), (2.0, "doubled", "")):
        placed = [(i, change) for i, (_, steps) in enumerate(spans) for f, change in steps if f == factor]
        data.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": name,
                "x": [100.0 * change for _, change in placed],
                "y": [i for i, _ in placed],
                "text": [f"{100.0 * change:+.0f} %" for _, change in placed],
                "textposition": "outside",
                "textfont": SMALL,
                "cliponaxis": False,
                "hovertext": [f"{safe(spans[i][0])} {name}: {told} {100.0 * change:+.1f} %" for i, change in placed],
                "hoverinfo": "text",
                "marker": {
                    "color": [_BETTER if sign * change > 0.0 else _WORSE for _, change in placed],
                    "pattern": {"shape": shape, **PATTERN},
                    "line": {"color": NEUTRAL, "width": 0.5},
                },
            }
        )
    seen = [change for _, steps in spans for _, change in steps]
    reach = (100.0 * min(0.0, *seen), 100.0 * max(0.0, *seen))
    room = 0.2 * (reach[1] - reach[0]) or 1.0
    across = axis(f"change of {told}, %", range=[reach[0] - room, reach[1] + room], zeroline=True, nticks=6)
    return {"data": data, "layout": {**row_layout(rows, xaxis=across, bargap=0.3), "barmode": "overlay"}}


def elasticities(levers: Sequence[Record], figures: Sequence[Record]) -> Figure | None:
    """Levers by figures: how many percent a figure moves when a lever grows by one percent; numbers in the cells."""
    if not levers or not figures:
        return None
    keys = [str(figure.get("key")) for figure in figures]
    rows, across = list(range(len(levers))), list(range(len(keys)))
    cells = [[finite(_held(lever, "elasticity", key)) for key in keys] for lever in levers]
    shown = [["–" if cell is None else number(round(cell, 2) + 0.0) for cell in row] for row in cells]
    names = [safe(clip(lever.get("title"), 28)) for lever in levers]
    titles = [safe(clip(figure.get("title"), 24)) for figure in figures]
    return {
        "data": [
            {
                "type": "heatmap",
                "x": across,
                "y": rows,
                "z": cells,
                "zmin": -1.0,
                "zmax": 1.0,
                "colorscale": [[0.0, "#D55E00"], [0.5, "#F7F7F7"], [1.0, "#0072B2"]],
                "showscale": False,
                "xgap": 2,
                "ygap": 2,
                "hoverinfo": "text",
                "text": [
                    [f"{name} + 1 %: {title} {value} %" for title, value in zip(titles, row, strict=True)]
                    for name, row in zip(names, shown, strict=True)
                ],
            }
        ],
        "layout": layout(
            height=160 + 30 * len(levers),
            showlegend=False,
            margin={"l": 56, "r": 16, "t": 90, "b": 16},
            annotations=[
                {
                    "x": j,
                    "y": i,
                    "text": value,
                    "showarrow": False,
                    "font": SMALL,
                    "bgcolor": NEUTRAL,
                    "borderpad": 1,
                }
                for i, row in enumerate(shown)
                for j, value in enumerate(row)
            ],
            xaxis=axis("", side="top", tickvals=across, ticktext=titles, tickfont=SMALL, tickangle=-30),
            yaxis=axis(
                "",
                automargin=True,
                autorange="reversed",
                tickvals=list(range(len(levers))),
                ticktext=names,
                tickfont=SMALL,
            ),
            dragmode=False,
        ),
    }


def _short(change: Record) -> str:
    """A change in few words: another device by the name of its profile, all else as its text says."""
    flags = str(change.get("flags") or "--")
    return str(change.get("text")) if flags.startswith("--") else f"on {flags}"


def gains(changes: Sequence[Record], title: str) -> Figure | None:
    """What each change is worth: the change of the objective, the best on top."""
    told = safe(clip(title, 40))
    known = [(row, gain) for row in changes if (gain := finite(row.get("gain"))) is not None][:_LARGEST]
    if not known:
        return None
    rows = [{"label": f"{count(row.get('rank'))}. {_short(row)}"} for row, _ in known]
    drawn = {
        "type": "bar",
        "orientation": "h",
        "x": [100.0 * gain for _, gain in known],
        "y": list(range(len(known))),
        "text": [f"{100.0 * gain:+.0f} %" for _, gain in known],
        "textposition": "outside",
        "textfont": SMALL,
        "cliponaxis": False,
        "hovertext": [f"{safe(clip(row.get('text'), 80))}: {percent(gain)}" for row, gain in known],
        "hoverinfo": "text",
        "marker": {
            "color": [colour(0) if gain <= 0.0 else NEUTRAL for _, gain in known],
            "pattern": {"shape": ["" if gain <= 0.0 else "/" for _, gain in known], **PATTERN},
        },
    }
    low, high = min(0.0, *(gain for _, gain in known), 0.0), max(0.0, *(gain for _, gain in known), 0.0)
    room = 0.2 * (high - low) or 0.01
    across = axis(f"change of {told}, %", range=[100.0 * (low - room), 100.0 * (high + room)], zeroline=True, nticks=6)
    return {"data": [drawn], "layout": {**row_layout(rows, xaxis=across, bargap=0.25), "showlegend": False}}
