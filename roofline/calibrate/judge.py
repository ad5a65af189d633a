"""How far a timing model is off on rows that its fit did not see: inside the measured sizes, and beyond them."""

import numpy as np
from numpy.typing import NDArray

from ..device import Device
from ..errors import RooflineError
from ..io.records import sizes_of_records
from ..structs import Array
from ..timing.calibration import COVERAGE, Parameters
from .candidates import Candidate
from .fit import Fit, fit
from .rows import Rows, shapes_of

FOLDS = 5
"""Parts of which each is predicted by a fit to the others."""

QUARTER = 0.25
"""Share of the values of a size that are cut off to see how far a fit to the others is off on them."""

LEAST_VALUES = 4
"""Fewest distinct values of a size that can be cut so."""

LEAST_BEYOND = 3
"""Fewest rows beyond the cut that say anything."""

BEYOND_ROWS = 900
"""Most rows of such a fit: it need not be as exact as the one that is kept."""


def fit_rows(
    rows: Rows,
    device: Device,
    candidate: Candidate,
    *,
    weak: bool = False,
    underdetermined: bool = False,
    near: Parameters | None = None,
) -> Fit[Parameters]:
    """A candidate fitted to rows. `weak`: rows are few, so that the prior counts more. `near`: see fit.fit. Errors: as
    there.
    """

    def predict(parameters: Parameters) -> Array:
        return rows.times(device, parameters)[0]

    weight = max(candidate.prior_weight, 0.05 if weak else 0.02)
    return fit(
        predict,
        rows.measured_s,
        candidate.prior,
        free=candidate.free,
        prior_weight=weight,
        underdetermined=underdetermined,
        near=near,
    )


def ratio_of(rows: Rows, device: Device, parameters: Parameters) -> Array:
    """Measured over predicted of each row."""
    return rows.measured_s / rows.times(device, parameters)[0]


def distinct_shapes(rows: Rows) -> int:
    """How many shapes the rows have: those of one shape (in several steps of a layer) err alike."""
    return np.unique(shapes_of(rows.groups)).size


def out_of_fold(rows: Rows, device: Device, candidate: Candidate, near: Parameters) -> Array:
    """Measured over predicted of each row, in any order, each by a fit to the other folds from the same prior: what the
    band of few rows is made of, since a fit always looks better on its own rows. A shape is in one fold. `near`: the
    fit to all rows.
    """
    ratios, index = [], np.unique(shapes_of(rows.groups), return_inverse=True)[1]
    order = np.random.default_rng(0).permutation(int(index.max()) + 1)
    for fold in np.array_split(order, min(FOLDS, order.size)):
        left_out = np.isin(index, fold)
        others = rows.take(np.flatnonzero(~left_out))
        found = fit_rows(others, device, candidate, weak=True, underdetermined=True, near=near)
        ratios.append(ratio_of(rows.take(np.flatnonzero(left_out)), device, found.parameters))
    return np.concatenate(ratios)


def interval(ratio: Array, shapes: int) -> tuple[float, float]:
    """Between which COVERAGE of further ratios are expected: the quantiles of n + 1 rows, of which the new one is any
    (Lei et al., arXiv 1604.04173, section 2.1); all of them where they are few. n counts `shapes`, not rows.
    """
    tail = (1.0 - COVERAGE) / 2.0
    rank = np.array([tail, 1.0 - tail]) * (shapes + 1.0) - 1.0
    low, high = np.quantile(ratio, np.clip(rank / max(shapes - 1.0, 1.0), 0.0, 1.0))
    return float(low), float(high)


def all_sizes(rows: Rows) -> dict[str, Array]:
    """sizes_of_records of all rows, group after group."""
    parts = [sizes_of_records(group) for group in rows.groups]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def ranges_of(rows: Rows) -> dict[str, tuple[float, float]]:
    """Smallest and largest value of every size among the rows."""
    return {name: (float(values.min()), float(values.max())) for name, values in all_sizes(rows).items()}


def outside_ranges(
    rows: Rows, device: Device, candidate: Candidate, near: Parameters, seed: int, *, below: bool
) -> dict[str, tuple[float, float]]:
    """By size, the interval of measured over predicted of the rows with the largest quarter of its values (`below`: the
    smallest), predicted by a fit to the others: what extrapolation costs. `near`: the fit to all rows. Sizes with too
    few values or rows to tell are left out.
    """
    size = rows.measured_s.size
    drawn = np.random.default_rng(seed).permutation(size)[:BEYOND_ROWS]
    few = rows.take(np.sort(drawn))
    found: dict[str, tuple[float, float]] = {}
    for name, values in all_sizes(few).items():
        distinct = np.unique(values)
        if distinct.size < LEAST_VALUES:
            continue
        cut = int((1.0 - QUARTER) * distinct.size)
        far: NDArray[np.bool_] = values < distinct[-cut] if below else values > distinct[cut - 1]
        if far.sum() < LEAST_BEYOND:
            continue
        try:
            inside = fit_rows(few.take(np.flatnonzero(~far)), device, candidate, near=near)
        except (RooflineError, ValueError, FloatingPointError):
            continue  # fewer rows than parameters
        outside = few.take(np.flatnonzero(far))
        found[name] = interval(ratio_of(outside, device, inside.parameters), distinct_shapes(outside))
    return found
