"""How fast large pages answer: a prediction of 200 kernels and a plan of 5,000 candidates, in headless Chromium.

Each time is from the action to the second frame after it, when the change is on the screen; the median and the largest
of the repeats are printed. Less than 200 ms is the aim.

Usage: python benchmarks/page_response.py
"""

import json
import sys
import tempfile
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from roofline.report.pages import render  # noqa: E402
from tests.report.browsing import opened, show  # noqa: E402

REPEATS = 7
KERNELS, POINTS = 200, 5000

TIMED = """
const done = arguments[arguments.length - 1];
const act = new Function("i", arguments[0]);
const start = performance.now();
Promise.resolve(act(arguments[1])).then(() =>
  requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - start))));
"""

ACTIONS = {
    "prediction": {
        "sort the kernels": "document.querySelector('#decode-kernels th[data-key=step_s] button').click()",
        "hover over the roofline": "Plotly.Fx.hover('roofline-plot', [{curveNumber: CURVE, pointNumber: i}])",
        "zoom the roofline": "return Plotly.relayout('roofline-plot', {'xaxis.range': [-1, 2 + i / 10]})",
    },
    "plan": {
        "sort the candidates": "document.querySelector('#points th[data-key=ttft_s] button').click()",
        "sort them by a text": "document.querySelector('#points th[data-key=device] button').click()",
        "filter the candidates": (
            "const f = document.querySelector('input[data-filter=points]'); f.value = ['h100', 'fp8', ''][i % 3];"
            "f.dispatchEvent(new Event('input', {bubbles: true}))"
        ),
        "show more candidates": "document.querySelector('button[data-do=more][data-table=points]').click()",
        "hover over the front": "Plotly.Fx.hover('pareto-plot', [{curveNumber: CURVE, pointNumber: i}])",
        "zoom the front": "return Plotly.relayout('pareto-plot', {'xaxis.range': [0.5, 2 + i / 10]})",
        "hide a trace": "return Plotly.restyle('pareto-plot', {visible: i % 2 ? true : 'legendonly'}, [CURVE])",
    },
}


def prediction():
    """The kept prediction with its kernels repeated up to KERNELS a phase."""
    record = json.loads((ROOT / "reports" / "predict-h100-sxm.json").read_text("utf-8"))
    for phase in record["phases"].values():
        kernels = phase["kernels"]
        phase["kernels"] = [
            {**kernels[i % len(kernels)], "name": f"{kernels[i % len(kernels)]['name']} {i // len(kernels)}"}
            for i in range(KERNELS)
        ]
    return record


def plan():
    """The kept plan with its candidates repeated, a little apart, up to POINTS."""
    record = json.loads((ROOT / "reports" / "plan.json").read_text("utf-8"))
    points = record["pareto"]["points"]
    count = len(points["device"])
    for key, column in points.items():
        apart = key in ("ttft_s", "tpot_s", "output_token_per_s_per_user", "output_token_per_s_per_device")
        points[key] = [column[i % count] * (1.0 + 0.001 * (i // count) if apart else 1) for i in range(POINTS)]
        if not apart:
            points[key] = [column[i % count] for i in range(POINTS)]
    return record


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        browser = opened(folder / "profile")
        try:
            for kind, record in (("prediction", prediction()), ("plan", plan())):
                path = folder / f"{kind}.html"
                path.write_text(render(record), "utf-8", newline="")
                show(browser, path)
                opening = browser.execute_script(
                    "return performance.timing.loadEventEnd - performance.timing.fetchStart"
                )
                print(f"{kind}: {path.stat().st_size / 1e6:.2f} MB, opened and drawn in {opening} ms")
                figure = "roofline-plot" if kind == "prediction" else "pareto-plot"
                curve = browser.execute_script(
                    f"const d = document.getElementById('{figure}').data; const n = d.map((t) => t.x.length);"
                    "return n.indexOf(Math.max(...n))"
                )
                for action, script in ACTIONS[kind].items():
                    script = script.replace("CURVE", str(curve))
                    times = [browser.execute_async_script(TIMED, script, i) for i in range(REPEATS)]
                    told = "" if max(times) < 200.0 else "   over 200 ms"
                    print(f"  {action:26} median {median(times):6.0f} ms, at most {max(times):6.0f} ms{told}")
        finally:
            browser.quit()


if __name__ == "__main__":
    main()
