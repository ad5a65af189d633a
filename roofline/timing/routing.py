"""How many rows each expert gets: uniform, exactly balanced or power-law routing, and the busiest of several ranks."""

from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from ..structs import Array

QUANTILES = 64
"""Points at which the distribution of rows over experts is sampled."""

FEW = 1.5
"""Expected rows up to which an expert gets one or none."""


@dataclass(frozen=True, slots=True)
class UniformRouting:
    """Every token picks its experts at random, all equally likely: rows per expert are binomial."""


@dataclass(frozen=True, slots=True)
class BalancedRouting:
    """Every expert gets the same number of rows, as an auxiliary loss aims for and benchmarks assume."""


@dataclass(frozen=True, slots=True)
class PowerLawRouting:
    """Popularity of experts falls off as a power law, density v^-exponent between a least and a most popular one.

    The least and the most are those of aiconfigurator's generator: 1 and 0.8 tokens, or 0.01 and 2 while there are
    fewer rows than experts.
    """

    exponent: float
    remainder: "Remainder" = field(default_factory=lambda: Remainder.SPREAD)


class Remainder(Enum):
    """Which experts get the rows that are left when each expert's share is rounded: a fact of the generator."""

    SPREAD = "spread"
    """The least loaded ones, anywhere."""
    FIRST_RANK = "first_rank"
    """Consecutive ones from the first: the busiest rank gets one for each of its experts, as far as they reach."""


Routing = UniformRouting | BalancedRouting | PowerLawRouting


@dataclass(frozen=True, slots=True)
class ExpertRows:
    """Rows of the local experts of the busiest rank. `quantile_rows` has one more axis, of equally likely values."""

    rows: Array
    local_experts: Array
    quantile_rows: Array

    def blocks(self, block_rows: float) -> Array:
        """Expected blocks of `block_rows` rows, each expert's rows rounded up; c < 1 expected rows make c blocks."""
        counts = self.quantile_rows
        blocks = np.where(counts < 1.0, counts, np.ceil(counts / block_rows))
        expected: Array = self.local_experts * blocks.mean(axis=-1)
        return expected

    @property
    def touched_experts(self) -> Array:
        """Expected local experts with at least one row, whose weights are read."""
        expected: Array = self.local_experts * np.minimum(self.quantile_rows, 1.0).mean(axis=-1)
        return expected


def busiest_rank(routing: Routing, token: Array, per_token: Array, experts: Array, ranks: Array) -> ExpertRows:
    """Rows on the rank that all others wait for; token x per_token rows go to `experts` spread over `ranks`.

    Each rank holds experts / ranks of them. The largest of `ranks` sums is the mean plus the expected extreme of as
    many normal values (Blom, 1958), corrected for skewness (Cornish and Fisher, 1938) and for drawing without
    replacement; at most one row per token and expert.
    Ignores: that popular experts can be placed apart (expert-parallel load balancing), replicated experts.
    """
    mean_rows = token * per_token / experts
    local = experts / ranks
    spread = _spread(routing, token, per_token, experts)
    deviation = spread - 1.0
    variance = np.square(deviation).mean(axis=-1)
    sigma = np.sqrt(variance)
    skewness = (deviation * np.square(deviation)).mean(axis=-1) / np.maximum(variance * sigma, 1e-12)
    extreme = normal_quantile((ranks - 0.375) / (ranks + 0.25))
    tail = extreme + skewness / np.sqrt(local) * (np.square(extreme) - 1.0) * (ranks > 1.0) / 6.0
    drawn = np.sqrt(np.maximum(1.0 - local / experts, 0.0) / local)
    most = ranks * np.minimum(per_token, local) / per_token
    load = np.clip(1.0 + sigma * drawn * tail, 1.0, np.maximum(most, 1.0))
    counts = (mean_rows * load)[..., None] * spread
    few = counts < FEW
    share = _few_share(routing, token, per_token / experts, mean_rows, ranks, load, spread, few)
    return ExpertRows(local * mean_rows * load, local, np.where(few, share[..., None], counts))


def normal_quantile(probability: Array) -> Array:
    """Quantile of the standard normal, by Tukey's lambda (Joiner and Rosenblatt, 1971): within 0.02 for 1 - 99 %."""
    return np.asarray(4.91 * (np.power(probability, 0.14) - np.power(1.0 - probability, 0.14)))


def _few_share(
    routing: Routing,
    token: Array,
    picked: Array,
    mean_rows: Array,
    ranks: Array,
    load: Array,
    spread: Array,
    few: NDArray[np.bool_],
) -> Array:
    """Chance that an expert with `few` expected rows has one: nobody gets a fraction, so they share theirs equally."""
    portion = np.maximum(few.mean(axis=-1), 1.0 / QUANTILES)
    shared: Array = mean_rows * load * np.where(few, spread, 0.0).mean(axis=-1) / portion
    match routing:
        case UniformRouting():
            # Touched at all: 1 - (1 - per_token / experts)^token, here at the load of the busiest rank.
            touched = 1.0 - np.power(1.0 - np.minimum(picked, 1.0 - 1e-12), token * load)
            chance: Array = np.clip((touched - (1.0 - few.mean(axis=-1))) / portion, 0.0, 1.0)
            return chance
        case PowerLawRouting(remainder=Remainder.FIRST_RANK):
            counts = mean_rows[..., None] * spread
            left_over = np.maximum((counts - np.round(counts)).mean(axis=-1), 0.0)
            concentrated: Array = np.maximum(shared, np.minimum(shared + left_over * (ranks - load), 1.0))
            return concentrated
        case _:
            return shared


def _spread(routing: Routing, token: Array, per_token: Array, experts: Array) -> Array:
    """Rows of an expert over their mean, at equally likely points: mean 1 along the last axis."""
    point = (np.arange(QUANTILES) + 0.5) / QUANTILES
    match routing:
        case BalancedRouting():
            values = np.ones((*token.shape, QUANTILES))
        case UniformRouting():
            mean = (token * per_token / experts)[..., None]
            share = (per_token / experts)[..., None]
            sigma = np.sqrt(mean * (1.0 - share))
            z = normal_quantile(point)
            values = np.maximum(mean + sigma * z + (1.0 - 2.0 * share) * (np.square(z) - 1.0) / 6.0, 0.0)
        case PowerLawRouting(exponent):
            crowded = token * per_token > experts
            low = np.where(crowded, 1.0, 0.01)[..., None]
            high = np.where(crowded, np.maximum(0.8 * token, 1.0), 2.0)[..., None]
            power = 1.0 - exponent
            least = np.power(low, power)
            values = np.power((np.power(high, power) - least) * point + least, 1.0 / power)
    mean_value: Array = values.mean(axis=-1, keepdims=True)
    return values / np.maximum(mean_value, 1e-12)
