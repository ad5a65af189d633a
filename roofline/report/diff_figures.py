"""Figures of a difference: how the parts lead from one figure to the other, and which kernels they are in."""

from collections.abc import Mapping, Sequence

from .comparison_figures import row_layout
from .figures import BOUND_COLOUR, BOUND_PATTERN, NEUTRAL, PATTERN, SMALL, Figure, axis, safe
from .format import clip, column_unit, finite, number, seconds
from .parts import Record

_LESS, _MORE, _SIDE = "#0072B2", "#D55E00", "#808080"
_LARGEST = 16


def _unit_of(key: str) -> str:
    """The SI unit of a figure, by the end of its key."""
    return "s" if key.endswith("_s") and not key.endswith("_per_s") else ""


def steps(key: str, title: str, ends: tuple[object, object], parts: Sequence[tuple[str, object]]) -> Figure | None:
    """A waterfall from the figure of the first side to that of the second through the named differences."""
    first, last = finite(ends[0]), finite(ends[1])
    known = [(name, value) for name, part in parts if (value := finite(part)) is not None and value != 0.0]
    if first is None or last is None or not known:
        return None
    unit, scale = column_unit([first, last], _unit_of(key))
    bars: list[tuple[str, float, float, str]] = [("first", 0.0, first, _SIDE)]
    at = first
    for name, value in known:
        bars.append((name, at, value, _LESS if value < 0.0 else _MORE))
        at += value
    bars.append(("second", 0.0, last, _SIDE))
    rows = [{"label": name} for name, _, _, _ in bars]
    plus = ["+" if size > 0.0 and fill != _SIDE else "" for _, _, size, fill in bars]
    signed = [f"{sign}{number(size / scale)}" for sign, (_, _, size, _) in zip(plus, bars, strict=True)]
    drawn = {
        "type": "bar",
        "orientation": "h",
        "base": [start / scale for _, start, _, _ in bars],
        "x": [size / scale for _, _, size, _ in bars],
        "y": list(range(len(bars))),
        "text": signed,
        "textposition": "outside",
        "textfont": SMALL,
        "cliponaxis": False,
        "hovertext": [f"{safe(clip(bar[0], 60))}: {text} {unit}" for bar, text in zip(bars, signed, strict=True)],
        "hoverinfo": "text",
        "marker": {
            "color": [fill for _, _, _, fill in bars],
            "pattern": {"shape": ["/" if fill == _LESS else "" for _, _, _, fill in bars], **PATTERN},
        },
        "showlegend": False,
    }
    reached = [edge / scale for _, start, size, _ in bars for edge in (start, start + size)]
    low, high = min(0.0, *reached), max(0.0, *reached)
    room = 0.2 * (high - low) or 1.0
    told = safe(clip(title, 40))
    reach = [low - (room if low < 0.0 else 0.0), high + room]
    across = axis(f"{told}, {unit}" if unit else told, range=reach, nticks=6)
    return {"data": [drawn], "layout": {**row_layout(rows, xaxis=across, bargap=0.25), "showlegend": False}}


def kernels(phase: Record) -> Figure | None:
    """Seconds that each kernel adds to or takes from a step, the largest first, coloured by what binds it last."""
    known = [(kernel, value) for kernel in phase.get("kernels", ()) if (value := finite(kernel.get("difference_s")))][
        :_LARGEST
    ]
    if not known:
        return None
    unit, scale = column_unit([value for _, value in known], "s")
    bound = [str(kernel.get("bound_b") or kernel.get("bound_a")) for kernel, _ in known]
    drawn = {
        "type": "bar",
        "orientation": "h",
        "x": [value / scale for _, value in known],
        "y": list(range(len(known))),
        "text": [f"{'+' if value > 0.0 else ''}{number(value / scale)}" for _, value in known],
        "textposition": "outside",
        "textfont": SMALL,
        "cliponaxis": False,
        "hovertext": [_text(kernel, value) for kernel, value in known],
        "hoverinfo": "text",
        "marker": {
            "color": [BOUND_COLOUR.get(name, NEUTRAL) for name in bound],
            "pattern": {"shape": [BOUND_PATTERN.get(name, "-") for name in bound], **PATTERN},
        },
        "showlegend": False,
    }
    values = [value / scale for _, value in known]
    low, high = min(0.0, *values, 0.0), max(0.0, *values, 0.0)
    room = 0.25 * (high - low)
    across = axis(f"second − first, {unit} a step", range=[low - room, high + room], zeroline=True, nticks=6)
    rows = [{"label": kernel.get("name")} for kernel, _ in known]
    return {"data": [drawn], "layout": {**row_layout(rows, xaxis=across, bargap=0.25), "showlegend": False}}


def _text(kernel: Record, value: float) -> str:
    causes = kernel.get("causes")
    held = causes.items() if isinstance(causes, Mapping) else ()
    told = "".join(f"<br>{safe(name)}: {seconds(part)}" for name, part in held if finite(part))
    bounds = f"{safe(kernel.get('bound_a'))} to {safe(kernel.get('bound_b'))}"
    return f"<b>{safe(clip(kernel.get('name'), 60))}</b>: {seconds(value)}<br>bound: {bounds}{told}"
