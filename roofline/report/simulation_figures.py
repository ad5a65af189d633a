"""Figures of a simulation: what requests saw and what the server did over time."""

from collections.abc import Sequence

from .figures import LIMIT, SERIES_DASH, Figure, axis, below, colour, layout, log_axis
from .format import count, finite, percent, seconds
from .parts import Record

_HEIGHT = 420


def distributions(rows: Sequence[Record], series: Sequence[tuple[str, str]]) -> Figure | None:
    """Share of requests (or of gaps between tokens) that took at most so long: one line for each (key, title)."""
    data, seen = [], []
    for position, (key, title) in enumerate(series):
        placed = [
            (value, share)
            for row in rows
            if (value := finite(row.get(key))) and value > 0.0 and (share := finite(row.get("share"))) is not None
        ]
        seen += [value for value, _ in placed]
        if placed:
            data.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "name": title,
                    "x": [value for value, _ in placed],
                    "y": [100.0 * share for _, share in placed],
                    "hovertext": [f"{percent(share)} within {seconds(value)} ({title})" for value, share in placed],
                    "hoverinfo": "text",
                    "line": {"color": colour(position), "width": 2, "dash": SERIES_DASH[position % len(SERIES_DASH)]},
                }
            )
    if not data:
        return None
    return {
        "data": data,
        "layout": layout(
            height=_HEIGHT,
            legend=below(_HEIGHT),
            xaxis=log_axis("time", 0.8 * min(seen), 1.25 * max(seen), "s"),
            yaxis=axis("share, %", range=[0.0, 102.0]),
        ),
    }


_PANELS = (
    ("tokens/s", (("output_token_per_s", "output tokens/s"), ("prompt_token_per_s", "prompt tokens/s"))),
    ("requests", (("running", "running"), ("waiting", "waiting"))),
    ("KV cache, %", (("kv_share", "KV cache in use"),)),
)
_GAP = 0.07


def timeline(rows: Sequence[Record]) -> Figure | None:
    """What the server did over time: tokens per second, requests that run and wait, and how full the KV cache is."""
    placed = [row for row in rows if finite(row.get("end_s")) is not None]
    if not placed:
        return None
    data, axes = [], {}
    each = (1.0 - _GAP * (len(_PANELS) - 1)) / len(_PANELS)
    position = 0
    for panel, (title, series) in enumerate(_PANELS):
        top = 1.0 - panel * (each + _GAP)
        name = f"y{panel + 1}" if panel else "y"
        axes[f"yaxis{panel + 1}" if panel else "yaxis"] = axis(title, domain=[top - each, top], rangemode="tozero")
        for key, label in series:
            scale = 100.0 if key == "kv_share" else 1.0
            values = [None if (value := finite(row.get(key))) is None else scale * value for row in placed]
            data.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "name": label,
                    "x": [row["end_s"] for row in placed],
                    "y": values,
                    "yaxis": name,
                    "line": {
                        "color": colour(position),
                        "width": 2,
                        "shape": "vh",
                        "dash": SERIES_DASH[position % 2],
                    },
                    "hovertemplate": "%{y:.3~s} at %{x:.3~f} s",
                }
            )
            position += 1
    last = f"y{len(_PANELS)}"
    across = axis("seconds since the first arrival", anchor=last, rangemode="tozero")
    return {"data": data, "layout": layout(height=640, legend=below(640), xaxis=across, **axes)}


def first_tokens(rows: Sequence[Record]) -> Figure | None:
    """TTFT of each request over its arrival; crosses were preempted."""
    kept = [
        row for row in rows if finite(row.get("arrival_s")) is not None and (finite(row.get("ttft_s")) or 0.0) > 0.0
    ]
    if not kept:
        return None
    data = []
    for name, preempted, fill, shape in (("request", False, colour(0), "circle"), ("preempted", True, LIMIT, "x")):
        group = [row for row in kept if bool(finite(row.get("preempted"))) is preempted]
        if group:
            data.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "name": name,
                    "x": [row["arrival_s"] for row in group],
                    "y": [row["ttft_s"] for row in group],
                    "hovertext": [
                        f"request {count(row.get('request'))}: TTFT {seconds(row['ttft_s'])}"
                        f"<br>{count(row.get('input_token'))} tokens in, {count(row.get('output_token'))} out"
                        for row in group
                    ],
                    "hoverinfo": "text",
                    "marker": {"color": fill, "symbol": shape, "size": 6 if not preempted else 8, "opacity": 0.6},
                }
            )
    times = [row["ttft_s"] for row in kept]
    return {
        "data": data,
        "layout": layout(
            height=_HEIGHT,
            legend=below(_HEIGHT),
            xaxis=axis("arrival, seconds since the first"),
            yaxis=log_axis("TTFT", 0.8 * min(times), 1.25 * max(times), "s", automargin=True),
        ),
    }
