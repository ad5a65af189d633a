"""Where functions of one variable cross zero, many at once."""

from collections.abc import Callable

import numpy as np

from ..structs import Array

STEPS = 7
"""Evaluations of the function between the ends: the smooth, nearly straight functions here need five."""


def root_between(function: Callable[[Array], Array], low: Array, high: Array, steps: int = STEPS) -> Array:
    """A zero of `function`, elementwise, where it is positive at `low` and not at `high`; an end where it is not so.

    Regula falsi with the Illinois modification (Dowell and Jarratt, BIT 11, 1971): the value at an end that stays twice
    is halved, so that both ends move.
    """
    left, right = np.array(low, dtype=np.float64), np.array(high, dtype=np.float64)
    at_left, at_right = function(left), function(right)
    inside = (at_left > 0.0) & (at_right < 0.0)
    right = np.where(at_left > 0.0, right, left)
    left = np.where(at_right < 0.0, left, right)
    middle, before = left, np.zeros(left.shape)
    for _ in range(steps):
        slope = at_right - at_left
        middle = np.where(inside, right - at_right * (right - left) / np.where(slope < 0.0, slope, -1.0), right)
        value = function(middle)
        side = np.where(value > 0.0, 1.0, -1.0)
        above, stayed = side > 0.0, np.where(side == before, 0.5, 1.0)
        at_right = np.where(above, at_right * stayed, value)
        at_left = np.where(above, value, at_left * stayed)
        left, right, before = np.where(above, middle, left), np.where(above, right, middle), side
    return middle
