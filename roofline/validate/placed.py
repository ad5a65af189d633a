"""Where compared rows stand under the roofs of their device: what each computes and moves, and how fast."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..calibrate.work import work_of
from ..kernels import cost_of
from ..structs import Array
from .pair import Paired

ROWS = 120
"""Most rows of one device, family and format that a record places under the roofs."""

COLUMNS = ("measured_s", "predicted_s", "flop", "memory_byte")


def placed_rows(pairs: Sequence[Paired]) -> dict[str, list[float]] | None:
    """Up to ROWS rows of a group, evenly spread by intensity: seconds, FLOP and bytes of memory traffic, and what
    follows of them, FLOP/byte and FLOP/s, with four significant digits.

    Counts the kernel that the shape names, as a prediction does; ignores what its library runs besides (a kernel that
    quantises operands). None for families that are not single kernels, that compute nothing, or without a row that
    physics allows.
    """
    found = np.concatenate([np.empty((len(COLUMNS), 0)), *(_columns(pair) for pair in pairs)], axis=1)
    measured_s, predicted_s, flop, memory_byte = found
    found = found[:, (flop > 0.0) & (memory_byte > 0.0)]
    if not found.size:
        return None
    measured_s, predicted_s, flop, memory_byte = found
    intensity = flop / memory_byte
    chosen = np.argsort(intensity, kind="stable")[spread(intensity.size, ROWS)]
    columns = dict(zip(COLUMNS, found, strict=True)) | {
        "intensity_flop_per_byte": intensity,
        "measured_flop_per_s": flop / measured_s,
        "predicted_flop_per_s": flop / predicted_s,
    }
    return {name: rounded(values[chosen]) for name, values in columns.items()}


def _columns(pair: Paired) -> Array:
    """COLUMNS of the rows that physics allows, shape (columns, rows); no rows where the kernel is not a single one."""
    costs = [cost_of(work) for work in work_of(pair.records)]
    if not costs:
        return np.empty((len(COLUMNS), 0))
    total = sum(costs[1:], costs[0])
    columns = np.broadcast_arrays(pair.measured_s, pair.predicted_s, total.flop, total.memory_byte)
    return np.stack(columns)[:, ~pair.excluded]


def spread(size: int, most: int) -> NDArray[np.intp]:
    """Up to `most` positions out of `size`, evenly spread."""
    return np.unique(np.linspace(0, size - 1, min(size, most)).round().astype(np.intp))


def rounded(values: Array) -> list[float]:
    """Values with four significant digits: enough for a figure."""
    return [float(f"{value:.4g}") for value in values.tolist()]
