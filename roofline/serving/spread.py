"""How a time is spread over requests or tokens: its mean and the percentiles that service levels are written in."""

from dataclasses import dataclass

import numpy as np

from ..structs import Array, Number
from .lengths import normal_quantile

PERCENTILES = (0.50, 0.95, 0.99)


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """Mean and percentiles of a time in seconds; elementwise over configurations."""

    mean: Array
    p50: Array
    p95: Array
    p99: Array

    def at(self, percentile: int) -> Array:
        """The 50th, 95th or 99th percentile."""
        found: Array = getattr(self, f"p{percentile}")
        return found

    def plus(self, constant: Number) -> "Spread":
        """The same with a constant added to every value."""
        return Spread(self.mean + constant, self.p50 + constant, self.p95 + constant, self.p99 + constant)


def lognormal_spread(mean: Number, variance: Number) -> Spread:
    """The Spread of a lognormal time of this mean and variance. All zero where the mean is."""
    centre = np.asarray(mean, dtype=np.float64)
    cv2 = variance / np.maximum(centre, 1e-30) ** 2
    sigma = np.sqrt(np.log1p(cv2))
    median = centre / np.sqrt(1.0 + cv2)
    return Spread(centre + 0.0 * sigma, *(median * np.exp(sigma * normal_quantile(share)) for share in PERCENTILES))


def waiting_spread(mean: Number, probability: Number) -> Spread:
    """The Spread of a wait that `probability` of requests have and that is exponential among those.

    P(W > x) = probability · exp(-probability · x / mean); the form that is exact for M/M/c.
    """
    centre = np.asarray(mean, dtype=np.float64)
    some = np.clip(probability, 1e-12, 1.0)
    late = (centre / some * np.log(np.maximum(some / (1.0 - share), 1.0)) for share in PERCENTILES)
    return Spread(centre + 0.0 * some, *late)


def sum_of(first: Spread, second: Spread) -> Spread:
    """The Spread of a sum of independent times: means add, distances of percentiles from the mean add in squares."""
    mean = first.mean + second.mean
    endless = ~np.isfinite(mean)

    def at(one: Array, other: Array) -> Array:
        above, beyond = (
            np.where(endless, 0.0, x) - np.where(endless, 0.0, m) for x, m in ((one, first.mean), (other, second.mean))
        )
        total: Array = mean + np.sign(above + beyond) * np.hypot(above, beyond)
        return total

    return Spread(mean, at(first.p50, second.p50), at(first.p95, second.p95), at(first.p99, second.p99))
