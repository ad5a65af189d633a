"""The loop a kernel runs in: what of its operands is still in cache, and what the host adds to a launch."""

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..structs import Array, Number
from .blocks import where


@dataclass(frozen=True, slots=True)
class BenchmarkLoop:
    """How a kernel is repeated. A property of the record when fitting; `MODEL_STEP` when predicting a model.

    `operand_copies`: distinct copies of the large operand (weights, KV cache) that take turns, so that one copy
    is read again only after all others: inf means it always comes from DRAM, 1 that the same one is reread.
    `launch_floor_s`: the shortest time between two launches that the host manages (eager mode); 0 where a
    captured graph is replayed.
    Of a pointwise kernel's input: `streamed_byte` is what the kernel before moved through the last-level cache while it
    wrote that input, bit by bit; `aged_share` of it are older, with `aged_byte` of other data in between (their reuse
    distance).
    """

    operand_copies: Number = np.inf
    launch_floor_s: Number = 0.0
    streamed_byte: Number = 0.0
    aged_byte: Number = 0.0
    aged_share: Number = 0.0

    def take(self, rows: NDArray[Any], count: int) -> "BenchmarkLoop":
        """The loop of the rows at `rows` (indices or a mask) of `count`: what is given per row is taken along."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        per_row = {name: np.broadcast_to(value, (count,))[rows] for name, value in values.items() if np.ndim(value)}
        return replace(self, **per_row)


MODEL_STEP = BenchmarkLoop()
"""A step of a model: every layer has its own weights, so none is in cache; kernels are launched from a graph."""


def must_come_from_dram_byte(
    operand_byte: Number, other_byte: Number, cache_byte: Number, loop: BenchmarkLoop
) -> Array:
    """Fewest bytes that one execution can move to and from DRAM, whatever the cache keeps between executions.

    `operand_byte`: one copy of the large operand; `other_byte`: inputs and outputs, the same in every execution.
    A cold loop moves everything. Otherwise the best cache (Belady) still misses, per turn of all copies, what is
    touched beyond its capacity, and per execution what the other operands need beyond it. Bytes, elementwise.
    """
    beyond = other_byte - cache_byte
    warm = np.maximum(operand_byte + beyond / loop.operand_copies, np.maximum(beyond, 0.0))
    return where(np.equal(loop.operand_copies, np.inf), operand_byte + other_byte, warm)


def missed_fraction(working_set_byte: Number, usable_cache_byte: Number) -> Array:
    """Share of a working set that is read from DRAM: none up to half of the usable cache, all beyond the whole."""
    missed: Array = 2.0 * working_set_byte / np.maximum(usable_cache_byte, 1.0) - 1.0
    return np.minimum(np.maximum(missed, 0.0), 1.0)  # np.clip costs three times as much on a scalar
