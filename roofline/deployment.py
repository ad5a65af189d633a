"""A model on devices: the time of its steps, and of passes through pipeline stages."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .device import Device
from .footprint import weight_byte
from .model import Model
from .structs import Array, Number
from .timing import Calibration, Key, StepTime, WorkingSet, fit_of, keys_of, latent_keys, time_step, with_fits
from .transformer import LatentForm, Plan, plan, row_counts
from .workload import AttentionKind, Batch, Precision, Scenario, decode, prefill


@dataclass(frozen=True, slots=True, eq=False)
class Deployment:
    """A model on a device under a precision and a parallelism: its plans, ready to be timed for any batch.

    What depends on a step's row counts alone is remembered for single steps: everything but attention repeats from one
    decode step to the next.
    """

    prefill_plan: Plan
    decode_plan: Plan
    device: Device
    calibration: Calibration
    working_set: WorkingSet

    def prefill_step(self, batch: Batch) -> StepTime:
        """Time of one prefill (or mixed) step of a replica."""
        return self._timed(self.prefill_plan, batch)

    def decode_step(self, sequences: Number, context: Number) -> StepTime:
        """Time of one decode step of a replica: `sequences` sequences with `context` cached tokens each."""
        return self._timed(self.decode_plan, (decode(sequences, context),))

    def _timed(self, of: Plan, batch: Batch) -> StepTime:
        match row_counts(batch):
            case float() as token, float() as sampled:
                rows = _remembered_rows(self, of, token, sampled)
            case token, sampled:
                rows = _timed_rows(self, of, token, sampled)
        return rows.then(time_step(of.context_groups(batch), self.device, self.calibration, self.working_set))


def _timed_rows(where: Deployment, of: Plan, token: Number, sampled: Number) -> StepTime:
    """The kernels of a step of `of` that do not look at the cache."""
    return time_step(of.row_groups(token, sampled), where.device, where.calibration, where.working_set)


_remembered_rows = lru_cache(maxsize=1024)(_timed_rows)


def deployment(model: Model, device: Device, calibration: Calibration, scenario: Scenario) -> Deployment:
    """The Deployment of `scenario`; its batch and lengths are not looked at.

    Errors: InfeasibleError where shapes do not divide.
    """
    spread, precision, attention = scenario.parallelism, scenario.precision, scenario.attention
    prefill_form, decode_form = latent_forms(attention, precision, calibration)
    prefill_plan = plan(model, spread, precision, attention, prefill_form)
    decode_plan = plan(model, spread, precision, attention, decode_form)
    return Deployment(
        prefill_plan=prefill_plan,
        decode_plan=decode_plan,
        device=device,
        calibration=with_fits(_needed(prefill_plan) | _needed(decode_plan), calibration),
        working_set=WorkingSet(float(weight_byte(model, precision, spread).max())),
    )


@lru_cache(maxsize=256)
def _needed(of: Plan) -> frozenset[Key]:
    """The calibration entries of all kernels of `of`: in steps of prompts, of decodes, and of both. Remembered."""
    prompt, answer = prefill(1.0, 1.0), decode(1.0, 1.0)
    steps = (of.step(batch) for batch in ((prompt,), (answer,), (prompt, answer)))
    return frozenset(key for groups in steps for group in groups for key in keys_of(group.work))


def latent_forms(
    attention: AttentionKind, precision: Precision, calibration: Calibration
) -> tuple[LatentForm, LatentForm]:
    """How MLA runs in prefill and in decode: product by product unfused; fused, as the one operation that was measured
    where the calibration has it, else expanded in prefill and absorbed in decode.
    """
    match attention:
        case AttentionKind.UNFUSED:
            return LatentForm.EXPANDED, LatentForm.EXPANDED
        case AttentionKind.FUSED:
            measured = all(fit_of(key, calibration) for key in latent_keys(precision.stream, precision.kv))
            return (LatentForm.WHOLE,) * 2 if measured else (LatentForm.EXPANDED, LatentForm.ABSORBED)


def decode_context(scenario: Scenario) -> Number:
    """Cached tokens at mid-generation: the prompt and half of the tokens that decode steps append."""
    return scenario.input_token + np.maximum(scenario.output_token - 2.0, 0.0) / 2.0


def pipeline_s(stage_s: Array, micro_batches: Number) -> tuple[Array, Array]:
    """Latency of a full pass of `micro_batches` through the stages, and the period at which passes can follow.

    The first micro-batch passes every stage, the others follow behind the slowest: sum + (m - 1) · max
    (GPipe, arXiv 1811.06965). A token's next decode step cannot start before it left the last stage, nor before the
    slowest stage served every other micro-batch: max(sum, m · max).
    """
    whole, slowest = stage_s.sum(axis=-1), stage_s.max(axis=-1)
    return whole + (micro_batches - 1.0) * slowest, np.maximum(whole, micro_batches * slowest)


def micro_batches(scenario: Scenario) -> tuple[Number, Number]:
    """Micro-batches in flight in one replica (at most one a stage), and sequences in each."""
    sequences = np.ceil(np.asarray(scenario.batch, dtype=np.float64) / scenario.parallelism.dp)
    count = np.minimum(sequences, float(scenario.parallelism.pp))
    return count, np.ceil(sequences / count)


def decode_times(where: Deployment, scenario: Scenario) -> tuple[StepTime, Array]:
    """The decode step of one micro-batch, and TPOT in seconds; elementwise over the scenario's numbers."""
    count, sequences = micro_batches(scenario)
    step = where.decode_step(sequences, decode_context(scenario))
    return step, pipeline_s(step.stage_s, count)[1]


def prefill_times(where: Deployment, scenario: Scenario) -> tuple[StepTime, Array]:
    """The prefill of one micro-batch, and TTFT in seconds; elementwise over the scenario's numbers."""
    count, sequences = micro_batches(scenario)
    step = where.prefill_step((prefill(sequences, scenario.input_token),))
    return step, pipeline_s(step.stage_s, count)[0]
