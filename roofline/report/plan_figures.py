"""Figures of a plan: what the candidates trade and how they stand to the service levels."""

from collections.abc import Sequence

from .figures import LIMIT, NEUTRAL, Figure, below, colour, layout, line, log_axis, safe, symbol
from .format import clip, count, finite, money, number, seconds
from .parts import Record

_HEIGHT = 520


MOST_DRAWN = 1000
"""Most candidates of one figure: with more, a browser takes too long to follow a zoom. The table has all of them."""


def _drawn(points: Sequence[Record], x: str, y: str) -> list[Record]:
    """The points that a logarithmic plot can show: the whole front, and of too many others an evenly spread part."""
    shown = [point for point in points if (finite(point.get(x)) or 0.0) > 0.0 and (finite(point.get(y)) or 0.0) > 0.0]
    front = [point for point in shown if point.get("front") is True][:MOST_DRAWN]
    others = [point for point in shown if point.get("front") is not True]
    room = min(len(others), MOST_DRAWN - len(front))
    return front + [others[i * len(others) // room] for i in range(room)]


def _point_text(point: Record) -> str:
    """What a reader sees on hovering over a candidate."""
    split = " ".join(
        f"{name.upper()}{count(point.get(name))}" for name in ("tp", "pp", "ep", "dp") if finite(point.get(name)) != 1.0
    )
    formats = f"{safe(clip(point.get('weights'), 12))}, KV {safe(clip(point.get('kv'), 12))}"
    return (
        f"<b>{count(point.get('n_devices'))} × {safe(clip(point.get('device'), 40))}</b> {split} {formats}"
        f"<br>TTFT {seconds(point.get('ttft_s'))}, TPOT {seconds(point.get('tpot_s'))}"
        f"<br>{number(point.get('output_token_per_s_per_device'))} tokens/s per device, "
        f"{number(point.get('output_token_per_s_per_user'))} per user"
        f"<br>{money(point.get('usd_per_mtok_output_all_in'))} per million output tokens, all in"
    )


def _clouds(points: Sequence[Record], x: str, y: str) -> list[Figure]:
    """Markers, one trace for each device: filled where the service levels are met, hollow and pale where not."""
    devices = list(dict.fromkeys(str(point.get("device")) for point in points))
    traces = []
    for position, device in enumerate(devices):
        for met in (False, True):
            group = [p for p in points if str(p.get("device")) == device and (p.get("meets") is True) is met]
            if group:
                traces.append(
                    {
                        "type": "scatter",
                        "mode": "markers",
                        "name": f"{safe(clip(device, 24))}, {'meets' if met else 'misses'} the service levels",
                        "x": [p[x] for p in group],
                        "y": [p[y] for p in group],
                        "hovertext": [_point_text(p) for p in group],
                        "hoverinfo": "text",
                        "marker": {
                            "color": colour(position),
                            "symbol": f"{symbol(position)}{'' if met else '-open'}",
                            "size": 8 if met else 6,
                            "opacity": 0.9 if met else 0.45,
                        },
                    }
                )
    return traces


def pareto(points: Sequence[Record], x: str, y: str) -> Figure | None:
    """Every candidate at throughput per user and per device, and the front that none of them beats in both."""
    shown = _drawn(points, x, y)
    if not shown:
        return None
    front = sorted((point for point in shown if point.get("front") is True), key=lambda point: point[x])
    edge = line(
        "Pareto front",
        [point[x] for point in front],
        [point[y] for point in front],
        line={"color": NEUTRAL, "width": 3, "shape": "vh"},
        showlegend=bool(front),
    )
    across, up = ([point[key] for point in shown] for key in (x, y))
    return {
        "data": [edge, *_clouds(shown, x, y)],
        "layout": layout(
            height=_HEIGHT,
            legend=below(_HEIGHT),
            xaxis=log_axis("output tokens/s per user", 0.8 * min(across), 1.25 * max(across)),
            yaxis=log_axis("output tokens/s per device", 0.8 * min(up), 1.25 * max(up), automargin=True),
        ),
    }


def service(points: Sequence[Record], ttft_s: object, tpot_s: object) -> Figure | None:
    """Every candidate at TTFT and TPOT, with both service levels: those at the lower left meet them."""
    shown = _drawn(points, "ttft_s", "tpot_s")
    if not shown:
        return None
    limits = finite(ttft_s), finite(tpot_s)
    across, up = ([point[key] for point in shown] for key in ("ttft_s", "tpot_s"))
    across, up = across + [limit for limit in limits[:1] if limit], up + [limit for limit in limits[1:] if limit]
    ends = (0.8 * min(across), 1.25 * max(across)), (0.8 * min(up), 1.25 * max(up))
    style = {"color": LIMIT, "width": 2, "dash": "dash"}
    levels = []
    if limits[0]:
        levels.append(line("service levels", [limits[0]] * 2, list(ends[1]), line=style, showlegend=True))
    if limits[1]:
        levels.append(line("service levels", list(ends[0]), [limits[1]] * 2, line=style, showlegend=not levels))
    return {
        "data": [*_clouds(shown, "ttft_s", "tpot_s"), *levels],
        "layout": layout(
            height=_HEIGHT,
            legend=below(_HEIGHT),
            xaxis=log_axis("TTFT", *ends[0], "s"),
            yaxis=log_axis("TPOT", *ends[1], "s", automargin=True),
        ),
    }
