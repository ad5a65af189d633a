"""How far predictions are from measurements: error statistics, band coverage, and what moved with what."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..structs import Array
from .pair import Paired


@dataclass(frozen=True, slots=True)
class ErrorStatistics:
    """Errors of `n` predictions as fractions of the measured time.

    `median_ape`, `mape`, `p90_ape`: median, mean and 90 % quantile of |predicted / measured - 1|. `bias`: median of
    predicted / measured - 1 (negative: too fast). `coverage`: share of measurements inside the predicted band.
    `roofline_median_ape`: median error of the bare roofline on the same rows. `total_bias`: error of the summed time.
    """

    n: int
    median_ape: float
    mape: float
    p90_ape: float
    bias: float
    total_bias: float
    coverage: float
    roofline_median_ape: float


@dataclass(frozen=True, slots=True)
class GroupStatistics:
    """ErrorStatistics of one family, format and regime (the resource that binds the prediction)."""

    family: str
    dtype: str
    regime: str
    errors: ErrorStatistics


def error_statistics(
    measured_s: Array, predicted_s: Array, low_s: Array, high_s: Array, roofline_s: Array
) -> ErrorStatistics:
    """The ErrorStatistics of at least one pair."""
    error = predicted_s / measured_s - 1.0
    size = np.abs(error)
    inside = (low_s <= measured_s) & (measured_s <= high_s)
    return ErrorStatistics(
        n=int(measured_s.size),
        median_ape=float(np.median(size)),
        mape=float(np.mean(size)),
        p90_ape=float(np.quantile(size, 0.9)),
        bias=float(np.median(error)),
        total_bias=float(predicted_s.sum() / measured_s.sum() - 1.0),
        coverage=float(np.mean(inside)),
        roofline_median_ape=float(np.median(np.abs(roofline_s / measured_s - 1.0))),
    )


def overall(pairs: Sequence[Paired]) -> ErrorStatistics | None:
    """ErrorStatistics of all usable rows together; None without any."""
    kept = [pair.kept() for pair in pairs]
    columns = [np.concatenate([getattr(pair, name) for pair in kept]) for name in _COLUMNS] if kept else []
    return error_statistics(*columns) if columns and columns[0].size else None


_COLUMNS = ("measured_s", "predicted_s", "low_s", "high_s", "roofline_s")


def by_group(pairs: Iterable[Paired]) -> tuple[GroupStatistics, ...]:
    """Statistics per family, format and regime, in that order."""
    found: dict[tuple[str, str, str], list[tuple[Paired, NDArray[np.bool_]]]] = {}
    for pair in pairs:
        kept = pair.kept()
        for regime in sorted(set(kept.regime.tolist())):
            key = (str(pair.records.family), pair.records.precision.label, regime)
            found.setdefault(key, []).append((kept, kept.regime == regime))
    return tuple(
        GroupStatistics(
            *key,
            error_statistics(
                *(np.concatenate([getattr(pair, name)[rows] for pair, rows in parts]) for name in _COLUMNS)
            ),
        )
        for key, parts in sorted(found.items())
    )


@dataclass(frozen=True, slots=True)
class Doubling:
    """What happens when one dimension doubles and nothing else changes: `pairs` of rows, and the share in which
    prediction and measurement agree whether time follows (grows by more than half of the doubling) or not.

    The evidence, without counters, of what binds: work that a resource limits makes time follow.
    """

    dimension: str
    pairs: int
    agreement: float


def doublings(pair: Paired) -> tuple[Doubling, ...]:
    """The Doubling of every dimension of the records that takes values a factor of two apart."""
    kept = pair.kept()
    names = tuple(kept.records.dims)
    table = np.stack([kept.records.dims[name] for name in names], axis=1)
    rows = {tuple(row): i for i, row in enumerate(table.tolist())}
    found = []
    for column, name in enumerate(names):
        doubled = table.copy()
        doubled[:, column] *= 2.0
        matches = [(i, rows[key]) for i, key in enumerate(map(tuple, doubled.tolist())) if rows.get(key, i) != i]
        if matches:
            small, large = np.array(matches).T
            follows = [np.log2(times[large] / times[small]) > 0.5 for times in (kept.measured_s, kept.predicted_s)]
            found.append(Doubling(name, len(matches), float(np.mean(follows[0] == follows[1]))))
    return tuple(found)
