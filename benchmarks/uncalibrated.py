"""How wrong datasheet timing is where it can be checked: writes roofline/data/uncalibrated.toml.

Compares `datasheet_time` with the measured kernels of ROOFLINE_DATA whose large operand does not fit the cache twice
(benchmark loops keep smaller ones warm, a model's step does not), and keeps, per kernel family, the 10 % and 90 %
quantiles of measured / predicted of all groups of records (devices, backends and formats) put together, so that what
differs between groups counts, and the mean of their medians; each group has the same weight, whatever its rows.

Usage: ROOFLINE_DATA=../shared/data python benchmarks/uncalibrated.py
"""

import os
from collections import defaultdict
from pathlib import Path

import numpy as np

from roofline.calibrate.work import group_of, work_of
from roofline.io.calibration import UNCALIBRATED
from roofline.io.datasets import read
from roofline.io.files import write_text
from roofline.io.profiles import load_device
from roofline.timing import KernelFamily, WorkingSet, family_of
from roofline.timing.datasheet import datasheet_time

FOLDERS = ("aiconfigurator", "vidur")
COLD = WorkingSet(np.inf)


def ratios():
    """Measured / predicted and measured / roofline of each group of records, by kernel family."""
    for folder in FOLDERS:
        for records in read(Path(os.environ["ROOFLINE_DATA"]) / folder)[0]:
            device = load_device(records.device)
            groups = [group_of(work) for work in work_of(records)]
            if not groups or np.max(records.loop.launch_floor_s) > 0:
                continue
            times = [datasheet_time(group, device, COLD) for group in groups]
            total_s, roofline_s = (sum(getattr(time, of) for time in times) for of in ("total_s", "roofline_s"))
            copies = np.minimum(records.loop.operand_copies, 100.0)
            operand = sum(group.cost.weight_read_byte + group.cost.kv_read_byte for group in groups) * copies
            family = family_of(groups[0].work)
            streams = family not in (KernelFamily.POINTWISE, KernelFamily.COLLECTIVE)
            large = operand > 2 * device.last_level_cache.capacity_byte if streams else True
            cold = np.broadcast_to(large, records.measured_s.shape)
            if cold.sum() >= 20:
                yield family, records, (records.measured_s / total_s)[cold], (roofline_s / records.measured_s)[cold]


def main():
    found = defaultdict(list)
    print(f"{'records':70s} {'rows':>6s} {'p10':>6s} {'p50':>6s} {'p90':>6s}   median APE, bare roofline's")
    for family, records, ratio, roofline in ratios():
        low, middle, high = np.quantile(ratio, [0.1, 0.5, 0.9])
        found[family].append((ratio, records.device))
        error, bare = np.median(np.abs(1 / ratio - 1)), np.median(np.abs(roofline - 1))
        print(
            f"{records.name[:70]:70s} {ratio.size:6d} {low:6.2f} {middle:6.2f} {high:6.2f}   {error:6.1%} {bare:6.1%}"
        )
    found[KernelFamily.ATTENTION_STEP] = found[KernelFamily.PREFILL_ATTENTION]
    lines = [
        "# Datasheet timing: measured / predicted, 10 % and 90 % quantiles over groups of records of equal weight,",
        "# and the mean of their medians.",
        "# Written by benchmarks/uncalibrated.py; do not edit.",
        'summary = "Uncalibrated: datasheet rates x typical efficiencies; '
        'the band is what that missed on A100 and H100."',
    ]
    for family in KernelFamily:
        rows = found[family]
        together = np.concatenate([ratio for ratio, _ in rows])
        weight = np.concatenate([np.full(ratio.size, 1.0 / ratio.size) for ratio, _ in rows])
        low, high = np.quantile(together, [0.1, 0.9], weights=weight, method="inverted_cdf")
        middle = np.exp(np.mean([np.log(np.median(ratio)) for ratio, _ in rows]))
        count, devices = together.size, ", ".join(sorted({device for _, device in rows}))
        borrowed = " (borrowed from prefill attention)" if family is KernelFamily.ATTENTION_STEP else ""
        lines += [
            "",
            f"[families.{family}]",
            f"low = {low:.3f}",
            *([] if borrowed else [f"typical = {middle:.3f}"]),
            f"high = {high:.3f}",
            f'source = "{count} measured kernels on {devices}{borrowed}"',
        ]
    write_text(UNCALIBRATED, "\n".join(lines) + "\n")
    print(f"wrote {UNCALIBRATED}")


if __name__ == "__main__":
    main()
