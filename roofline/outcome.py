"""The headline figures of a static batch, elementwise: one formula for a scenario and for a grid of them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .deployment import Deployment, decode_times, deployment, prefill_times
from .device import Device
from .economics import MILLION_TOKEN, Site, TokenCost, token_cost, utilisation_of
from .model import Model
from .structs import Array, Number, arithmetic_dtype
from .timing import Calibration, StepTime, sum_over_kernels
from .workload import Precision, Scenario


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """All that a prediction depends on."""

    model: Model
    device: Device
    calibration: Calibration
    scenario: Scenario
    site: Site

    @property
    def deployment(self) -> Deployment:
        """The model on its devices, ready to be timed. Errors: InfeasibleError where shapes do not divide."""
        return deployment(self.model, self.device, self.calibration, self.scenario)


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What a static batch comes to; every number has the shape of the scenario's.

    `e2e_s`: one request from its prompt to its last token. What needs a decode step is None for encoders.
    """

    prefill: StepTime
    decode: StepTime | None
    ttft_s: Number
    tpot_s: Number | None
    e2e_s: Number
    input_token_per_s: Number
    output_token_per_s: Number | None
    input_cost: TokenCost
    output_cost: TokenCost | None
    device_s_per_request: Number

    def usd_per_request(self, scenario: Scenario) -> Number | None:
        """US dollars that one request of `scenario` pays for its input and output tokens; None without a price."""
        read = self.input_cost.usd_per_mtok
        if read is None:
            return None
        written = None if self.output_cost is None else self.output_cost.usd_per_mtok
        written = 0.0 if written is None else written
        return (read * scenario.input_token + written * scenario.output_token) / MILLION_TOKEN


def busiest(step: StepTime, per_stage: Array) -> Array:
    """The values of `per_stage`, shape (*scenarios, stages), at the stage whose device takes longest."""
    stage = np.argmax(step.stage_s, axis=-1)
    found: Array = np.take_along_axis(per_stage, stage[..., None], axis=-1)[..., 0]
    return found


def bound_index(step: StepTime) -> NDArray[np.intp]:
    """Index into BOUNDS of the resource that binds most of the busiest device's time."""
    stage = np.argmax(step.stage_s, axis=-1)
    bound_s = np.take_along_axis(step.stage_bound_s, stage[..., None, None], axis=-2)[..., 0, :]
    index: NDArray[np.intp] = np.argmax(bound_s, axis=-1)
    return index


def rates_used(step: StepTime, device: Device, precision: Precision) -> tuple[Array, Array]:
    """MFU and MBU of a step on the busiest device: its matrix FLOP and bytes over what peak and bandwidth do in it.

    The peak is that of the fastest format that the step computes in: linear layers, experts, or attention.
    """
    products = (arithmetic_dtype(stored, precision.activations) for stored in (precision.weights, precision.experts))
    peak = max(device.matrix_flop_per_s[device.arithmetic(dtype)] for dtype in (*products, precision.stream))
    total_s = busiest(step, step.stage_s)

    def total(of: str) -> Array:
        per_stage = sum_over_kernels(step.groups, tuple(getattr(group.cost, of) for group in step.groups))
        return busiest(step, np.broadcast_to(per_stage, step.stage_s.shape))

    bandwidth = float(device.dram.bandwidth_byte_per_s or np.inf)
    return total("matrix_flop") / (total_s * peak), total("memory_byte") / (total_s * bandwidth)


def outcome(case: Case, where: Deployment | None = None) -> Outcome:
    """The Outcome of `case`. `where`: its deployment, if it is at hand.

    Every device is taken to be as busy as that of the busiest stage. Errors: InfeasibleError as deployment.
    """
    device, scenario, site = case.device, case.scenario, case.site
    where = where or case.deployment
    devices, batch = scenario.parallelism.device_count, scenario.batch

    def cost(step: StepTime, token_per_s: Number) -> TokenCost:
        return token_cost(
            device, site, devices, utilisation_of(*rates_used(step, device, scenario.precision)), token_per_s
        )

    prefill_step, ttft_s = prefill_times(where, scenario)
    input_token_per_s = batch * scenario.input_token / ttft_s
    input_cost = cost(prefill_step, input_token_per_s)
    if not case.model.causal:
        device_s = devices * ttft_s / batch
        return Outcome(prefill_step, None, ttft_s, None, ttft_s, input_token_per_s, None, input_cost, None, device_s)
    decode_step, tpot_s = decode_times(where, scenario)
    output_token_per_s = batch / tpot_s
    return Outcome(
        prefill=prefill_step,
        decode=decode_step,
        ttft_s=ttft_s,
        tpot_s=tpot_s,
        e2e_s=ttft_s + (scenario.output_token - 1.0) * tpot_s,
        input_token_per_s=input_token_per_s,
        output_token_per_s=output_token_per_s,
        input_cost=input_cost,
        output_cost=cost(decode_step, output_token_per_s),
        device_s_per_request=devices * (ttft_s + scenario.output_token * tpot_s) / batch,
    )
