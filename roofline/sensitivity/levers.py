"""What can be turned: rates and capacities of the hardware, fixed costs, and the numbers of the workload."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from ..device import Device, Link
from ..outcome import Case
from ..serving.engine import HostCost
from ..serving.traffic import ClosedLoop, OpenLoop
from ..structs import Array, Number, arithmetic_dtype
from ..timing.calibration import Fitted, Key, Parameters
from ..timing.direct_all_reduce import DirectParameters
from ..timing.nccl import RingParameters
from ..timing.parameter import facts_of, inner_parameters, value_of, with_values
from .served import ServedCase


@dataclass(frozen=True, slots=True)
class Lever:
    """A number of a case that can be scaled. `value` None: the case has no one such number.

    `scaled` gives the case with the number times a factor, calibration parameters (fractions of it) kept.
    """

    key: str
    title: str
    unit: str
    value: Callable[[Case], float | None]
    scaled: Callable[[Case, float], Case]
    moves_memory: bool = False


def _on_device(change: Callable[[Device, float], Device]) -> Callable[[Case, float], Case]:
    return lambda case, factor: replace(case, device=change(case.device, factor))


def _bandwidth(device: Device, factor: float) -> Device:
    rate = device.dram.bandwidth_byte_per_s
    return replace(device, dram=replace(device.dram, bandwidth_byte_per_s=None if rate is None else rate * factor))


def _rates(device: Device, factor: float) -> Device:
    """Matrix and vector rates: the compute units do more in a clock."""
    return replace(
        device,
        matrix_flop_per_s={dtype: rate * factor for dtype, rate in device.matrix_flop_per_s.items()},
        vector_flop_per_s=device.vector_flop_per_s * factor,
    )


def _capacity(device: Device, factor: float) -> Device:
    return replace(device, dram=replace(device.dram, capacity_byte=device.dram.capacity_byte * factor))


def _links(device: Device, change: Callable[[Link], Link]) -> Device:
    intra, inter = device.intra_node, device.inter_node
    return replace(device, intra_node=intra and change(intra), inter_node=inter and change(inter))


def _link_bandwidth(device: Device, factor: float) -> Device:
    return _links(device, lambda link: replace(link, bandwidth_byte_per_s=link.bandwidth_byte_per_s * factor))


def _with_seconds(parameters: Parameters, factor: float) -> Parameters:
    """Parameters with every fixed time (those in seconds) scaled, also of a kernel that theirs hands work on to."""
    seconds = [name for name, facts in facts_of(type(parameters)).items() if facts.unit == "s"]
    others: dict[str, Any] = {
        name: _with_seconds(inner, factor) for name, inner in inner_parameters(parameters).items()
    }
    own = with_values(parameters, {name: value_of(parameters, name) * factor for name in seconds})
    return replace(own, **others)


def _fixed_times(models: Mapping[Key, Fitted], factor: float, collectives: bool) -> dict[Key, Fitted]:
    """The fits with the fixed times of collectives, or of all other kernels, scaled."""
    return {
        key: replace(fitted, parameters=_with_seconds(fitted.parameters, factor))
        if isinstance(fitted.parameters, RingParameters | DirectParameters) is collectives
        else fitted
        for key, fitted in models.items()
    }


def _latency(case: Case, factor: float) -> Case:
    """Latency of the links, and the fixed times of the collectives that were measured on them."""
    device = _links(case.device, lambda link: replace(link, latency_s=link.latency_s * factor))
    models = _fixed_times(case.calibration.models, factor, collectives=True)
    return replace(case, device=device, calibration=replace(case.calibration, models=models))


def _overhead(case: Case, factor: float) -> Case:
    """Fixed times of kernels on one device: launches, second passes, synchronisation."""
    overhead_s = case.device.efficiency.kernel_overhead_s * factor
    device = replace(case.device, efficiency=replace(case.device.efficiency, kernel_overhead_s=overhead_s))
    models = _fixed_times(case.calibration.models, factor, collectives=False)
    return replace(case, device=device, calibration=replace(case.calibration, models=models))


def _peak(case: Case) -> float:
    precision = case.scenario.precision
    dtype = arithmetic_dtype(precision.weights, precision.activations)
    return case.device.matrix_flop_per_s[case.device.arithmetic(dtype)]


def _link(case: Case, figure: str) -> float | None:
    link = case.device.intra_node or case.device.inter_node
    return None if link is None else float(getattr(link, figure))


HARDWARE = (
    Lever(
        "dram_bandwidth",
        "DRAM bandwidth",
        "B/s",
        lambda case: case.device.dram.bandwidth_byte_per_s,
        _on_device(_bandwidth),
    ),
    Lever("flop_rate", "FLOP/s", "FLOP/s", _peak, _on_device(_rates)),
    Lever("capacity", "memory", "B", lambda case: case.device.dram.capacity_byte, _on_device(_capacity), True),
    Lever("overhead", "kernel overhead", "s", lambda case: case.device.efficiency.kernel_overhead_s, _overhead),
)
LINKS = (
    Lever(
        "link_bandwidth",
        "link bandwidth",
        "B/s",
        lambda case: _link(case, "bandwidth_byte_per_s"),
        _on_device(_link_bandwidth),
    ),
    Lever("link_latency", "link latency", "s", lambda case: _link(case, "latency_s"), _latency),
)
"""Hardware between devices: no lever where one device works alone."""


def _host_step_s(case: Case) -> float | None:
    return case.engine.host.step_s if isinstance(case, ServedCase) else None


def _host(case: Case, factor: float) -> Case:
    """Time of the engine's host: scheduler, launches that are not hidden, front end."""
    if not isinstance(case, ServedCase):
        return case
    host = case.engine.host
    slower = HostCost(*(getattr(host, entry.name) * factor for entry in fields(host)))
    return replace(case, engine=replace(case.engine, host=slower))


HOST = Lever("host", "host time", "s", _host_step_s, _host)
"""Beside the device: no lever of a static batch, which has no host."""


@dataclass(frozen=True, slots=True)
class WorkloadLever:
    """A number of the workload: how to read it and how to set it (to an axis of values). `whole`: it counts things."""

    key: str
    title: str
    value: Callable[[Case], float]
    at: Callable[[Case, Number], Case]
    moves_memory: bool
    whole: bool = True

    def around(self, case: Case, factors: Array) -> Array:
        """The number times each factor; where it counts, whole numbers from 1 on, at least one off on either side."""
        base = self.value(case)
        if not self.whole:
            return base * factors
        scaled = np.round(base * factors)
        apart = np.where(factors < 1.0, np.minimum(scaled, base - 1.0), np.maximum(scaled, base + 1.0))
        return np.maximum(apart, 1.0)


def _asked(key: str, title: str, field: str, moves_memory: bool) -> WorkloadLever:
    """A number of the scenario."""

    def at(case: Case, values: Number) -> Case:
        changed: Mapping[str, Any] = {field: values}
        return replace(case, scenario=replace(case.scenario, **changed))

    return WorkloadLever(key, title, lambda case: float(getattr(case.scenario, field)), at, moves_memory)


def _limit(key: str, title: str, field: str) -> WorkloadLever:
    """A limit that the engine is started with."""

    def value(case: Case) -> float:
        return float(getattr(_served(case).engine.limits, field))

    def at(case: Case, values: Number) -> Case:
        engine = _served(case).engine
        changed: Mapping[str, Any] = {field: values}
        return replace(case, engine=replace(engine, limits=replace(engine.limits, **changed)))  # type: ignore[call-arg]

    return WorkloadLever(key, title, value, at, moves_memory=False)


def _served(case: Case) -> ServedCase:
    if not isinstance(case, ServedCase):
        raise TypeError("a lever of an engine turned in a case without one")
    return case


def _traffic(case: ServedCase) -> WorkloadLever:
    """The load: clients of a closed loop, or requests per second of an open one."""
    key, title, field = {
        ClosedLoop: ("concurrency", "clients", "concurrency"),
        OpenLoop: ("rate", "requests/s", "request_per_s"),
    }[type(case.traffic)]

    def at(of: Case, values: Number) -> Case:
        changed: Mapping[str, Any] = {field: values}
        return replace(of, traffic=replace(_served(of).traffic, **changed))  # type: ignore[call-arg]

    return WorkloadLever(
        key, title, lambda of: float(getattr(_served(of).traffic, field)), at, False, whole=key == "concurrency"
    )


BATCH = _asked("batch", "batch", "batch", False)
INPUT = _asked("input", "input tokens", "input_token", True)
OUTPUT = _asked("output", "output tokens", "output_token", True)
LIMITS = (
    _limit("max_sequence", "max sequences", "max_sequence"),
    _limit("max_batch_token", "token budget", "max_batch_token"),
)


def workload_levers(case: Case) -> tuple[WorkloadLever, ...]:
    """The numbers of the workload that a case has."""
    match case:
        case ServedCase():
            return (_traffic(case), INPUT, OUTPUT, *LIMITS)
        case _:
            return (BATCH, INPUT, OUTPUT)


def levers_of(case: Case) -> tuple[Lever, ...]:
    """The hardware levers that the case has, and the host's."""
    links = LINKS if case.scenario.parallelism.device_count > 1 and _link(case, "latency_s") is not None else ()
    return HARDWARE + links + ((HOST,) if isinstance(case, ServedCase) else ())
