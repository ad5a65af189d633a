"""Whether the 80 % bands hold 80 %: the share of unseen rows inside them, of every fit that a profile holds.

A share of n rows is uncertain by about sqrt(0.8 · 0.2 / n); rows of one shape in two formats err alike, so that it is
more. Lines outside 75 % to 85 % by more than twice that are marked.

Usage: python benchmarks/coverage.py
"""

import math

from roofline.io.calibration import backends_of, calibration_of
from roofline.io.profiles import load_target, profile_names
from roofline.timing.calibration import COVERAGE


def fits(target):
    """Library, family and format, and evidence of each fit of a profile."""
    for library in backends_of(target):
        for key, fitted in sorted(calibration_of(target.calibration, target.device.name, library).models.items()):
            if fitted.evidence.backend == library:
                yield library, key, fitted.evidence


def main():
    for name in profile_names():
        target = load_target(name)
        rows = inside = 0
        for library, key, known in fits(target) if target.calibration else ():
            doubt = math.sqrt(COVERAGE * (1 - COVERAGE) / known.unseen_rows)
            told = "  off" if abs(known.coverage - COVERAGE) > 2 * doubt else "  off, within its doubt"
            mark = "" if 0.75 <= known.coverage <= 0.85 else told
            share = f"{known.coverage:6.1%} +- {doubt:4.1%}"
            print(f"{name:14s} {library:14s} {' '.join(key):30s} {known.unseen_rows:7,d} unseen  {share}{mark}")
            rows, inside = rows + known.unseen_rows, inside + known.unseen_rows * known.coverage
        if rows:
            print(f"{name:14s} {'all':45s} {rows:7,d} unseen  {inside / rows:6.1%}")


if __name__ == "__main__":
    main()
