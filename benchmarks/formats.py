"""What it costs to predict one number format with the fit of another: writes roofline/data/formats.toml.

For every library and family that A100 or H100 are calibrated for in several formats, keeps the fit of bf16 only, and
compares what timing.formats borrows from it with the measured rows of the other formats. The band
of a family, for narrower storage and for products in another format each, is the widest over libraries and devices:
from the smallest 10 % to the largest 90 % quantile of measured / predicted.

Usage: ROOFLINE_DATA=../shared/data python benchmarks/formats.py
"""

import os
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from roofline.calibrate.models import parameters_time
from roofline.calibrate.rows import grouped
from roofline.io.calibration import FORMATS, calibration_of
from roofline.io.datasets import read
from roofline.io.files import write_text
from roofline.io.profiles import load_target
from roofline.structs import STORED_BYTE
from roofline.timing import fit_of
from roofline.timing.calibration import Borrowing, Formats, formats_of

DEVICES = ("a100-sxm-80gb", "h100-sxm")
LEFT_OUT = ("fp8_block",)
"""Formats that no model's step asks for by name: another scheme of scales than that of the rest."""


@dataclass(frozen=True)
class Borrowed:
    """Measured over predicted of every row of one family and format, predicted with the fit of bf16; and how its own
    fit does.
    """

    device: str
    library: str
    key: tuple[str, str]
    kind: Borrowing
    ratio: np.ndarray
    own_median: float


def borrowed(records):
    """A Borrowed for every device, library, family and format with a fit of its own beside one of bf16."""
    for name in DEVICES:
        target = load_target(name)
        for library in ("vllm", "trtllm"):
            calibration = calibration_of(target.calibration, name, library)
            wide = {key: fitted for key, fitted in calibration.models.items() if key[1] == "bf16"}
            lending = replace(calibration, models=wide, formats=Formats(target.device, {}))
            rows = grouped([group for group in records if group.device == name], library)
            for key in sorted(calibration.models.keys() & rows.keys() - wide.keys()):
                lent = fit_of(key, lending)
                if lent is None or key[1] in LEFT_OUT or rows[key][0].backend != lent.evidence.backend:
                    continue
                predicted_s = np.concatenate(
                    [parameters_time(group, target.device, lent.parameters).total_s for group in rows[key]]
                )
                ratio = np.concatenate([group.measured_s for group in rows[key]]) / predicted_s
                stored = STORED_BYTE[formats_of(key[1])[0]] == STORED_BYTE[formats_of("bf16")[0]]
                kind = Borrowing.STORED if stored else Borrowing.COMPUTED
                yield Borrowed(name, library, key, kind, ratio, calibration.models[key].evidence.median_ape)


def main():
    found = tuple(borrowed(read(Path(os.environ["ROOFLINE_DATA"]) / "aiconfigurator")[0]))
    print(f"{'device':14s} {'library':7s} {'family':18s} {'format':17s} median   mean   bias  band          own fit")
    widest = defaultdict(list)
    for entry in found:
        error, (low, high) = np.abs(1 / entry.ratio - 1), np.quantile(entry.ratio, [0.1, 0.9])
        named = f"{entry.device:14s} {entry.library:7s} {entry.key[0]:18s} {entry.key[1]:17s}"
        errors = f"{np.median(error):6.1%} {np.mean(error):6.1%} {np.median(1 / entry.ratio - 1):+6.1%}"
        print(f"{named} {errors}  {low:.2f} to {high:.2f}  {entry.own_median:.1%}")
        widest[entry.key[0], str(entry.kind)].append((low, high, entry.ratio.size, entry.key[1]))
    lines = ["# Bands of fits borrowed from another number format. Written by benchmarks/formats.py; do not edit."]
    for (family, kind), rows in sorted(widest.items()):
        formats = ", ".join(sorted({row[3] for row in rows}))
        lines += [
            "",
            f"[families.{family}.{kind}]",
            f"low = {min(1.0, *(row[0] for row in rows)):.3f}",
            f"high = {max(1.0, *(row[1] for row in rows)):.3f}",
            f'source = "bf16 to {formats} on A100 and H100, {sum(row[2] for row in rows)} rows"',
        ]
    write_text(FORMATS, "\n".join(lines) + "\n")
    print(f"wrote {FORMATS}")


if __name__ == "__main__":
    main()
