"""Figures of a server in its steady state: what the first token waits for, and latency against throughput."""

from collections.abc import Mapping

from .comparison_figures import row_layout
from .figures import LIMIT, NEUTRAL, PATTERN, Figure, axis, below, colour, layout, log_axis, symbol
from .format import column_unit, count, finite, number, percent, seconds
from .parts import Record, columns

_HEIGHT = 460
_PARTS = (
    ("wait in the queue", "queue", "/"),
    ("its own prefill", "prefill", ""),
    ("others' steps in between", "interference", "."),
    ("transfer of the KV cache", "transfer", "x"),
)


def first_token(serving: Record) -> Figure | None:
    """Mean TTFT as one bar of its parts, which add up to it."""
    queue = serving.get("queue_s")
    held = {
        "queue": finite(queue.get("mean")) if isinstance(queue, Mapping) else None,
        **{name: finite(serving.get(f"{name}_s")) for name in ("prefill", "interference", "transfer")},
    }
    known = [
        (title, value, i, shape) for i, (title, key, shape) in enumerate(_PARTS) if (value := held[key]) is not None
    ]
    if not known:
        return None
    unit, scale = column_unit([sum(value for _, value, _, _ in known)], "s")
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": f"{title} {seconds(value)}",
            "x": [value / scale],
            "y": [0],
            "hovertext": [f"{title}: {seconds(value)}"],
            "hoverinfo": "text",
            "marker": {
                "color": colour(i),
                "pattern": {"shape": shape, **PATTERN},
                "line": {"color": NEUTRAL, "width": 0.5},
            },
        }
        for title, value, i, shape in known
    ]
    across = axis(f"mean TTFT, {unit}", nticks=6, rangemode="tozero")
    placed = row_layout([{"label": "TTFT"}], xaxis=across)
    return {"data": data, "layout": {**placed, "barmode": "stack", "height": 220}}


def curve(serving: Record) -> Figure | None:
    """TTFT and TPOT over output tokens per second as the load grows, and where this load stands."""
    held = serving.get("curve")
    if not isinstance(held, Mapping):
        return None
    rows = [row for row in columns(held) if (finite(row.get("output_token_per_s")) or 0.0) > 0.0]
    quantity = {"concurrency": "requests at once", "request_per_s": "requests/s"}.get(str(held.get("quantity")), "load")
    data, times = [], []
    for i, (key, title) in enumerate((("ttft_s", "TTFT"), ("tpot_s", "TPOT"))):
        placed = [(row, value) for row in rows if (value := finite(row.get(key))) and value > 0.0]
        times += [value for _, value in placed]
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": title,
                "x": [row["output_token_per_s"] for row, _ in placed],
                "y": [value for _, value in placed],
                "hovertext": [
                    f"{count(row.get('load'))} {quantity}: {title} {seconds(value)}<br>"
                    f"{number(row['output_token_per_s'])} tokens/s, {percent(row.get('utilisation'))} of saturation"
                    for row, value in placed
                ],
                "hoverinfo": "text",
                "line": {"color": colour(i), "width": 2},
                "marker": {"color": colour(i), "symbol": symbol(i), "size": 6},
            }
        )
    if not times:
        return None
    rates = [row["output_token_per_s"] for row in rows]
    here = finite(serving.get("output_token_per_s"))
    top, bottom = 1.4 * max(times), 0.7 * min(times)
    if here and here > 0.0:
        rates.append(here)
        style = {"color": LIMIT, "width": 2, "dash": "dash"}
        mark = {"type": "scatter", "mode": "lines", "name": "this load", "hoverinfo": "name", "line": style}
        data.append({**mark, "x": [here, here], "y": [bottom, top]})
    return {
        "data": data,
        "layout": layout(
            height=_HEIGHT,
            legend=below(_HEIGHT),
            xaxis=log_axis("output tokens/s", 0.8 * min(rates), 1.25 * max(rates)),
            yaxis=log_axis("time", bottom, top, "s", automargin=True),
        ),
    }
