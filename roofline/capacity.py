"""Does it fit, how much more would fit, and the nearest change that makes it fit."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from .device import Device
from .errors import InfeasibleError
from .footprint import Footprint, footprint
from .model import Model, Moe
from .structs import STORED_BYTE, Array, Dtype, Number
from .workload import Scenario

BATCH_LIMIT = 2**24
"""Largest batch that is searched for."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change to a deployment under which it fits. `device_count`: devices it needs."""

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

    def length_fits(token: Array) -> Array:
        return np.asarray(footprint(model, device, _of_length(scenario, token)).free_byte >= 0)

    max_batch = largest_batch(model, device, scenario)
    terms = {
        "weights": held.weight_byte,
        "KV cache": held.kv_byte,
        "activations": held.activation_byte,
        "engine reserve": held.reserve_byte,
    }
    return Capacity(
        footprint=held,
        fits=fits,
        max_batch=max_batch,
        max_context=largest_true(length_fits, int(model.max_context)),
        largest_term=max(terms, key=lambda name: float(terms[name])),
        changes=() if fits else tuple(_changes(model, device, scenario, max_batch)),
    )


def largest_batch(model: Model, device: Device, scenario: Scenario) -> int:
    """Requests of the scenario's length that fit, at most BATCH_LIMIT (0: none). Errors: as capacity."""

    def fits(batch: Array) -> Array:
        return np.asarray(footprint(model, device, replace(scenario, batch=batch)).free_byte >= 0)

    return largest_true(fits, BATCH_LIMIT)


def _of_length(scenario: Scenario, token: Array) -> Scenario:
    """The scenario with requests of `token` tokens in all, the same output."""
    return replace(scenario, input_token=np.maximum(token - scenario.output_token, 1.0))


def _linked_devices(device: Device) -> Number:
    """Devices that can work on one replica: those that the links of the profile reach."""
    if device.inter_node is not None:
        return np.inf
    return 1.0 if device.intra_node is None else device.intra_node.domain_size


Variant = tuple[str, Scenario]
"""A change in words, and the scenario after it."""


def _narrower(scenario: Scenario) -> Iterator[Variant]:
    """The scenario with its cache or its weights in fewer bits, the mildest first."""
    precision = scenario.precision
    if STORED_BYTE[precision.kv] > 1:
        yield "KV cache in fp8 (--kv fp8)", replace(scenario, precision=replace(precision, kv=Dtype.FP8))
    for narrow in (Dtype.FP8, Dtype.INT4):
        if STORED_BYTE[narrow] < STORED_BYTE[precision.weights]:
            quantised = replace(precision, weights=narrow, experts=narrow)
            yield f"weights in {narrow} (--weights {narrow})", replace(scenario, precision=quantised)


def _wider(model: Model, scenario: Scenario) -> Iterator[Variant]:
    """The scenario on more devices."""
    spread = scenario.parallelism
    for factor in (2, 4, 8, 16, 32, 64):
        wider = replace(spread, tp=spread.tp * factor)
        yield f"tensor parallelism {wider.tp} (--tp {wider.tp})", replace(scenario, parallelism=wider)
        longer = replace(spread, pp=spread.pp * factor)
        yield f"pipeline parallelism {longer.pp} (--pp {longer.pp})", replace(scenario, parallelism=longer)
        if any(isinstance(layer.mlp, Moe) for layer in model.layers):
            replicas = replace(spread, ep=spread.ep * factor, dp=spread.dp * factor)
            text = f"experts over {replicas.ep} ranks (--ep {replicas.ep} --dp {replicas.dp})"
            yield text, replace(scenario, parallelism=replicas)


def _changes(model: Model, device: Device, scenario: Scenario, max_batch: int) -> list[Change]:
    """The changes under which the scenario fits, those without more devices first, then by devices.

    Where no single change is enough: narrower formats together with more devices. Splits over more devices than the
    links of the profile reach are left out: they could not be predicted.
    """
    devices = scenario.parallelism.device_count
    smaller = [Change(f"batch {max_batch} (--batch {max_batch})", devices, 0.0)] if max_batch else []
    single = chain(_narrower(scenario), _wider(model, scenario))
    pairs = (
        (f"{first} and {second}", both)
        for first, narrowed in _narrower(scenario)
        for second, both in _wider(model, narrowed)
    )
    found = smaller + _fitting(model, device, single) or _fitting(model, device, pairs)
    return sorted(found, key=lambda change: change.device_count)


def _fitting(model: Model, device: Device, variants: Iterable[Variant]) -> list[Change]:
    """Those of `variants` that the model and the device's links allow, and that fit."""
    found: list[Change] = []
    for text, variant in variants:
        spread = variant.parallelism
        try:
            free = float(footprint(model, device, variant).free_byte)
        except InfeasibleError:
            continue
        if free >= 0 and max(spread.tp * spread.pp, spread.ep) <= _linked_devices(device):
            found.append(Change(text, spread.device_count, free))
    return found
