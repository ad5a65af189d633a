"""Closed form beside simulation: up to which share of the saturating rate do they agree?

For a few deployments under Poisson arrivals, TTFT, TPOT and throughput of serving.steady against serving.simulation at
0.3 to 0.98 of the rate at which the closed form saturates, and in closed loops. Prints a table; --json FILE writes it,
--plot FILE draws it as SVG. `python benchmarks/closed_form.py [--requests 4000] [--json FILE] [--plot FILE.svg]`
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from roofline.io.files import write_text
from roofline.serving.figures import spread_of
from roofline.serving.lengths import Fixed, Length, Lengths, LogNormal
from roofline.serving.replay import Drawn, requests_of, rules_of, table_of
from roofline.serving.simulation import Simulation, simulate
from roofline.serving.steady import steady_state
from roofline.serving.step import ServedModel
from roofline.serving.traffic import ClosedLoop, OpenLoop
from roofline.simulator import served_case

UTILISATIONS = (0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98)
CONCURRENCIES = (1, 4, 16, 64)
AGREE = 0.10
"""Relative difference up to which the two are said to agree."""

WARM_UP = 0.2
"""Share of the requests at both ends that are not looked at: the simulation starts and ends empty."""

DEPLOYMENTS: tuple[tuple[str, str, str, Length, Length], ...] = (
    ("llama-3.1-8b", "h100-sxm", "vllm", LogNormal(2048.0, 0.6), LogNormal(256.0, 0.6)),
    ("llama-3.1-8b", "h100-sxm", "vllm", Fixed(1024.0), Fixed(512.0)),
    ("llama-3.1-8b", "h100-sxm", "sglang", LogNormal(1024.0, 0.6), LogNormal(256.0, 0.6)),
    ("llama-3.1-8b", "h100-sxm", "trtllm", LogNormal(512.0, 0.6), LogNormal(512.0, 0.6)),
    ("llama-3.1-70b", "h100-sxm:4", "vllm", LogNormal(2048.0, 0.6), LogNormal(256.0, 0.6)),
    ("qwen3-30b-a3b", "h100-sxm", "vllm", LogNormal(2048.0, 0.6), LogNormal(256.0, 0.6)),
)

FIGURES = ("ttft_s", "tpot_s", "output_token_per_s")


def middle(run: Simulation) -> dict[str, float]:
    """Mean TTFT and TPOT of the requests of the middle, and tokens per second of the time in which they came."""
    size = run.arrival_s.size
    order = np.argsort(run.arrival_s, kind="stable")
    kept = order[int(WARM_UP * size) : int((1.0 - WARM_UP) * size)]
    start_s, stop_s = run.arrival_s[kept[0]], run.arrival_s[kept[-1]]
    done = run.last_token_s[(run.last_token_s > start_s) & (run.last_token_s <= stop_s)].size
    token = float(run.output_token.mean())
    tpot = spread_of(run.tpot_s[kept])
    return {
        "ttft_s": float(run.ttft_s[kept].mean()),
        "ttft_p95_s": float(np.quantile(run.ttft_s[kept], 0.95)),
        "tpot_s": float(tpot.mean) if tpot else float("nan"),
        "output_token_per_s": done * token / max(stop_s - start_s, 1e-9),
        "preempted": float(run.preempted.sum()),
    }


def simulated(served: ServedModel, workload: Drawn) -> dict[str, float]:
    """The middle of one simulation."""
    requests = requests_of(workload, served.engine.host)
    rules = rules_of(served, requests)
    clients = int(workload.traffic.concurrency) if isinstance(workload.traffic, ClosedLoop) else None
    table = table_of(served, requests, rules)
    return middle(simulate(requests, rules, table, replicas=int(served.replicas), clients=clients))


def closed(served: ServedModel, workload: Drawn) -> dict[str, float]:
    """The same of the closed form."""
    found = steady_state(served, workload.traffic, workload.lengths)
    return {
        "ttft_s": float(found.ttft_s.mean),
        "ttft_p95_s": float(found.ttft_s.p95),
        "tpot_s": float(found.tpot_s.mean),
        "output_token_per_s": float(found.output_token_per_s),
    }


def rows(count: int) -> Iterator[dict[str, Any]]:
    """One row per deployment and load."""
    for model, device, engine, prompt, output in DEPLOYMENTS:
        case, served = served_case(model, device, engine)
        lengths = Lengths(prompt, output)
        saturation = float(steady_state(served, OpenLoop(1.0), lengths).saturation_request_per_s)
        loads: list[tuple[str, float, OpenLoop | ClosedLoop]] = [
            ("open", share, OpenLoop(share * saturation)) for share in UTILISATIONS
        ]
        if not isinstance(output, Fixed):  # equal lengths that start together stay together, in a simulation for ever
            loads += [("closed", float(n), ClosedLoop(float(n))) for n in CONCURRENCIES]
        for kind, load, traffic in loads:
            workload = Drawn(traffic, lengths, count if kind == "open" else min(count, 20 * int(load) + 200), seed=1)
            seen, said = simulated(served, workload), closed(served, workload)
            yield {
                "deployment": f"{case.model.name} {device} {engine} {prompt.mean:.0f}/{output.mean:.0f}",
                "loop": kind,
                "load": load,
                "simulation": seen,
                "closed_form": said,
                "difference": {name: said[name] / seen[name] - 1.0 for name in (*FIGURES, "ttft_p95_s")},
            }


def limit(found: list[dict[str, Any]], name: str) -> float | None:
    """The highest utilisation up to which every open-loop difference of figure `name` is within AGREE."""
    last = None
    for row in sorted((row for row in found if row["loop"] == "open"), key=lambda row: row["load"]):
        if abs(row["difference"][name]) > AGREE:
            break
        last = row["load"]
    return last


def furthest(found: list[dict[str, Any]], name: str) -> dict[str, float]:
    """The largest difference of figure `name` in the closed loops of each number of clients."""
    closed = [row for row in found if row["loop"] == "closed"]
    return {
        f"{clients:g}": max((row["difference"][name] for row in closed if row["load"] == clients), key=abs)
        for clients in CONCURRENCIES
    }


def main() -> None:
    """Print, and write what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    asked = parser.parse_args()
    found = []
    for row in rows(asked.requests):
        found.append(row)
        if row["loop"] == "open" and row["load"] == UTILISATIONS[0]:
            print(f"\n{row['deployment']}\n  load         TTFT        TTFT p95    TPOT        tokens/s")
        cells = "  ".join(
            f"{row['closed_form'][name]:8.4g} {row['difference'][name]:+5.0%}"
            for name in ("ttft_s", "ttft_p95_s", "tpot_s", "output_token_per_s")
        )
        print(f"  {row['loop']:6} {row['load']:5g}  {cells}", flush=True)
    names = list(dict.fromkeys(row["deployment"] for row in found))
    limits = {
        name: {figure: limit([row for row in found if row["deployment"] == name], figure) for figure in FIGURES}
        for name in names
    }
    print(f"\nAgree within {AGREE:.0%} up to this share of saturation:")
    for name, each in limits.items():
        print(f"  {name}: {', '.join(f'{figure} {value}' for figure, value in each.items())}")
    loops = {figure: furthest(found, figure) for figure in FIGURES}
    print("\nFurthest apart in closed loops, by clients:")
    for figure, differences in loops.items():
        print(f"  {figure}: {', '.join(f'{clients} {value:+.0%}' for clients, value in differences.items())}")
    record = {
        "schema": "roofline.closed_form/1",
        "agree": AGREE,
        "limits": limits,
        "closed_loops": loops,
        "rows": found,
    }
    if asked.json is not None:
        write_text(asked.json, json.dumps(rounded(record), indent=1) + "\n")
    if asked.plot is not None:
        write_text(asked.plot, drawing(found))


def rounded(value: Any) -> Any:
    """The same with four significant digits."""
    match value:
        case float():
            return float(f"{value:.4g}")
        case dict():
            return {name: rounded(entry) for name, entry in value.items()}
        case list():
            return [rounded(entry) for entry in value]
        case _:
            return value


PANELS = {"ttft_s": "mean TTFT", "tpot_s": "mean TPOT", "output_token_per_s": "tokens/s"}
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")
WIDTH, HEIGHT, LEFT, TOP, WORST = 300.0, 260.0, 60.0, 40.0, 0.6


def drawing(found: list[dict[str, Any]]) -> str:
    """Differences over utilisation as SVG: a panel per figure, a line per deployment, grey where they agree."""
    names = list(dict.fromkeys(row["deployment"] for row in found))

    def at(panel: int, load: float, difference: float) -> tuple[float, float]:
        share = (load - UTILISATIONS[0]) / (UTILISATIONS[-1] - UTILISATIONS[0])
        level = 0.5 - 0.5 * min(max(difference, -WORST), WORST) / WORST
        return LEFT + panel * (WIDTH + 30.0) + share * WIDTH, TOP + level * HEIGHT

    parts = []
    for panel, (figure, title) in enumerate(PANELS.items()):
        (left, upper), (right, lower) = at(panel, UTILISATIONS[0], AGREE), at(panel, UTILISATIONS[-1], -AGREE)
        grey = f'width="{right - left:.1f}" height="{lower - upper:.1f}" fill="#ddd"'
        parts += [
            f'<rect x="{left:.1f}" y="{upper:.1f}" {grey}/>',
            f'<rect x="{left:.1f}" y="{TOP}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#888"/>',
            f'<text x="{left:.1f}" y="{TOP - 10}">{title}</text>',
        ]
        for load in (0.3, 0.5, 0.7, 0.9):
            x, _ = at(panel, load, 0.0)
            parts.append(f'<text x="{x:.1f}" y="{TOP + HEIGHT + 18}" text-anchor="middle">{load:g}</text>')
        for position, name in enumerate(names):
            own = [row for row in found if row["deployment"] == name and row["loop"] == "open"]
            spots = [at(panel, row["load"], row["difference"][figure]) for row in own]
            line = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
            colour = COLOURS[position]
            parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
    for level in (-0.6, -0.3, -0.1, 0.0, 0.1, 0.3, 0.6):
        _, y = at(0, 0.3, level)
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{level:+.0%}</text>')
    below = TOP + HEIGHT + 40
    parts.append(f'<text x="{LEFT}" y="{below}">Closed form / simulation - 1, over the share of saturation</text>')
    for position, name in enumerate(names):
        y = below + 20 * (position + 1)
        parts.append(f'<rect x="{LEFT}" y="{y - 9}" width="14" height="4" fill="{COLOURS[position]}"/>')
        parts.append(f'<text x="{LEFT + 20}" y="{y}">{name}</text>')
    size = f'width="{LEFT + 3 * (WIDTH + 30):.0f}" height="{below + 20 * (len(names) + 1):.0f}"'
    style = 'font-family="sans-serif" font-size="12" style="background:#fff"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>' + "".join(parts) + "</svg>\n"


if __name__ == "__main__":
    sys.exit(main())
