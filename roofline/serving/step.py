"""The time of an engine's steps: the kernels of the model, as a live step runs them, and the host's share."""

from dataclasses import dataclass, replace

import numpy as np

from ..deployment import deployment
from ..device import Device
from ..model import Model
from ..structs import Array, Number
from ..timing import Calibration
from ..transformer import stage_layers
from ..workload import Scenario
from .engine import Engine
from .memory import KvMemory, kv_memory
from .source import ALL_REDUCE, ATTENTION, GEMM, OTHER, KernelTimes, modelled_times, tabulated_times

ROUNDING = 1e-12
"""Share of a step's rows that is rounding: a chunk and the decodes beside it fill a token budget exactly, and a sum a
bit above it would start another row of tiles (up to a tenth of a step's time).
"""


@dataclass(frozen=True, slots=True, eq=False)
class StepParts:
    """Seconds of a step by what they go to; elementwise over configurations. Parts add to `total_s`."""

    gemm_s: Array
    attention_s: Array
    all_reduce_s: Array
    other_s: Array
    host_s: Array

    @property
    def total_s(self) -> Array:
        """Seconds of the step."""
        return self.gemm_s + self.attention_s + self.all_reduce_s + self.other_s + self.host_s

    @property
    def kernel_s(self) -> Array:
        """Seconds of the step on the device alone."""
        return self.total_s - self.host_s


@dataclass(frozen=True, slots=True, eq=False)
class ServedModel:
    """One replica of a model under an engine: its step times and what its memory holds.

    `layers`: layers of each pipeline stage. `replicas`: data-parallel replicas beside this one, itself included.
    """

    engine: Engine
    times: KernelTimes
    memory: KvMemory
    layers: Array
    replicas: float

    def decode_step_s(self, sequence: Number, context: Number, new_token: Number = 1.0) -> StepParts:
        """A step in which `sequence` sequences generate behind `context` cached tokens each.

        `new_token`: tokens of each that are run (1; more when drafts are verified: keys are then still read once).
        With pipeline stages the sequences split into as many micro-batches, and the step is the time in which all of
        them advance: max(sum over stages, micro-batches · slowest stage).
        """
        micro = np.clip(sequence, 1.0, self.layers.size)
        part = sequence / micro
        return self._step(self._decode_kernels(part, context, new_token), self._host(part, 0.0), micro)

    def mixed_step_s(
        self,
        prefill_token: Number,
        prefill_context: Number,
        prefill_sequence: Number,
        decode_sequence: Number,
        decode_context: Number,
    ) -> StepParts:
        """A step with `prefill_token` prompt tokens of each of `prefill_sequence` sequences behind `prefill_context`
        cached ones, beside `decode_sequence` generating sequences (0: prompts alone).

        Prompts add what their rows cost beyond the rows of the decodes: weights are read once. Each prompt's last token
        is sampled. With pipeline stages, the prompts go with one micro-batch and the others follow.
        """
        micro = np.clip(decode_sequence, 1.0, self.layers.size)
        part = decode_sequence / micro
        rows = prefill_token * prefill_sequence
        has_prompt, has_decode = _stages(np.sign(rows)), _stages(np.sign(part))
        one, scale = np.maximum(part, 1.0), self.engine.scale
        row_scale = np.array([scale.prefill_gemm, scale.prefill_all_reduce, scale.pointwise])

        def scaled_rows(pair: Array) -> Array:
            return _scaled(pair, row_scale)

        together = (rows + part) * (1.0 - ROUNDING)
        body = scaled_rows(self.times.body(together)) - scaled_rows(self.times.body(one)) * has_decode
        head = scaled_rows(self.times.head(prefill_sequence + part)) - scaled_rows(self.times.head(one)) * has_decode
        pair = self.times.prefill_attention(
            np.maximum(prefill_sequence, 1.0), np.maximum(prefill_token, 1.0), prefill_context, part, decode_context
        )
        attention = _scaled(pair, scale.prefill_attention)
        decodes = self._decode_kernels(one, decode_context) * has_decode
        added = (np.maximum(body, 0.0) + np.maximum(head, 0.0)) * has_prompt
        shape = np.broadcast_shapes(added.shape[:-1], attention.shape, decodes.shape[:-1])
        kernels = np.zeros((*shape, ATTENTION + 1))
        kernels += decodes
        kernels[..., :ATTENTION] += added
        kernels[..., ATTENTION] += attention * has_prompt[..., 0]
        return self._step(kernels, self._host(part, has_prompt[..., 0, 0]), micro)

    def prefill_step_s(self, token: Number, context: Number = 0.0, sequence: Number = 1.0) -> StepParts:
        """A step of prompts alone: `sequence` of them with `token` tokens each behind `context` cached ones."""
        return self.mixed_step_s(token, context, sequence, 0.0, 0.0)

    def tabulated(self, max_token: float, max_sequence: float, max_context: float) -> "ServedModel":
        """The same with step times read from tables (see source.tabulated_times): for millions of questions."""
        return replace(self, times=tabulated_times(self.times, max_token, max_sequence, max_context))

    def _decode_kernels(self, sequence: Number, context: Number, new_token: Number = 1.0) -> Array:
        """Seconds of a decode step's kernels, shape (*configurations, stages, parts)."""
        scale = self.engine.scale
        pairs = self.times.body(sequence * new_token) + self.times.head(sequence * new_token)
        rows = _scaled(pairs, np.array([scale.decode_gemm, scale.decode_all_reduce, scale.pointwise]))
        attention = self.times.decode_attention(sequence, context)
        attended = _scaled(attention, scale.decode_attention)
        shape = np.broadcast_shapes(rows.shape[:-1], attended.shape)
        kernels = np.empty((*shape, ATTENTION + 1))
        kernels[..., :ATTENTION], kernels[..., ATTENTION] = rows, attended
        return kernels

    def _host(self, sequence: Number, has_prompt: Number) -> Array:
        """Seconds of the host for one micro-batch, shape (*configurations, stages)."""
        host = self.engine.host
        fixed = host.step_s + host.layer_s * self.layers
        prompt = (host.prefill_step_s + host.prefill_layer_s * self.layers) * np.asarray(has_prompt)[..., None]
        total: Array = fixed + prompt + host.sequence_s * np.asarray(sequence, dtype=np.float64)[..., None]
        return total

    def _step(self, kernels: Array, host: Array, micro: Number) -> StepParts:
        """The step of all micro-batches, from the kernels and host time of one on each stage."""
        stage_s = kernels.sum(axis=-1) + host
        passed_s = stage_s.sum(axis=-1)
        stretch = np.maximum(micro * stage_s.max(axis=-1) / np.maximum(passed_s, 1e-30), 1.0)
        part_s = kernels.sum(axis=-2) * stretch[..., None]
        return StepParts(
            gemm_s=part_s[..., GEMM],
            attention_s=part_s[..., ATTENTION],
            all_reduce_s=part_s[..., ALL_REDUCE],
            other_s=part_s[..., OTHER],
            host_s=np.broadcast_to(host.sum(axis=-1), passed_s.shape) * stretch,
        )


def _scaled(pair: Array, scale: Array | float) -> Array:
    """Times times `scale`, never below the bare roofline beside them."""
    times: Array = np.maximum(pair[..., 0] * scale, pair[..., 1])
    return times


def _stages(value: Number) -> Array:
    """`value` with axes for stages and parts behind it."""
    return np.asarray(value, dtype=np.float64)[..., None, None]


def served_model(
    model: Model, device: Device, calibration: Calibration, scenario: Scenario, engine: Engine
) -> ServedModel:
    """The ServedModel of `scenario` (its precision, parallelism and attention; not its numbers) under `engine`.

    Errors: InfeasibleError where the model cannot be split so.
    """
    spread = scenario.parallelism
    measured = {
        key: fitted
        for key, fitted in calibration.models.items()
        if key[0] not in engine.own_kernels or fitted.evidence.backend == engine.backend
    }
    return ServedModel(
        engine=engine,
        times=modelled_times(deployment(model, device, replace(calibration, models=measured), scenario)),
        memory=kv_memory(model, device, scenario, engine.limits),
        layers=np.array([float(len(stage)) for stage in stage_layers(model, spread.pp)]),
        replicas=float(spread.dp),
    )
