"""What it costs to predict one device with another's parameters: writes roofline/data/transfer.toml.

For every family that both A100 and H100 are calibrated for, scales the parameters of one by the datasheets of both,
takes the kernels that the other's profile declares, and compares with the measured rows of the other, both ways. The
band of a family is the wider of the two ways: from the smaller 10 % to the larger 90 % quantile of measured /
predicted. Pointwise kernels were measured on A100 and RTX PRO 6000 instead. Then the same after a fit to a few rows of
the target.

Usage: ROOFLINE_DATA=../shared/data python benchmarks/transfer.py
"""

import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from roofline.calibrate.models import parameters_time
from roofline.calibrate.rows import Rows, grouped
from roofline.calibrate.run import calibrate_key
from roofline.io.calibration import TRANSFER, calibration_of, carried_over
from roofline.io.datasets import read
from roofline.io.files import write_text
from roofline.io.profiles import load_target
from roofline.timing.calibration import DATASHEET_FAMILY

PAIRS = (("a100-sxm-80gb", "h100-sxm"), ("h100-sxm", "a100-sxm-80gb"))
POINTWISE_PAIRS = (("a100-sxm-80gb", "rtx-pro-6000"), ("rtx-pro-6000", "a100-sxm-80gb"))
TITLES = {"a100-sxm-80gb": "A100", "h100-sxm": "H100", "rtx-pro-6000": "RTX PRO 6000"}
FOLDERS = ("aiconfigurator", "vidur", "llmservingsim")
FEW = 30
SEEDS = range(5)
TUNED = (("gemm", "bf16"), ("prefill_attention", "bf16"), ("decode_attention", "bf16"))


@dataclass(frozen=True)
class Carried:
    """Measured over predicted of every row of one family of `target`, predicted with the parameters of `source`; and
    after fits to a few rows, the errors on all others: median error, mean error and coverage of the band, a fit each.
    """

    source: str
    target: str
    key: tuple[str, str]
    ratio: np.ndarray
    tuned: tuple[tuple[float, float, float], ...]


def carried(records):
    """A Carried for every pair of devices and family that both are calibrated for."""
    targets = {name: load_target(name) for name in TITLES}
    models = {name: calibration_of(target.calibration, name).models for name, target in targets.items()}
    for source, target in PAIRS + POINTWISE_PAIRS:
        device = targets[target].device
        lent = carried_over(models[source], targets[source], targets[target])
        rows = grouped([group for group in records if group.device == target], "vllm")
        for key in sorted(lent.keys() & rows.keys()):
            pointwise = key[0] not in DATASHEET_FAMILY
            if pointwise is not ((source, target) in POINTWISE_PAIRS):
                continue
            groups, parameters = rows[key], lent[key].parameters
            predicted_s = np.concatenate([parameters_time(group, device, parameters).total_s for group in groups])
            ratio = np.concatenate([group.measured_s for group in groups]) / predicted_s
            tuned = [with_few_rows(groups, device, parameters, seed) for seed in SEEDS] if key in TUNED else []
            yield Carried(source, target, key, ratio, tuple(tuned))


def with_few_rows(groups, device, prior, seed):
    """Median error, mean error and coverage on all rows but FEW drawn ones that `prior` was tuned to."""
    everything = Rows(tuple(groups))
    size = everything.measured_s.size
    drawn = np.sort(np.random.default_rng(seed).permutation(size)[:FEW])
    few, others = everything.take(drawn), everything.take(np.setdiff1d(np.arange(size), drawn))
    fitted = calibrate_key(few.groups, device, fit_fraction=0.999, seed=seed, date="", prior=prior)
    ratio = others.measured_s / others.times(device, fitted.parameters)[0]
    error = np.abs(1 / ratio - 1)
    inside = (fitted.band.low <= ratio) & (ratio <= fitted.band.high)
    return float(np.median(error)), float(np.mean(error)), float(np.mean(inside))


def lines_of(found):
    """What is printed, a line for each Carried."""
    titles = f"{'median':>6s} {'mean':>6s} {'bias':>6s}  {'band':12s}  with {FEW} rows: median / mean"
    yield f"{'':28s} {'family':18s} {'format':9s} {titles}"
    for entry in found:
        error, (low, high) = np.abs(1 / entry.ratio - 1), np.quantile(entry.ratio, [0.1, 0.9])
        tuned = ""
        if entry.tuned:
            median, mean, inside = np.mean(entry.tuned, axis=0)
            tuned = f"{median:.1%} / {mean:.1%}, {inside:.0%} in band"
        yield (
            f"{entry.source + ' -> ' + entry.target:28s} {entry.key[0]:18s} {entry.key[1]:9s} {np.median(error):6.1%} "
            f"{np.mean(error):6.1%} {np.median(1 / entry.ratio - 1):+6.1%}  {low:.2f} to {high:.2f}  {tuned}"
        ).rstrip()


def main():
    records = [group for name in FOLDERS for group in read(Path(os.environ["ROOFLINE_DATA"]) / name)[0]]
    found = tuple(carried(records))
    print("\n".join(lines_of(found)))
    ends, pairs = defaultdict(list), {}
    for entry in found:
        ends[entry.key[0]].append((*np.quantile(entry.ratio, [0.1, 0.9]), entry.ratio.size))
        pairs[entry.key[0]] = " to ".join(sorted((TITLES[entry.source], TITLES[entry.target])))
    lines = ["# Bands of parameters carried over between devices. Written by benchmarks/transfer.py; do not edit."]
    for family, rows in sorted(ends.items()):
        low, high = min(row[0] for row in rows), max(row[1] for row in rows)
        lines += [
            "",
            f"[families.{family}]",
            f"low = {min(low, 1.0):.3f}",
            f"high = {max(high, 1.0):.3f}",
            f'source = "{pairs[family]} and back, {sum(row[2] for row in rows)} rows"',
        ]
    write_text(TRANSFER, "\n".join(lines) + "\n")
    print(f"wrote {TRANSFER}")


if __name__ == "__main__":
    main()
