"""Many scenarios of one deployment at once: what repeats along an axis is computed once."""

from dataclasses import replace

import numpy as np

from .deployment import decode_times, deployment
from .device import Device
from .model import Model
from .structs import Array
from .timing import Calibration
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
