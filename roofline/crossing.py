"""Where something that is one of a few kinds changes along an axis: which resource binds, which of two is faster."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .capacity import integers
from .structs import Array

Kinds = Callable[[Array], NDArray[np.intp]]
"""The kind at each value of an axis, elementwise."""

GRID = 240
"""Points of the first, geometric grid: 5 % apart over five decades."""


HALVINGS = 9
"""Halvings of a factor's logarithm: between 1 and 100 it is then known within 1 %."""


def change_beyond(kind_at: Kinds, start: int, limit: int) -> tuple[int, int] | None:
    """The whole number nearest to `start`, towards `limit` (above or below it), whose kind differs, and that kind.

    Searched on a geometric grid and then between its neighbours: a change and back within 5 % can be missed. None:
    there is no change.
    """
    grid = _towards(integers(np.geomspace(start, limit, GRID).round()), start, limit)
    kinds = kind_at(grid)
    changed = np.flatnonzero(kinds != kinds[0])
    if not changed.size:
        return None
    near, far = grid[changed[0] - 1], grid[changed[0]]
    between = _towards(integers(np.linspace(min(near, far), max(near, far), 1024)), start, limit)
    exact = kind_at(between)
    first = int(np.flatnonzero(exact != kinds[0])[0])
    return int(between[first]), int(exact[first])


def _towards(values: Array, start: int, limit: int) -> Array:
    """`values` in the order in which one meets them from `start` to `limit`."""
    return values if limit >= start else values[::-1]


def factor_of_change(kind_at: Callable[[float], int], limit: float) -> tuple[float, int] | None:
    """The factor between 1 and `limit` (above or below 1) at which the kind at 1 is left, and the kind at `limit`.

    By halving in logarithms, so one change is found where there are several. None: the kind at `limit` is the same.
    """
    here, there = kind_at(1.0), kind_at(limit)
    if here == there:
        return None
    low, high = 0.0, float(np.log(limit))
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if kind_at(float(np.exp(middle))) == here else (low, middle)
    return float(np.exp(high)), there
