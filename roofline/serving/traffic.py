"""How requests arrive at a deployment."""

from dataclasses import dataclass

import numpy as np

from ..structs import Number


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """A fixed number of clients over all replicas, each sending its next request when its last is answered.

    `request_per_slot`: requests that each client sends. Benchmarks send few (ten, say), all clients start at once, and
    means over them contain that burst; inf: steady state alone. Numbers may be arrays.
    """

    concurrency: Number
    request_per_slot: Number = np.inf


@dataclass(frozen=True, slots=True)
class OpenLoop:
    """Requests arrive at a rate, whatever the deployment does. Numbers may be arrays.

    `arrival_cv2`: squared coefficient of variation of the time between arrivals (1: Poisson, 0: a clock; bursts: > 1).
    """

    request_per_s: Number
    arrival_cv2: Number = 1.0


Traffic = ClosedLoop | OpenLoop
