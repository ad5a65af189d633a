"""How far predictions are from measurements: error statistics, band coverage, and what moved with what."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..calibrate.models import key_of
from ..structs import Array
from .pair import Paired

SIZE_BINS = 10
"""Parts of equal count that the rows of a family are cut into by measured time."""

LEAST_IN_BIN = 10
"""Fewest rows of such a part: a quantile of fewer says nothing."""

_COLUMNS = ("measured_s", "predicted_s", "low_s", "high_s", "roofline_s", "regime")


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Comparable rows: measured, predicted, its band, the bare roofline, and what binds the prediction."""

    measured_s: Array
    predicted_s: Array
    low_s: Array
    high_s: Array
    roofline_s: Array
    regime: NDArray[np.str_]

    @property
    def size(self) -> int:
        """Number of rows."""
        return self.measured_s.size

    def take(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> "Rows":
        """The rows at a mask or at positions."""
        return Rows(*(getattr(self, name)[rows] for name in _COLUMNS))


@dataclass(frozen=True, slots=True)
class ErrorStatistics:
    """Errors of `n` predictions as fractions of the measured time.

    `median_ape`, `mape`, `p90_ape`: median, mean and 90 % quantile of |predicted / measured - 1|. `bias`: median of
    predicted / measured - 1 (negative: too fast); `total_bias`: the same of the summed times. `coverage`: share of
    measurements inside the predicted band. `roofline_median_ape`: median error of the bare roofline on the same rows.
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
class SizeBin:
    """ErrorStatistics of the rows measured between `low_s` and `high_s`; `median_s` lies in their middle."""

    low_s: float
    median_s: float
    high_s: float
    errors: ErrorStatistics


@dataclass(frozen=True, slots=True)
class Doubling:
    """What happens when one dimension doubles and nothing else changes: `pairs` of rows, and the share in which
    prediction and measurement agree whether time follows (grows by more than half of the doubling, a factor sqrt(2))
    or not.

    The evidence, without counters, of what binds: work that a resource limits makes time follow.
    """

    dimension: str
    pairs: int
    agreement: float


Group = tuple[str, str, str]
"""Device, family (as calibrations name it) and format."""


def group_of(pair: Paired) -> Group:
    """The Group of a pair."""
    return pair.device, key_of(pair.records)[0], pair.records.precision.label


def rows_of(pairs: Iterable[Paired]) -> Rows:
    """The rows of at least one pair that count: those that physics allows."""
    rows: list[list[Any]] = [[getattr(pair, name)[~pair.excluded] for name in _COLUMNS] for pair in pairs]
    return Rows(*(np.concatenate(column) for column in zip(*rows, strict=True)))


def by_group(pairs: Iterable[Paired]) -> Mapping[Group, tuple[Paired, ...]]:
    """The pairs of each Group, sorted."""
    found: dict[Group, list[Paired]] = {}
    for pair in pairs:
        found.setdefault(group_of(pair), []).append(pair)
    return {key: tuple(found[key]) for key in sorted(found)}


def error_statistics(rows: Rows) -> ErrorStatistics:
    """The ErrorStatistics of at least one row."""
    error = rows.predicted_s / rows.measured_s - 1.0
    size = np.abs(error)
    inside = (rows.low_s <= rows.measured_s) & (rows.measured_s <= rows.high_s)
    return ErrorStatistics(
        n=rows.size,
        median_ape=float(np.median(size)),
        mape=float(np.mean(size)),
        p90_ape=float(np.quantile(size, 0.9)),
        bias=float(np.median(error)),
        total_bias=float(rows.predicted_s.sum() / rows.measured_s.sum() - 1.0),
        coverage=float(np.mean(inside)),
        roofline_median_ape=float(np.median(np.abs(rows.roofline_s / rows.measured_s - 1.0))),
    )


def by_regime(rows: Rows) -> Mapping[str, ErrorStatistics]:
    """ErrorStatistics by the resource that binds the prediction, sorted by its name."""
    return {name: error_statistics(rows.take(rows.regime == name)) for name in sorted(set(rows.regime.tolist()))}


def by_size(rows: Rows) -> tuple[SizeBin, ...]:
    """ErrorStatistics of up to SIZE_BINS parts of equal count, from the shortest to the longest measured time."""
    parts = min(SIZE_BINS, max(rows.size // LEAST_IN_BIN, min(rows.size, 1)))
    found = []
    for positions in np.array_split(np.argsort(rows.measured_s, kind="stable"), parts) if parts else ():
        part = rows.take(positions)
        low, middle, high = (float(np.quantile(part.measured_s, share)) for share in (0.0, 0.5, 1.0))
        found.append(SizeBin(low, middle, high, error_statistics(part)))
    return tuple(found)


def doublings(pairs: Sequence[Paired]) -> tuple[Doubling, ...]:
    """The Doubling of every dimension that takes values a factor of two apart, in pairs of one kernel family.

    Rows are matched within a group of records, so that both were measured in the same loop by the same library.
    """
    agree: dict[str, list[NDArray[np.bool_]]] = {}
    for pair in pairs:
        for dimension, found in _agreements(pair):
            agree.setdefault(dimension, []).append(found)
    merged = {dimension: np.concatenate(found) for dimension, found in sorted(agree.items())}
    return tuple(Doubling(dimension, found.size, float(np.mean(found))) for dimension, found in merged.items())


def overall_agreement(found: Iterable[Doubling]) -> float | None:
    """The agreement of all doublings together; None without any."""
    listed = list(found)
    pairs = sum(doubling.pairs for doubling in listed)
    return sum(doubling.pairs * doubling.agreement for doubling in listed) / pairs if pairs else None


def _agreements(pair: Paired) -> Iterable[tuple[str, NDArray[np.bool_]]]:
    """For each dimension, whether both times follow its doubling or both do not, for every matched pair of rows."""
    kept = ~pair.excluded
    names = tuple(pair.records.dims)
    table = np.stack([pair.records.dims[name][kept] for name in names], axis=1)
    times = (pair.measured_s[kept], pair.predicted_s[kept])
    rows = {tuple(row): position for position, row in enumerate(table.tolist())}
    for column, name in enumerate(names):
        doubled = table.copy()
        doubled[:, column] *= 2.0
        matches = [(i, j) for i, key in enumerate(map(tuple, doubled.tolist())) if (j := rows.get(key, i)) != i]
        if matches:
            small, large = np.array(matches).T
            follows = [time[large] > np.sqrt(2.0) * time[small] for time in times]
            yield name, follows[0] == follows[1]
