"""Does it fit, how much more would fit, and the nearest change that makes it fit."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from .device import Device
from .errors import InfeasibleError
from .footprint import Footprint, footprint
from .model import Model, Moe
from .structs import STORED_BYTE, Array, Dtype
from .workload import Scenario

BATCH_LIMIT = 2**24
"""Largest batch that is searched for."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change to a deployment under which it fits. `device_count`: devices it needs."""

    text: str
    device_count: int
    free_byte: float


@dataclass(frozen=True, slots=True)
class Capacity:
    """`max_batch`: requests of the scenario's length that fit (0: none). `max_context`: tokens per request that fit at
    the scenario's batch, at most the model's own limit. `changes`: what would make it fit (empty when it does).
    """

    footprint: Footprint
    fits: bool
    max_batch: int
    max_context: int
    largest_term: str
    changes: tuple[Change, ...]


def integers(values: Array) -> Array:
    """The distinct whole parts of `values`, ascending. (np.unique would import numpy.ma: 7 ms at start-up.)"""
    return np.array(sorted(set(np.floor(values).tolist())))


def largest_true(holds: Callable[[Array], Array], limit: int) -> int:
    """The largest integer up to `limit` for which a monotone condition holds, 0 if for none from 1 on.

    Narrows the range by 64 points at a time, each evaluated at once.
    """
    low, high = 0, limit + 1
    while high - low > 1:
        points = integers(np.linspace(low, high, 66))[1:-1]
        passed = points[holds(points)]
        low = int(passed[-1]) if passed.size else low
        failed = points[points > low]
        high = int(failed[0]) if failed.size else high
    return low


def capacity(model: Model, device: Device, scenario: Scenario) -> Capacity:
    """The Capacity of `scenario` (scalar numbers). Errors: InfeasibleError where the model cannot be split so."""
    held = footprint(model, device, scenario)
    fits = bool(held.free_byte >= 0)

    def batch_fits(batch: Array) -> Array:
        return np.asarray(footprint(model, device, replace(scenario, batch=batch)).free_byte >= 0)

    def length_fits(token: Array) -> Array:
        return np.asarray(footprint(model, device, _of_length(scenario, token)).free_byte >= 0)

    terms = {
        "weights": held.weight_byte,
        "KV cache": held.kv_byte,
        "activations": held.activation_byte,
        "engine reserve": held.reserve_byte,
    }
    return Capacity(
        footprint=held,
        fits=fits,
        max_batch=largest_true(batch_fits, BATCH_LIMIT),
        max_context=largest_true(length_fits, int(model.max_context)),
        largest_term=max(terms, key=lambda name: float(terms[name])),
        changes=() if fits else tuple(_changes(model, device, scenario)),
    )


def _of_length(scenario: Scenario, token: Array) -> Scenario:
    """The scenario with requests of `token` tokens in all, the same output."""
    return replace(scenario, input_token=np.maximum(token - scenario.output_token, 1.0))


def _variants(model: Model, scenario: Scenario) -> Iterator[tuple[str, Scenario]]:
    """Single changes that people make, the mildest first."""
    precision, spread = scenario.precision, scenario.parallelism
    if STORED_BYTE[precision.kv] > 1:
        yield "KV cache in fp8 (--kv fp8)", replace(scenario, precision=replace(precision, kv=Dtype.FP8))
    for narrow in (Dtype.FP8, Dtype.INT4):
        if STORED_BYTE[narrow] < STORED_BYTE[precision.weights]:
            quantised = replace(precision, weights=narrow, experts=narrow)
            yield f"weights in {narrow} (--weights {narrow})", replace(scenario, precision=quantised)
    for factor in (2, 4, 8, 16):
        wider = replace(spread, tp=spread.tp * factor)
        yield f"tensor parallelism {wider.tp} (--tp {wider.tp})", replace(scenario, parallelism=wider)
        longer = replace(spread, pp=spread.pp * factor)
        yield f"pipeline parallelism {longer.pp} (--pp {longer.pp})", replace(scenario, parallelism=longer)
        if any(isinstance(layer.mlp, Moe) for layer in model.layers):
            replicas = replace(spread, ep=spread.ep * factor, dp=spread.dp * factor)
            text = f"experts over {replicas.ep} ranks (--ep {replicas.ep} --dp {replicas.dp})"
            yield text, replace(scenario, parallelism=replicas)


def _changes(model: Model, device: Device, scenario: Scenario) -> list[Change]:
    """The changes under which the scenario fits, those without more devices first, then by devices."""
    found: list[Change] = []
    smaller = largest_true(
        lambda batch: np.asarray(footprint(model, device, replace(scenario, batch=batch)).free_byte >= 0), BATCH_LIMIT
    )
    if smaller:
        devices = scenario.parallelism.device_count
        found.append(Change(f"batch {smaller} (--batch {smaller})", devices, 0.0))
    for text, variant in _variants(model, scenario):
        try:
            free = float(footprint(model, device, variant).free_byte)
        except InfeasibleError:
            continue
        if free >= 0:
            found.append(Change(text, variant.parallelism.device_count, free))
    return sorted(found, key=lambda change: change.device_count)
