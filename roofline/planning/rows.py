"""Evaluated candidates as columns: a million of them cost a few arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from ..structs import Array

Index = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Rows:
    """One entry a candidate, every column of the same length.

    `structure`: its position among the structures of the search. `ttft_s` and `tpot_s` at the percentile of the service
    level. `load`: rate over the rate at which it saturates. Infinite times where it is 1 or more. `held_ttft_s`,
    `held_tpot_s`, `held_load`: what is held against the service level: the same, or those at the slow end of the band
    where only sure plans are asked for.
    """

    structure: Array
    n_devices: Array
    replicas: Array
    prefill_replicas: Array
    max_sequence: Array
    max_batch_token: Array
    request_per_s: Array
    ttft_s: Array
    tpot_s: Array
    mean_ttft_s: Array
    mean_tpot_s: Array
    load: Array
    usd_per_hour: Array
    joule_per_token: Array
    held_ttft_s: Array
    held_tpot_s: Array
    held_load: Array

    @property
    def size(self) -> int:
        """Candidates."""
        return int(self.structure.size)

    def take(self, index: Index | NDArray[np.bool_] | slice) -> "Rows":
        """Those candidates that `index` picks."""
        return Rows(*(getattr(self, name)[index] for name in COLUMNS))

    def row(self, position: int) -> "Rows":
        """One candidate, as columns of length one."""
        return self.take(slice(position, position + 1))


COLUMNS = tuple(field.name for field in fields(Rows))


def empty() -> Rows:
    """No candidates."""
    return Rows(*(np.empty(0) for _ in COLUMNS))


def joined(parts: Sequence[Rows]) -> Rows:
    """The candidates of all parts, in order."""
    return Rows(*(np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS)) if parts else empty()


def front(x: Array, y: Array) -> NDArray[np.bool_]:
    """Which points no other point beats: none has more of one and at least as much of the other (larger is better).

    Of equal points the first is kept. O(n log n).
    """
    order = np.lexsort((np.arange(x.size), -y, -x))
    best = np.maximum.accumulate(np.concatenate(([-np.inf], y[order])))[:-1]
    kept = np.zeros(x.size, dtype=bool)
    kept[order] = y[order] > best
    return kept
