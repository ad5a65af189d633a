"""How long prompts and answers are: fixed, lognormal, or as in a trace."""

from dataclasses import dataclass

import numpy as np

from ..errors import RooflineError
from ..structs import Array, Number


@dataclass(frozen=True, slots=True)
class Fixed:
    """Every length is `token`; may be an array over configurations."""

    token: Number

    @property
    def mean(self) -> Number:
        """Mean length in tokens."""
        return self.token

    @property
    def cv2(self) -> Number:
        """Squared coefficient of variation."""
        return 0.0 * np.asarray(self.token)

    def quantile(self, share: Number) -> Number:
        """The length that `share` of requests do not exceed; broadcasts against the configurations."""
        return self.token + 0.0 * np.asarray(share)

    def sample(self, generator: np.random.Generator, count: int) -> Array:
        """`count` lengths, whole tokens (scalar lengths only)."""
        return np.full(count, np.round(np.float64(self.token)))


@dataclass(frozen=True, slots=True)
class LogNormal:
    """Lengths with this mean and coefficient of variation `cv` whose logarithm is normal; at least one token."""

    mean: Number
    cv: Number

    @property
    def cv2(self) -> Number:
        """Squared coefficient of variation."""
        return np.asarray(self.cv) ** 2.0

    @property
    def sigma(self) -> Number:
        """Standard deviation of the logarithm: sqrt(ln(1 + cv²))."""
        return np.sqrt(np.log1p(self.cv2))

    def quantile(self, share: Number) -> Number:
        """The length that `share` of requests do not exceed: median · exp(sigma · z)."""
        median = self.mean / np.sqrt(1.0 + self.cv2)
        return np.maximum(median * np.exp(self.sigma * normal_quantile(share)), 1.0)

    def sample(self, generator: np.random.Generator, count: int) -> Array:
        """`count` lengths, whole tokens, at least one (scalar distributions only)."""
        median = self.mean / np.sqrt(1.0 + self.cv2)
        drawn = median * np.exp(self.sigma * generator.standard_normal(count))
        return np.maximum(np.round(drawn), 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Empirical:
    """Lengths as observed, all equally likely. Errors: RooflineError where there are none, or one is below a token."""

    tokens: Array

    def __post_init__(self) -> None:
        if self.tokens.size == 0 or not np.all(np.isfinite(self.tokens) & (self.tokens >= 1.0)):
            raise RooflineError("lengths: an empirical distribution needs lengths, each of at least one token.")

    @property
    def mean(self) -> Number:
        """Mean length in tokens."""
        return float(self.tokens.mean())

    @property
    def cv2(self) -> Number:
        """Squared coefficient of variation."""
        return float(self.tokens.var() / self.tokens.mean() ** 2)

    def quantile(self, share: Number) -> Number:
        """The length that `share` of requests do not exceed."""
        value: Number = np.quantile(self.tokens, share)
        return value

    def sample(self, generator: np.random.Generator, count: int) -> Array:
        """`count` lengths drawn with replacement."""
        return generator.choice(self.tokens, count)


Length = Fixed | LogNormal | Empirical


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths of prompts and of outputs (tokens generated, the first included), taken as independent."""

    prompt: Length
    output: Length


def normal_quantile(share: Number) -> Array:
    """The quantile of the standard normal distribution, absolute error below 4.5e-4 in 1e-6 .. 1 - 1e-6.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.2.23. (SciPy's would cost start-up time.)
    """
    clipped = np.clip(np.asarray(share, dtype=np.float64), 1e-12, 1.0 - 1e-12)
    tail = np.minimum(clipped, 1.0 - clipped)
    t = np.sqrt(-2.0 * np.log(tail))
    upper = t - (2.515517 + 0.802853 * t + 0.010328 * t**2) / (1.0 + 1.432788 * t + 0.189269 * t**2 + 0.001308 * t**3)
    return np.where(clipped > 0.5, upper, -upper)
