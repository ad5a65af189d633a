"""Robust fit of the few physical parameters of a timing model to measured times."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from ..errors import RooflineError
from ..structs import Array
from ..timing.parameter import facts_of, value_of, with_values

P = TypeVar("P")

ERROR_SCALE = 0.05
"""The relative error beyond which a row counts linearly, not quadratically: a fit robust to outliers."""


@dataclass(frozen=True, slots=True)
class Fit(Generic[P]):
    """Fitted `parameters`, and the names of those that the data cannot determine."""

    parameters: P
    undetermined: tuple[str, ...]


def fit(
    predict_s: Callable[[P], Array],
    measured_s: Array,
    prior: P,
    *,
    free: tuple[str, ...] | None = None,
    prior_weight: float = 0.02,
    underdetermined: bool = False,
    near: P | None = None,
) -> Fit[P]:
    """The parameters that minimise the soft-L1 of log(predicted / measured) within their bounds.

    `prior` gives the starting point and the values of parameters that are not `free`; a weak pull towards it
    (`prior_weight` per unit of log distance, scaled by the number of rows) settles what the data leaves open.
    `near`: start there instead, the fit to most of the same rows. It must not stop sooner for that: what is left
    open would keep what those rows said, and a fit that tells how far off its kind is would look too good.
    A parameter is undetermined when its standard error exceeds half of its value.
    Errors: RooflineError with fewer rows than free parameters, unless `underdetermined`: the pull settles the rest.
    """
    from scipy.optimize import least_squares

    facts = facts_of(type(prior))
    names = tuple(facts) if free is None else free
    if measured_s.size < len(names) and not underdetermined:
        raise RooflineError(
            f"records: {measured_s.size} rows cannot determine {len(names)} parameters ({', '.join(names)}). "
            f"Measure at least {len(names)} different shapes."
        )
    low = np.log([facts[name].low for name in names])
    high = np.log([facts[name].high for name in names])

    def point_of(parameters: P) -> Array:
        return np.clip(np.log([value_of(parameters, name) for name in names]), low + 1e-9, high - 1e-9)

    start = point_of(prior)
    log_measured = np.log(measured_s)
    pull = prior_weight * np.sqrt(measured_s.size)

    def at(point: Array) -> P:
        return with_values(prior, dict(zip(names, np.exp(point).tolist(), strict=True)))

    def residual(point: Array) -> Array:
        error = np.log(predict_s(at(point))) - log_measured
        robust = np.sign(error) * ERROR_SCALE * np.sqrt(2 * (np.sqrt(1 + (error / ERROR_SCALE) ** 2) - 1))
        return np.concatenate([robust, pull * ERROR_SCALE * (point - start)])

    begin = start if near is None else point_of(near)
    found = least_squares(residual, begin, bounds=(low, high), x_scale=0.3, diff_step=1e-3)
    degrees = max(measured_s.size - len(names), 1)
    variance = float(np.sum(found.fun[: measured_s.size] ** 2)) / degrees
    information = found.jac[: measured_s.size].T @ found.jac[: measured_s.size]
    covariance = variance * np.linalg.pinv(information + 1e-12 * np.eye(len(names)))
    relative = dict(zip(names, np.sqrt(np.maximum(np.diag(covariance), 0.0)).tolist(), strict=True))
    at_bound = np.isclose(found.x, low, atol=1e-3) | np.isclose(found.x, high, atol=1e-3)
    undetermined = tuple(
        name for name, stuck in zip(names, at_bound.tolist(), strict=True) if stuck or relative[name] > 0.5
    )
    return Fit(at(found.x), undetermined)
