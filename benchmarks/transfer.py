"""What it costs to predict one device with another's parameters: writes roofline/data/transfer.toml.

For every family that both A100 and H100 are calibrated for, scales the parameters of one by the datasheets of both and
compares with the measured rows of the other, both ways. The band of a family is the wider of the two ways: from the
smaller 10 % to the larger 90 % quantile of measured / predicted.

Usage: ROOFLINE_DATA=../shared/data python benchmarks/transfer.py
"""

import os
from collections import defaultdict
from pathlib import Path

import numpy as np

from roofline.calibrate.models import parameters_time
from roofline.calibrate.run import grouped
from roofline.io.calibration import TRANSFER, calibration_of
from roofline.io.datasets import read
from roofline.io.files import write_text
from roofline.io.profiles import load_target
from roofline.timing.transfer import transferred

PAIRS = (("a100-sxm-80gb", "h100-sxm"), ("h100-sxm", "a100-sxm-80gb"))


def main():
    records = read(Path(os.environ["ROOFLINE_DATA"]) / "aiconfigurator")[0]
    targets = {name: load_target(name) for name in PAIRS[0]}
    models = {name: calibration_of(target.calibration, name).models for name, target in targets.items()}
    found = defaultdict(list)
    print(f"{'':42s} {'family':18s} {'format':10s} {'median':>7s} {'mean':>7s} {'bias':>7s}   band")
    for source, target in PAIRS:
        device = targets[target].device
        lent = transferred(models[source], targets[source].device, device)
        rows = grouped([group for group in records if group.device == target], "vllm")
        for key in sorted(lent.keys() & rows.keys()):
            groups = rows[key]
            predicted_s = np.concatenate([parameters_time(g, device, lent[key].parameters).total_s for g in groups])
            ratio = np.concatenate([group.measured_s for group in groups]) / predicted_s
            low, high = np.quantile(ratio, [0.1, 0.9])
            error = np.abs(1 / ratio - 1)
            found[key[0]].append((low, high, ratio.size))
            print(
                f"{source + ' -> ' + target:42s} {key[0]:18s} {key[1]:10s} {np.median(error):7.1%} "
                f"{np.mean(error):7.1%} {np.median(1 / ratio - 1):+7.1%}   {low:.2f} to {high:.2f}"
            )
    lines = ["# Bands of parameters carried over between devices. Written by benchmarks/transfer.py; do not edit."]
    for family, rows in sorted(found.items()):
        low, high = min(row[0] for row in rows), max(row[1] for row in rows)
        lines += [
            "",
            f"[families.{family}]",
            f"low = {min(low, 1.0):.3f}",
            f"high = {max(high, 1.0):.3f}",
            f'source = "A100 to H100 and back, {sum(row[2] for row in rows)} rows"',
        ]
    write_text(TRANSFER, "\n".join(lines) + "\n")
    print(f"wrote {TRANSFER}")


if __name__ == "__main__":
    main()
