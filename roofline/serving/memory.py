"""KV cache of a replica: the bytes that are left for it, and the sequences that it holds."""

from dataclasses import dataclass

import numpy as np

from ..device import Device
from ..footprint import BLOCK_TOKEN, activation_byte, kv_byte_per_sequence, weight_byte
from ..model import Model
from ..structs import Array, Number
from ..workload import Scenario
from .engine import Limits


@dataclass(frozen=True, slots=True, eq=False)
class KvMemory:
    """What is left for the KV cache on each device of a replica.

    `byte`: shape (*configurations, stages); negative where weights, activations and reserve alone do not fit.
    """

    model: Model
    scenario: Scenario
    byte: Array

    def sequence(self, token: Number) -> Array:
        """Sequences of `token` tokens (prompt and output so far) that fit at once, whole blocks each; not rounded.

        Sliding-window layers keep their window only. Elementwise; 0 where nothing fits.
        """
        held = kv_byte_per_sequence(
            self.model, np.asarray(token, dtype=np.float64), self.scenario.precision, self.scenario.parallelism
        )
        fitting: Array = np.maximum((self.byte / held).min(axis=-1), 0.0)
        return fitting

    @property
    def token(self) -> Array:
        """Tokens that fit, in whole blocks, where every layer keeps all of them. Windows keep fewer: see `sequence`."""
        return np.floor(self.sequence(BLOCK_TOKEN)) * BLOCK_TOKEN


def kv_memory(model: Model, device: Device, scenario: Scenario, limits: Limits) -> KvMemory:
    """The KvMemory of a replica under `limits`: memory_fraction · visible memory - weights - activations - reserve.

    Activations are those of a step of max_batch_token tokens and the logits of max_sequence sequences. `scenario` gives
    precision, parallelism and attention. Ignores: draft models, LoRA adapters, encoder caches.
    """
    budget = np.asarray(limits.max_batch_token, dtype=np.float64)
    step = Scenario(1.0, budget, 1.0, scenario.precision, scenario.parallelism, scenario.attention)
    activations = activation_byte(model, step, np.float64(1.0), budget)
    usable = limits.memory_fraction * device.visible_byte - limits.reserve_byte - activations
    weights = weight_byte(model, scenario.precision, scenario.parallelism)
    return KvMemory(model, scenario, np.asarray(usable, dtype=np.float64)[..., None] - weights)
