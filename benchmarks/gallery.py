"""The gallery in reports/: sample records of every kind, each with its page; all share one plotly.js.

Usage: ROOFLINE_DATA=../shared/data python benchmarks/gallery.py [--render]
Without --render the records are made again by the commands below (validations by benchmarks/validation.py); with it,
only pages and the index are, from the JSON that is there.
"""

import contextlib
import io
import json
import shlex
import shutil
import sys
from pathlib import Path

from jinja2 import Environment
from markupsafe import Markup

from roofline.cli.app import run
from roofline.io.files import write_text
from roofline.report import html
from roofline.report.pages import PAGES, render

REPORTS = Path(__file__).parents[1] / "reports"
PLOTLY = "plotly.js"
MODEL = "llama-3.1-8b"
DEVICES = ("a100-sxm-80gb", "h100-sxm", "h200-sxm", "mi300x", "tpu-v5e:2", "tpu-v6e", "fpga-vhk158")

SAMPLES = {
    "compare": f"compare {MODEL} {','.join(DEVICES)}",
    **{f"predict-{device.split(':')[0]}": f"predict {MODEL} {device}" for device in DEVICES},
    "predict-batches": f"predict {MODEL} h100-sxm --batch 1,4,16,64,128",
    "predict-serving": f"predict {MODEL} h100-sxm --concurrency 64",
    "plan": "plan llama-3.1-70b --rate 20 --ttft 0.5 --tpot 0.05 --devices h100-sxm,h200-sxm,mi300x,a100-sxm-80gb",
    "plan-infeasible": "plan llama-3.1-70b --rate 20 --ttft 0.05 --tpot 0.01 --devices h100-sxm",
    "simulate": f"simulate {MODEL} h100-sxm --rate 10 --input lognormal:2048:0.5 --output lognormal:256:0.5",
    "sensitivity": f"sensitivity {MODEL} h100-sxm",
    "explain": f"explain {MODEL} h100-sxm usd_per_mtok_output",
    "diff": ["diff", f"{MODEL} h100-sxm", f"{MODEL} h200-sxm:2 batch=64 kv=fp8 weights=fp8"],
}
"""Name of a sample, and the command that prints its record."""

KINDS = {
    "roofline.comparison/1": "Devices side by side",
    "roofline.prediction/1": "One prediction",
    "roofline.predictions/1": "One device, several scenarios",
    "roofline.plan/1": "A plan: which devices, how many, at what cost",
    "roofline.simulation/1": "A simulation, request by request",
    "roofline.sensitivity/1": "What would move a prediction",
    "roofline.diff/1": "Why two predictions differ",
    "roofline.explanation/1": "Where one figure comes from",
    "roofline.validation/1": "Predictions against measured kernels",
    "roofline.this_machine/1": "Whole models and a sweep measured on one machine",
}
"""Titles of the kinds of sample, in the order of the index."""

INDEX = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>Sample reports · roofline</title>
<style>
{{ style }}
</style>
</head>
<body>
<header>
<p class="kicker">roofline</p>
<h1>Sample reports</h1>
<p class="answer">One page for each kind of record that the commands write, beside the record itself. A page that a
command writes with <code>--html</code> is one file to mail; these share one plotly.js.</p>
</header>
<main>
{% for title, samples in kinds %}
<section>
<h2>{{ title }}</h2>
<ul>
{% for name, command, page in samples %}
<li>{% if page %}<a href="{{ name }}.html">{{ name }}</a>{% else %}{{ name }}{% endif %}{{ ' ' }}
(<a href="{{ name }}.json">JSON</a>)<br><code>{{ command }}</code></li>
{% endfor %}
</ul>
</section>
{% endfor %}
</main>
<footer><p>Made again by <code>python benchmarks/gallery.py</code>;
<a href="README.md">README.md</a> has the table of validations.</p></footer>
</body>
</html>
"""


def make(name, command):
    """The record that `command` prints."""
    out = io.StringIO()
    arguments = command.split() if isinstance(command, str) else command
    sys.argv = ["roofline", *arguments, "--json"]
    with contextlib.redirect_stdout(out):
        status = run(sys.argv[1:])
    record = json.loads(out.getvalue())
    print(f"{name}: {shlex.join(arguments)} (exit {status})")
    write_text(REPORTS / f"{name}.json", json.dumps(record, separators=(",", ":"), allow_nan=False) + "\n")


def kept():
    """Every record in reports/ that has a kind of page, by its name (others are figures of a benchmark of its own)."""
    held = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(REPORTS.glob("*.json"))}
    return {name: record for name, record in held.items() if record["schema"] in PAGES}


def page_wanted(name):
    """Whether a record has a page: all but three of the validations, whose pages would only repeat the two that do."""
    return not name.startswith("validation-") or (REPORTS / f"{name}.html").exists()


def index(records):
    """The page that lists `records`."""
    kinds = []
    for schema, title in KINDS.items():
        samples = [
            (name, record["provenance"]["command"], page_wanted(name))
            for name, record in records.items()
            if record["schema"] == schema
        ]
        if samples:
            kinds.append((title, samples))
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    style = (Path(html.__file__).parent / "templates" / "page.css").read_text("utf-8")
    return environment.from_string(INDEX).render(kinds=kinds, style=Markup(style))


def main():
    if "--render" not in sys.argv[1:]:
        for name, command in SAMPLES.items():
            make(name, command)
    records = kept()
    for name, record in records.items():
        if page_wanted(name):
            write_text(REPORTS / f"{name}.html", render(record, PLOTLY))
    shutil.copyfile(html.PLOTLY, REPORTS / PLOTLY)
    write_text(REPORTS / "index.html", index(records))
    print(f"{len(records)} records, {sum(path.stat().st_size for path in REPORTS.iterdir()) / 1e6:.1f} MB in {REPORTS}")


if __name__ == "__main__":
    main()
