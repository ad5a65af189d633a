"""Many scenarios of one deployment at once: what repeats along an axis is computed once."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .capacity import BATCH_LIMIT, integers, largest_true
from .deployment import decode_context, decode_times, deployment, prefill_times
from .device import Device
from .footprint import footprint
from .model import Model
from .outcome import bound_index
from .prediction import Prediction
from .structs import Array
from .timing import BOUNDS, Calibration
from .workload import Scenario

BLOCK = 2**18
"""Scenarios evaluated at a time: bounds memory to some tens of megabytes."""


def decode_grid(
    model: Model, device: Device, calibration: Calibration, scenario: Scenario, batch: Array, context: Array
) -> Array:
    """TPOT in seconds for every pair of `batch` and `context` (cached tokens), shape (batches, contexts).

    `scenario` gives precision, parallelism and attention; its own numbers are not used. Work that does not depend on
    the context is evaluated once per batch. Errors: InfeasibleError where the model cannot be split so.
    """
    where = deployment(model, device, calibration, scenario)
    rows = max(BLOCK // max(context.size, 1), 1)
    tpot_s = np.empty((batch.size, context.size))
    for start in range(0, batch.size, rows):
        block = batch[start : start + rows, None]
        asked = replace(scenario, batch=block, input_token=context[None, :], output_token=1.0)
        tpot_s[start : start + rows] = decode_times(where, asked)[1]
    return tpot_s


MAP_BATCH, MAP_CONTEXT, MAP_OCTAVE = 4096.0, 1024.0, 2.0
"""How far a map reaches: up to MAP_BATCH requests a replica, from the model's longest context down to its
MAP_CONTEXT-th part, with MAP_OCTAVE values to a doubling."""


@dataclass(frozen=True, slots=True, eq=False)
class DecodeMap:
    """Decode steps over `batch` (requests in flight) and `context` (cached tokens of each).

    `tpot_s` in seconds and `bound`, the name of what binds the step, have shape (batches, contexts); `max_batch`: the
    requests that fit at each context, 0 where none does. `scenario_context`: cached tokens for which the prediction's
    own TPOT holds.
    """

    batch: Array
    context: Array
    tpot_s: Array
    bound: NDArray[np.str_]
    max_batch: Array
    scenario_context: float


@dataclass(frozen=True, slots=True, eq=False)
class BatchCurve:
    """What a batch of another size would take, all else as in the scenario. `fits`: whether memory holds it."""

    batch: Array
    ttft_s: Array
    tpot_s: Array
    fits: NDArray[np.bool_]


def _batches(scenario: Scenario) -> Array:
    """Batches of a map: MAP_OCTAVE to a doubling, from one request a replica on."""
    steps = 2.0 ** (np.arange(MAP_OCTAVE * np.log2(MAP_BATCH) + 1.0) / MAP_OCTAVE)
    return scenario.parallelism.dp * integers(steps.round())


def decode_map(prediction: Prediction) -> DecodeMap:
    """The DecodeMap around a prediction of a model that decodes: when its bound changes, and what fits."""
    model, device, scenario = prediction.model, prediction.device, prediction.scenario
    where = deployment(model, device, prediction.calibration, scenario)
    batch = _batches(scenario)
    octaves = np.arange(MAP_OCTAVE * np.log2(MAP_CONTEXT) + 1.0) / MAP_OCTAVE
    context = integers(np.maximum(model.max_context / 2.0**octaves, 1.0).round())
    asked = replace(scenario, batch=batch[:, None], input_token=context[None, :], output_token=1.0)
    step, tpot_s = decode_times(where, asked)
    names = np.array([str(bound) for bound in BOUNDS])

    def most(token: float) -> int:
        held = replace(scenario, input_token=token, output_token=1.0)
        return largest_true(
            lambda b: np.asarray(footprint(model, device, replace(held, batch=b)).free_byte >= 0), BATCH_LIMIT
        )

    return DecodeMap(
        batch=batch,
        context=context,
        tpot_s=np.broadcast_to(tpot_s, (batch.size, context.size)),
        bound=names[np.broadcast_to(bound_index(step), (batch.size, context.size))],
        max_batch=np.array([float(most(token)) for token in context.tolist()]),
        scenario_context=float(decode_context(scenario)),
    )


def batch_curve(prediction: Prediction) -> BatchCurve:
    """TTFT and TPOT of a model that decodes, over the batch: latency against throughput."""
    model, device, scenario = prediction.model, prediction.device, prediction.scenario
    where = deployment(model, device, prediction.calibration, scenario)
    batch = integers(np.append(_batches(scenario), scenario.batch))
    asked = replace(scenario, batch=batch)
    return BatchCurve(
        batch=batch,
        ttft_s=np.broadcast_to(prefill_times(where, asked)[1], batch.shape),
        tpot_s=np.broadcast_to(decode_times(where, asked)[1], batch.shape),
        fits=np.broadcast_to(np.asarray(footprint(model, device, asked).free_byte) >= 0, batch.shape),
    )
