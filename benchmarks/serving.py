"""Served models: steady states against the aggregated rows of aiconfigurator's end-to-end sample (H100 SXM).

Usage: ROOFLINE_DATA=../shared/data python benchmarks/serving.py [--write] [--splits 1]
Prints, for every model and engine: errors with starting values, with parameters fitted to half of its rows (judged on
the other half), with the engine's preset from its other models alone (nothing of the set fitted), and with eight rows
on top of that; then what falls outside by regime. --write makes the presets of roofline/data/engines anew.
"""

import argparse
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from roofline.calibrate.engine import (
    errors_of,
    fit_engine,
    fitted_paths,
    halves,
    spread_rows,
    started,
)
from roofline.calibrate.served import served_sets
from roofline.io.datasets import read
from roofline.io.engine_text import engine_text
from roofline.io.engines import PRESETS, engine_names, load_engine, load_engine_file
from roofline.io.files import write_text
from roofline.io.profiles import load_target
from roofline.serving.engine import EngineEvidence
from roofline.timing import Band

SAMPLE = "aiconfigurator/silicon_sample_h100.csv"
ROWS_OF_A_SET = 60
"""Rows of each set that a preset is fitted to: large sets do not outvote small ones."""
EIGHT = 8


def told(predicted, measured):
    found = errors_of(predicted, measured)
    return f"{found.median_ape:6.1%} /{found.mape:6.1%} ({found.bias:+6.1%})"


def line(title, n, tpot, ttft):
    print(f"{title:44} {n:4}  TPOT {told(*tpot)}   TTFT {told(*ttft)}", flush=True)


def pooled(title, parts):
    tpot, ttft, tpot_m, ttft_m = (np.concatenate(column) for column in zip(*parts, strict=True))
    line(title, tpot.size, (tpot, tpot_m), (ttft, ttft_m))


def judged(of, engine, rows):
    tpot, ttft = of.predicted(engine, rows)
    return np.minimum(tpot, 1e4), np.minimum(ttft, 1e4), of.tpot_s[rows], of.ttft_s[rows]


def engine_for(of, others):
    """The engine of a set from other sets: those of its engine, or of all engines where it has no other."""
    base = started(of.engine)
    same = [each for each in others if each.engine.name == of.engine.name]
    return fit_engine(base, [(each, spread_rows(each, ROWS_OF_A_SET)) for each in same or others])


def regimes(sets, found):
    print("\nrows outside 20 % of TPOT or 50 % of TTFT with parameters of the other half, by regime")
    for of in sets:
        engine, rows = found[of.name]
        tpot, ttft, tpot_m, ttft_m = judged(of, engine, rows)
        for title, values in (
            ("TP", of.tensor_parallel[rows]),
            ("clients", of.concurrency[rows]),
            ("input", of.input_token[rows]),
        ):
            shown = []
            for value in np.unique(values):
                at = values == value
                off_p, off_t = np.abs(tpot[at] / tpot_m[at] - 1), np.abs(ttft[at] / ttft_m[at] - 1)
                shown.append(
                    f"{value:g}: {np.median(off_p):.0%} {np.mean(off_p > 0.2):.0%} | "
                    f"{np.median(off_t):.0%} {np.mean(off_t > 0.5):.0%}"
                )
            print(f"  {of.name:42} {title:8} " + "; ".join(shown))


def quantile_band(parts, which, source):
    predicted = np.concatenate([part[which] for part in parts])
    measured = np.concatenate([part[which + 2] for part in parts])
    low, high = np.quantile(measured / predicted, [0.1, 0.9])
    return Band(float(low), float(high), source)


def write(sets, alone, everything):
    """Presets: fitted on all sets of an engine; bands and errors from sets that were left out."""
    for name in engine_names():
        own = [of for of in sets if of.engine.name == name]
        if not own:
            continue
        base = load_engine_file(name)
        fitted = fit_engine(started(load_engine(name)), [(of, spread_rows(of, ROWS_OF_A_SET)) for of in own])
        parts = [alone[of.name] for of in own]
        rows, n = sum(min(of.size, ROWS_OF_A_SET) for of in own), sum(of.size for of in own)
        tpot = errors_of(np.concatenate([p[0] for p in parts]), np.concatenate([p[2] for p in parts]))
        ttft = errors_of(np.concatenate([p[1] for p in parts]), np.concatenate([p[3] for p in parts]))
        how = "each model predicted from the engine's others" if len(own) > 1 else "predicted from other engines' rows"
        source = f"{n} served rows of {len(own)} models on H100 SXM, {how}"
        engine = replace(
            fitted,
            tpot_band=quantile_band(parts, 0, source),
            ttft_band=quantile_band(parts, 1, source),
            evidence=EngineEvidence(
                data=SAMPLE,
                release=", ".join(sorted({of.name for of in own})),
                date=datetime.now(UTC).date().isoformat(),
                fitted_rows=rows,
                unseen_rows=n,
                tpot_median_ape=tpot.median_ape,
                tpot_mape=tpot.mape,
                ttft_median_ape=ttft.median_ape,
                ttft_mape=ttft.mape,
            ),
        )
        cited = f"our fit to {rows} rows of ai-dynamo/aiconfigurator @095f58a, {SAMPLE.split('/')[1]} ({source})"
        write_text(PRESETS / f"{name}.toml", engine_text(base, engine, name, fitted_paths(), cited))
        print("wrote", name)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--splits", type=int, default=1)
    asked = parser.parse_args()
    records, refused = read(Path(os.environ["ROOFLINE_DATA"]) / SAMPLE)
    engines = [started(load_engine(name)) for name in engine_names()]
    sets = served_sets(records, load_target("h100-sxm"), engines)
    print("refused:", *(f"  {entry.n:4} {entry.reason}" for entry in refused), sep="\n")
    every = {of.name: np.arange(of.size) for of in sets}

    print("\nstarting values, nothing fitted: median / mean (bias)")
    parts = []
    for of in sets:
        parts.append(judged(of, of.engine, every[of.name]))
        line(of.name, of.size, parts[-1][::2], parts[-1][1::2])
    pooled("all", parts)

    print("\nfitted to half of the rows of the set, judged on the other half")
    parts, found = [], {}
    for of in sets:
        of_set = []
        for seed in range(asked.splits):
            fit, judge = halves(of, 0.5, seed)
            found[of.name] = (fit_engine(of.engine, [(of, fit)]), judge)
            of_set.append(judged(of, *found[of.name]))
        parts += of_set
        joined = tuple(np.concatenate(column) for column in zip(*of_set, strict=True))
        line(of.name, joined[0].size, joined[::2], joined[1::2])
    pooled("all", parts)
    regimes(sets, found)

    print("\nengine presets alone: nothing of the set fitted")
    alone, presets = {}, {}
    for of in sets:
        presets[of.name] = engine_for(of, [each for each in sets if each is not of])
        alone[of.name] = judged(of, presets[of.name], every[of.name])
        line(of.name, of.size, alone[of.name][::2], alone[of.name][1::2])
    pooled("all", list(alone.values()))

    print(f"\n{EIGHT} rows of the set on top of that preset, judged on the others")
    parts = []
    for of in sets:
        fit, judge = halves(of, EIGHT / of.size, 0)
        parts.append(judged(of, fit_engine(presets[of.name], [(of, fit)]), judge))
        line(of.name, judge.size, parts[-1][::2], parts[-1][1::2])
    pooled("all", parts)
    if asked.write:
        write(sets, alone, every)


if __name__ == "__main__":
    main()
