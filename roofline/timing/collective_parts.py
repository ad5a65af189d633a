"""What the models of collectives share: the parts of a time, how times that overlap are joined, and their parameters.

Notation: N devices, payload b bytes (the whole buffer), link bandwidth B per direction, w = sent bytes / B.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..structs import Array, Number
from .parameter import Scaling, parameter

SLOT_BYTE = 4096.0
"""Bytes of one message beyond which a few threads do not do: more of them, and further channels, are started."""

HIDES, EXCLUDES = 1.5, 3.0
"""Exponents of the norms that join times: parts of a pipeline hide each other in part (between the sum, 1, and the
larger, infinity); of two that fill the same wait, or of which one is chosen, little more than one is left."""

_SHORTEST_S = 1e-15
"""Where both of two times are zero, their norm still needs a divisor."""


def link_time(prior: float, *, low: float, high: float, meaning: str) -> Any:
    """A parameter in seconds that a faster generation of links shortens."""
    return parameter(prior, low=low, high=high, ideal=0.0, unit="s", meaning=meaning, scaling=Scaling.AGAINST_LINK)


def link_fraction(prior: float, *, low: float, meaning: str) -> Any:
    """A parameter that is a fraction of the link's bandwidth."""
    return parameter(prior, low=low, high=1.0, ideal=1.0, unit="1", meaning=f"fraction of the link reached {meaning}")


@dataclass(frozen=True, slots=True)
class Parts:
    """Seconds of one collective inside a node, to be added: on the wire, copying, adding values, and fixed."""

    wire_s: Array
    copy_s: Array
    add_s: Array
    fixed_s: Array

    @property
    def total_s(self) -> Array:
        """All of them, in seconds."""
        return self.wire_s + self.copy_s + self.add_s + self.fixed_s

    def scaled(self, factor: Array) -> "Parts":
        """All parts times the same factor."""
        return Parts(self.wire_s * factor, self.copy_s * factor, self.add_s * factor, self.fixed_s * factor)


def chosen(first: NDArray[np.bool_], one: Parts, other: Parts) -> Parts:
    """`one` where `first`, else `other`."""
    return Parts(
        np.where(first, one.wire_s, other.wire_s),
        np.where(first, one.copy_s, other.copy_s),
        np.where(first, one.add_s, other.add_s),
        np.where(first, one.fixed_s, other.fixed_s),
    )


def beyond_one_slot(message_byte: Array) -> Array:
    """How far messages of these bytes need more than one slot: from 0 to 1."""
    return 1.0 - np.exp(-np.square(message_byte / SLOT_BYTE))


def norm(one_s: Number, other_s: Array, exponent: float) -> Array:
    """The norm of two nonnegative times."""
    larger = np.maximum(np.maximum(one_s, other_s), _SHORTEST_S)
    both: Array = np.power(one_s / larger, exponent) + np.power(other_s / larger, exponent)
    return larger * np.power(both, 1.0 / exponent)
