"""Evaluate an elementwise formula block by block, so that its temporaries stay in the processor's cache."""

from collections.abc import Callable

import numpy as np

from ..structs import Array, Number
from .time import Time

BLOCK_SIZE = 8192
"""Elements per block: 64 KiB a temporary."""


def timed_in_blocks(formula: Callable[..., Time], *operands: Number, block_size: int = BLOCK_SIZE) -> Time:
    """`formula(*operands)` for broadcast operands of any shape; the formula sees one-dimensional blocks."""
    shape = np.broadcast_shapes(*(np.shape(operand) for operand in operands))
    size = int(np.prod(shape))
    flat = [np.broadcast_to(np.asarray(operand, dtype=np.float64), shape).ravel() for operand in operands]
    parts = [np.empty(size) for _ in Time.__slots__]
    for start in range(0, size, block_size):
        block = slice(start, start + block_size)
        time = formula(*(operand[block] for operand in flat))
        for whole, name in zip(parts, Time.__slots__, strict=True):
            whole[block] = getattr(time, name)
    return Time(*(whole.reshape(shape) for whole in parts))


def fourth_power_norm(left: Array, right: Array) -> Array:
    """(left⁴ + right⁴)^¼, seconds: two resources that overlap well but not perfectly; between max and sum."""
    norm: Array = np.sqrt(np.sqrt(np.square(np.square(left)) + np.square(np.square(right))))
    return norm
