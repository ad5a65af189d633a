"""The validation report: writes reports/validation-*.json, two of them as pages, and reports/README.md.

Every figure is of rows that no fit has seen. Shipped profiles are judged as they are, by every library that they hold.

Usage: ROOFLINE_DATA=../shared/data python benchmarks/validation.py [--render]
With --render, only make the pages again from the JSON that is there.
"""

import json
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import transfer

from roofline.calibrate.models import key_of
from roofline.calibrate.rows import Rows, directly_served, grouped, split
from roofline.io.calibration import backends_of, load_calibration
from roofline.io.datasets import read
from roofline.io.files import write_text
from roofline.io.profiles import load_target
from roofline.report.pages import write_page
from roofline.validate.record import validation_record
from roofline.validate.run import validate
from roofline.validate.select import Unseen

REPORTS = Path(__file__).parents[1] / "reports"
HALF = Unseen(0.5, 0)
SETS = {
    "a100-sxm-80gb": ("aiconfigurator", "vidur"),
    "h100-sxm": ("aiconfigurator",),
    "rtx-pro-6000": ("llmservingsim",),
    "tpu-v6e": ("llmservingsim",),
    "mi210": ("llmcompass",),
}
PAGES = ("a100-sxm-80gb", "h100-sxm")


@dataclass(frozen=True)
class Target:
    """What issue 4 asks for, as fractions: a row of its table."""

    title: str
    device: str
    families: tuple[str, ...]
    median: float
    mean: float
    dtypes: tuple[str, ...] = ()
    library: str = ""


A100, H100 = "a100-sxm-80gb", "h100-sxm"
ALL_REDUCE = ("all_reduce", "bf16")
NCCL = ("all_gather", "reduce_scatter", "all_to_all")
POINTWISE = ("norm", "activation", "rope", "residual", "embedding", "softmax", "sampling")
LATENT = ("latent_prefill", "latent_decode")
WEIGHT_ONLY = ("int8_weight_only", "int4_weight_only")
TARGETS = (
    Target("GEMM bf16", H100, ("gemm",), 0.04, 0.055, ("bf16",), "vllm"),
    Target("GEMM bf16", A100, ("gemm",), 0.045, 0.065, ("bf16",), "vllm"),
    Target("GEMM fp8, with its quantise kernel", H100, ("gemm",), 0.06, 0.09, ("fp8",), "vllm"),
    Target("GEMM, weights only in int8 or int4", A100, ("gemm",), 0.08, 0.12, WEIGHT_ONLY),
    Target("prefill attention, vLLM", A100, ("prefill_attention",), 0.025, 0.04, (), "vllm"),
    Target("prefill attention, vLLM", H100, ("prefill_attention",), 0.045, 0.065, (), "vllm"),
    Target("prefill attention, TensorRT-LLM", A100, ("prefill_attention",), 0.025, 0.04, (), "trtllm"),
    Target("prefill attention, TensorRT-LLM", H100, ("prefill_attention",), 0.045, 0.065, (), "trtllm"),
    Target("decode attention, vLLM", A100, ("decode_attention",), 0.037, 0.05, (), "vllm"),
    Target("decode attention, vLLM", H100, ("decode_attention",), 0.04, 0.06, (), "vllm"),
    Target("decode attention, TensorRT-LLM", A100, ("decode_attention",), 0.07, 0.11, (), "trtllm"),
    Target("decode attention, TensorRT-LLM", H100, ("decode_attention",), 0.07, 0.11, (), "trtllm"),
    Target("MoE bf16", H100, ("moe",), 0.045, 0.07, ("bf16",)),
    Target("MoE bf16", A100, ("moe",), 0.075, 0.105, ("bf16",)),
    Target("MoE fp8", H100, ("moe",), 0.05, 0.09, ("fp8",)),
    Target("MLA prefill and decode", A100, LATENT, 0.06, 0.10),
    Target("MLA prefill and decode", H100, LATENT, 0.06, 0.10),
    Target("custom all-reduce", A100, ("all_reduce below the limit",), 0.04, 0.045, (), "vllm"),
    Target("custom all-reduce", H100, ("all_reduce below the limit",), 0.04, 0.045, (), "vllm"),
    Target("NCCL all-reduce, called by vLLM for large payloads", A100, ("all_reduce handed to NCCL",), 0.05, 0.08),
    Target("NCCL all-reduce, called by vLLM for large payloads", H100, ("all_reduce handed to NCCL",), 0.05, 0.08),
    Target("NCCL all-reduce", A100, ("all_reduce",), 0.05, 0.08, (), "nccl"),
    Target("NCCL all-reduce", H100, ("all_reduce",), 0.05, 0.08, (), "nccl"),
    Target("NCCL, other collectives", A100, NCCL, 0.05, 0.08),
    Target("NCCL, other collectives", H100, NCCL, 0.05, 0.08),
    Target("pointwise and norms", A100, POINTWISE, 0.05, 0.08),
    Target("pointwise and norms", "rtx-pro-6000", POINTWISE, 0.05, 0.08),
    Target("pointwise and norms", "tpu-v6e", POINTWISE, 0.05, 0.08),
    Target("pointwise and norms", "mi210", POINTWISE, 0.05, 0.08),
    Target("TPU GEMM layers", "tpu-v6e", ("gemm",), 0.04, 0.06),
    Target("TPU attention", "tpu-v6e", ("prefill_attention", "decode_attention"), 0.02, 0.03),
    Target("mixed prefill and decode", "rtx-pro-6000", ("mixed_attention",), 0.07, 0.10),
)


def folder(name):
    return Path(os.environ["ROOFLINE_DATA"]) / name


def shipped(device):
    """The record of a shipped profile on its unseen rows."""
    target = load_target(device)
    results = [read(folder(name)) for name in SETS[device]]
    refused = [entry for _, entries in results for entry in entries]
    predictors = {device: (target.device, load_calibration(target))}
    found = validate([group for groups, _ in results for group in groups], predictors, unseen=HALF)
    where = " ".join(f"$ROOFLINE_DATA/{name}" for name in SETS[device])
    command = f"roofline validate {where} --device {device} --unseen --json"
    return validation_record(found, predictors, refused=refused, unseen=HALF, command=command)


def other_libraries(device):
    """The families of the libraries that a profile holds besides its default, each judged by its own unseen rows."""
    target = load_target(device)
    records = [group for name in SETS[device] for group in read(folder(name))[0] if group.device == device]
    for library in backends_of(target)[1:]:
        calibration = load_calibration(target, library)
        own = {key: fitted for key, fitted in calibration.models.items() if fitted.evidence.backend == library}
        predictors = {device: (target.device, replace(calibration, models=own))}
        judged = [group for group in records if group.backend == library and key_of(group) in own]
        found = validate(judged, predictors, backend=library, unseen=HALF)
        yield from validation_record(found, predictors, unseen=HALF)["families"]


def custom_all_reduce(device):
    """An engine's own all-reduce, apart: payloads that it serves, on the rows that its fit did not see; and those that
    it hands to NCCL, whose parameters are fitted to another table, so that no fit has seen them.
    """
    target = load_target(device)
    fitted = load_calibration(target).models[ALL_REDUCE]
    records = [group for group in read(folder(SETS[device][0]))[0] if group.device == device]
    groups = grouped(records, fitted.evidence.backend)[ALL_REDUCE]
    own = [group.take(directly_served(group, fitted.parameters)) for group in groups]
    handed = [group.take(~directly_served(group, fitted.parameters)) for group in groups]
    unseen = split(own, target.device, fit_fraction=HALF.fit_fraction, seed=HALF.seed).unseen
    judged = (("below the limit", Rows(tuple(own)).take(np.sort(unseen))), ("handed to NCCL", Rows(tuple(handed))))
    for name, rows in judged:
        predicted_s, limit_s = rows.times(target.device, fitted.parameters)
        error = np.abs(predicted_s / rows.measured_s - 1)
        yield {
            "device": device,
            "family": f"all_reduce {name}",
            "dtype": "bf16",
            "library": f"{groups[0].backend} {groups[0].version}",
            "n": error.size,
            "median_ape": float(np.median(error)),
            "mape": float(np.mean(error)),
            "roofline_median_ape": float(np.median(np.abs(limit_s / rows.measured_s - 1))),
        }


def percent(value):
    return f"{100 * value:.1f} %"


def table(titles, rows):
    yield "| " + " | ".join(titles) + " |"
    yield "|" + "---|" * len(titles)
    yield from ("| " + " | ".join(row) + " |" for row in rows)
    yield ""


FAMILY_TITLES = (
    "family",
    "format",
    "library",
    "n",
    "median",
    "mean",
    "p90",
    "bias",
    "in the 80 % band",
    "bare roofline",
)


def family_row(entry):
    figures = [percent(entry[key]) for key in ("median_ape", "mape", "p90_ape")]
    figures += [f"{100 * entry['bias']:+.1f} %", percent(entry["coverage"]), percent(entry["roofline_median_ape"])]
    return entry["family"], entry["dtype"], entry["library"], f"{entry['n']:,}", *figures


def verdict(*excesses):
    """Which of the named errors exceed their goal, and by how many percentage points."""
    missed = [f"{name} by {100 * excess:.2g} points" for name, excess in excesses if excess > 0]
    return f"**missed**: {', '.join(missed)}" if missed else "met"


def transfer_rows(found):
    """The targets of transfer: the median error as is, and after a fit to a few rows."""
    for entry in found:
        if not entry.tuned:
            continue
        goal = 0.07 if entry.key[0] == "gemm" else 0.055
        as_is, tuned = np.median(np.abs(1 / entry.ratio - 1)), np.mean([median for median, *_ in entry.tuned])
        for reached, wanted, how in ((as_is, 0.13, "as is"), (tuned, goal, f"with {transfer.FEW} rows")):
            where = f"{entry.source} to {entry.target}"
            yield (
                " ".join(entry.key),
                where,
                how,
                percent(wanted),
                percent(reached),
                verdict(("median", reached - wanted)),
            )


def target_rows(families):
    """Each target with what was reached, by family and format where it names several."""
    for target in TARGETS:
        found = [
            entry
            for entry in families
            if entry["device"] == target.device
            and entry["family"] in target.families
            and entry["dtype"] in (target.dtypes or (entry["dtype"],))
            and entry["library"].startswith(target.library)
        ]
        wanted = f"{percent(target.median)} / {percent(target.mean)}"
        if not found:
            yield target.title, target.device, wanted, "not judged: see what was not compared", "", ""
        for entry in found:
            reached = f"{percent(entry['median_ape'])} / {percent(entry['mape'])}"
            what = f"{entry['family']} {entry['dtype']}, n {entry['n']:,}"
            excess = ("median", entry["median_ape"] - target.median), ("mean", entry["mape"] - target.mean)
            bare = percent(entry["roofline_median_ape"])
            yield target.title, target.device, wanted, f"{reached} ({what})", bare, verdict(*excess)


def readme(records, others, parts, moved):
    families = [entry for record in records.values() for entry in record["families"]]
    held = {(entry["device"], entry["family"], entry["dtype"], entry["library"]) for entry in families}
    others = [e for e in others if (e["device"], e["family"], e["dtype"], e["library"]) not in held]
    families += others + parts
    yield from (
        "# Reports",
        "",
        "Predicted against measured kernels, on rows that no fit has seen (half of the distinct shapes, seed 0).",
        "Written by `benchmarks/validation.py`; do not edit. Make them again, after a calibration or a change of a",
        "timing model, with",
        "",
        "```sh",
        "ROOFLINE_DATA=../shared/data python benchmarks/validation.py            # everything, about two minutes",
        "python benchmarks/validation.py --render                                # only the pages, from the JSON",
        "```",
        "",
        "Each `validation-DEVICE.json` is what this prints:",
        "",
        "```sh",
        *(record["provenance"]["command"] for record in records.values()),
        "```",
        "",
        f"Pages are kept for {' and '.join(PAGES)}; `--html FILE` instead of `--json` makes one for any device. Errors",
        "are |predicted / measured - 1|. What was not compared is in each record under `excluded`, with the reason.",
        "",
        "`closed-form.svg` (the closed form beside simulation) stays a drawing, without a page;",
        "`closed-form.json` has its figures.",
        "",
        "## Against the targets of issue 4",
        "",
        "Targets and figures: median / mean error.",
        "",
        *table(("what", "device", "target", "reached", "bare roofline", ""), target_rows(families)),
    )
    for device, record in records.items():
        overall = record["overall"]
        yield f"## {device}"
        yield ""
        if overall["n"]:
            yield (
                f"{overall['n']:,} unseen rows: median {percent(overall['median_ape'])}, "
                f"mean {percent(overall['mape'])}, {percent(overall['coverage'])} within the 80 % band, bare roofline "
                f"{percent(overall['roofline_median_ape'])}; where one dimension doubles, predicted and measured time "
                f"agree in {percent(overall['bound_agreement'])} of the cases on whether time follows."
            )
            yield ""
            yield from table(FAMILY_TITLES, map(family_row, record["families"]))
        yield "Not compared: " + "; ".join(f"{entry['n']:,} {entry['reason']}" for entry in record["excluded"]) + "."
        yield ""
        yield from (f"- {notice}" for notice in record["notices"])
        yield from ("",) if record["notices"] else ()
    yield from (
        "## Other libraries",
        "",
        "What `--backend` takes besides the default, where the default does not take it already.",
        "",
        *table(("device", *FAMILY_TITLES), ((entry["device"], *family_row(entry)) for entry in others)),
        "## Transfer between A100 and H100",
        "",
        "Parameters of one device, scaled by both datasheets, with the kernels that the other's profile declares,",
        f"against all measured rows of the other; and after a fit to {transfer.FEW} of its rows, against the others",
        f"(mean of {len(transfer.SEEDS)} draws). Targets: GEMM and",
        f"attention 13 % median as is, 7 % and 5.5 % with {transfer.FEW} rows.",
        "",
        *table(("what", "from and to", "how", "target", "median", ""), transfer_rows(moved)),
        "All families, as `benchmarks/transfer.py` prints them:",
        "",
        "```text",
        *transfer.lines_of(moved),
        "```",
    )


def render():
    for device in PAGES:
        path = REPORTS / f"validation-{device}.json"
        write_page(json.loads(path.read_text("utf-8")), path.with_suffix(".html"), plotly="plotly.js")
        print(f"wrote {path.with_suffix('.html')}")


def main():
    REPORTS.mkdir(exist_ok=True)
    if "--render" not in sys.argv[1:]:
        records = {}
        for device in SETS:
            records[device] = shipped(device)
            path = REPORTS / f"validation-{device}.json"
            write_text(path, json.dumps(records[device], separators=(",", ":"), allow_nan=False) + "\n")
            print(f"wrote {path}")
        others = []
        for device in SETS:
            others += other_libraries(device)
        parts = [entry for device in (A100, H100) for entry in custom_all_reduce(device)]
        moved = tuple(transfer.carried(read(folder("aiconfigurator"))[0]))
        write_text(REPORTS / "README.md", "\n".join(readme(records, others, parts, moved)).rstrip() + "\n")
        print(f"wrote {REPORTS / 'README.md'}")
    render()


if __name__ == "__main__":
    main()
