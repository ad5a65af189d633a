"""One replica of a structure, ready to be asked for its step times; what is asked for is made once."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ..deployment import Deployment, deployment
from ..device import Device
from ..serving.memory import KvMemory, kv_memory
from ..serving.step import ServedModel, served_model
from ..structs import Array
from ..timing import StepTime
from ..workload import AttentionKind, Parallelism, Precision, Scenario, prefill
from .curve import Curves, LineTimes, curves, line_times, slowed
from .floor import Floor, floor_of
from .pools import limits_of
from .request import Offer, PlanRequest
from .space import Grid, Structure


@dataclass(frozen=True, eq=False)
class Replica:
    """A split of the model over devices of an offer in some formats; the same whichever pools it works in."""

    offer: Offer
    precision: Precision
    split: Parallelism
    request: PlanRequest

    @property
    def device(self) -> Device:
        """The device it runs on."""
        return self.offer.device

    @cached_property
    def exact(self) -> ServedModel:
        """It under the engine that is asked for, with step times from the timing models themselves."""
        scenario = Scenario(1.0, 1.0, 1.0, self.precision, self.split, AttentionKind.FUSED)
        asked = self.request
        return served_model(asked.model, self.device, self.offer.calibration, scenario, asked.engine)

    @cached_property
    def lines(self) -> LineTimes:
        """The times of its kernels for the request's workload."""
        prompt, context, budgets = workload(self.request)
        largest = float(max(self.request.max_sequences))
        return line_times(self.exact.times, float(budgets.max()) + 2.0 * largest, largest, prompt, context)

    @cached_property
    def served(self) -> ServedModel:
        """It with step times read from its lines."""
        return replace(self.exact, times=self.lines)

    @cached_property
    def curves(self) -> Curves:
        """Its steps over the running batch."""
        prompt, context, budgets = workload(self.request)
        return curves(self.exact, self.served, budgets, float(max(self.request.max_sequences)), prompt, context)

    @cached_property
    def where(self) -> Deployment:
        """It with the times and bands of single steps."""
        scenario = self.exact.memory.scenario
        return deployment(self.request.model, self.device, self.offer.calibration, scenario)

    @cached_property
    def ends(self) -> tuple[Curves, Curves]:
        """Its curves at the fast and the slow end of its steps' band: the wider of their kernels' and the engine's."""
        prompt, context, budgets = workload(self.request)
        made, band = self.curves, self.request.engine.tpot_band
        steps = self.where.decode_step(made.batch, context), self.where.prefill_step((prefill(1.0, made.chunk),))
        (fast, slow), (fast_chunk, slow_chunk) = map(_band, steps)
        low, high = float(band.low), float(band.high)
        return (
            slowed(made, np.minimum(low, fast), np.minimum(low, fast_chunk), budgets, prompt),
            slowed(made, np.maximum(high, slow), np.maximum(high, slow_chunk), budgets, prompt),
        )

    @cached_property
    def floor(self) -> Floor:
        """What no schedule brings it below."""
        return floor_of(self.lines, self.request, self.exact.replicas)

    def memory(self, candidates: Grid) -> KvMemory:
        """The KvMemory of each candidate."""
        scenario = self.exact.memory.scenario
        return kv_memory(self.request.model, self.device, scenario, limits_of(self.request, candidates))


def _band(step: StepTime) -> tuple[Array, Array]:
    """The ends of the kernels' band of steps as shares of their times."""
    fast, slow = (end.sum(axis=-1) / step.stage_s.sum(axis=-1) for end in step.stage_band_s)
    return fast, slow


def replica_of(structure: Structure, request: PlanRequest, last: Replica | None = None) -> Replica:
    """The Replica of `structure`: `last` where that is the same one."""
    key = (structure.precision, structure.split)
    if last is not None and last.offer is structure.offer and (last.precision, last.split) == key:
        return last
    return Replica(structure.offer, *key, request)


def workload(request: PlanRequest) -> tuple[float, float, Array]:
    """Mean prompt, mean cached tokens while generating, and the token budgets to try."""
    prompt, output = float(request.lengths.prompt.mean), float(request.lengths.output.mean)
    return prompt, prompt + output / 2.0, np.array(request.max_batch_tokens, dtype=np.float64)
