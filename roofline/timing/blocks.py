"""Evaluate an elementwise formula block by block, so that its temporaries stay in the processor's cache."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..structs import Array, Number
from .time import Time

BLOCK_SIZE = 8192
"""Elements per block: 64 KiB a temporary."""


def timed_in_blocks(formula: Callable[..., Time], *operands: Number, block_size: int = BLOCK_SIZE) -> Time:
    """`formula(*operands)` for broadcast operands of any shape; the formula sees one-dimensional blocks.

    A single element is handed over as a NumPy scalar, on which arithmetic costs a tenth of what it costs on an array of
    one element or of none. (Formulas write np.power and np.square, not `**`: Python's operator on scalars rounds the
    last bit differently. They choose with `where`, and leave np.asarray alone: both would make arrays of scalars.)
    """
    arrays = [np.asarray(operand, dtype=np.float64) for operand in operands]
    every = np.broadcast(*arrays)
    if every.size == 1:
        time = formula(*[array.ravel()[0] for array in arrays])
        return Time(*[np.array(getattr(time, name), ndmin=every.ndim) for name in Time.__slots__])
    flat = [np.broadcast_to(array, every.shape).ravel() for array in arrays]
    parts = [np.empty(every.size) for _ in Time.__slots__]
    for start in range(0, every.size, block_size):
        block = slice(start, start + block_size)
        time = formula(*(operand[block] for operand in flat))
        for whole, name in zip(parts, Time.__slots__, strict=True):
            whole[block] = getattr(time, name)
    return Time(*(whole.reshape(every.shape) for whole in parts))


def where(condition: NDArray[np.bool_], left: Number, right: Number) -> Array:
    """`left` where `condition` holds, else `right`; a NumPy scalar where all are scalars (np.where makes an array)."""
    chosen: Array = np.where(condition, left, right)[()]
    return chosen


def fourth_power_norm(left: Array, right: Array) -> Array:
    """(left⁴ + right⁴)^¼, seconds: two resources that overlap well but not perfectly; between max and sum."""
    norm: Array = np.sqrt(np.sqrt(np.square(np.square(left)) + np.square(np.square(right))))
    return norm
