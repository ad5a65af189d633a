"""What the tests of attention timing share: chips, and fits on half of measured records scored on the other half."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from roofline.calibrate.fit import fit
from roofline.io.datasets import read
from roofline.io.records import Family, Records, collapse
from roofline.structs import STORED_BYTE, Array
from roofline.timing.chip import Chip
from roofline.timing.time import Time

MIB = 2.0**20
A100 = Chip(108.0, 1.41e9, 312e12 / 108 / 1.41e9, 2039e9, 40 * MIB, 128.0)
H100 = Chip(132.0, 1.83e9, 989.4e12 / 132 / 1.83e9, 3350e9, 50 * MIB, 256.0)
H100_FP8 = replace(H100, flop_per_clock=2.0 * H100.flop_per_clock)
RTX_PRO_6000 = Chip(188.0, 2.43e9, 467.8e12 / 188 / 2.43e9, 1792e9, 128 * MIB, 256.0)

FIT_ROWS = 2000
"""Rows that a fit in a test uses at most: enough, and quick."""

Predict = Callable[[Records, Any], Time]


@dataclass(frozen=True, slots=True)
class Score:
    """Errors on rows not fitted, in percent, beside the bare roofline's median, and rows faster than physics."""

    median: float
    mean: float
    bare: float
    flagged: float
    parameters: Any


def records_of(folder: Path, family: Family, cache_byte: float = 2.0, query_byte: float = 2.0) -> Records:
    """The records of `family` with these formats under `folder`, one row per shape."""
    found = [
        records
        for records in read(folder)[0]
        if records.family is family
        and STORED_BYTE[records.precision.cache] == cache_byte
        and STORED_BYTE[records.precision.activation] == query_byte
    ]
    assert len(found) == 1, [records.name for records in found]
    return collapse(found[0])[0]


def halves(records: Records, predict: Predict, prior: Any) -> tuple[Records, Records, float]:
    """Rows to fit, rows to check (a random half each, seed 0), and the share of rows faster than physics."""
    too_fast = predict(records, prior).roofline_s > records.measured_s
    allowed = records.take(~too_fast)
    chosen = np.random.default_rng(0).random(allowed.size) < 0.5
    return allowed.take(chosen), allowed.take(~chosen), float(np.mean(too_fast))


def fitted(records: Records, predict: Predict, prior: Any, rows: int = FIT_ROWS) -> Any:
    """Parameters fitted to at most `rows` of `records`, starting from `prior`."""
    some = records.take(np.random.default_rng(1).permutation(records.size)[:rows])
    free = prior.fitted() if hasattr(prior, "fitted") else None
    return fit(lambda parameters: predict(some, parameters).total_s, some.measured_s, prior, free=free).parameters


def score(records: Records, predict: Predict, prior: Any) -> Score:
    """Errors on the half of `records` that the fit did not see."""
    known, unseen, flagged = halves(records, predict, prior)
    parameters = fitted(known, predict, prior)
    time = predict(unseen, parameters)
    error, bare = percent(time.total_s, unseen), percent(time.roofline_s, unseen)
    return Score(float(np.median(error)), float(np.mean(error)), float(np.median(bare)), flagged, parameters)


def percent(predicted_s: Array, records: Records) -> Array:
    """Absolute error of each row in percent."""
    return np.asarray(100.0 * np.abs(predicted_s / records.measured_s - 1.0))
