"""What a deployment does in steady state, and how it follows from the means of one replica."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..structs import Array, Number
from .cycle import Cycle, Load
from .lengths import normal_quantile
from .spread import Spread, lognormal_spread, sum_of

SLOT_LIMITS = ("concurrency", "max_sequence", "kv_memory")
"""What can limit the sequences that run at once, in the order of SteadyState.slot_limit."""


@dataclass(frozen=True, slots=True, eq=False)
class SteadyState:
    """What a deployment does in steady state, over all its replicas; elementwise over configurations.

    `ttft_s` = `queue_s` (waiting for a slot) + front end + `prefill_s` (the prompt's own steps) + `interference_s`
    (waiting for other prompts, and decodes in the same steps) + `transfer_s` (of the KV cache between pools), the last
    three as means. `batch`: sequences that generate
    at once. `utilisation`: of the rate at which it saturates. `slot_limit`: index into SLOT_LIMITS. An open loop at or
    above saturation has infinite times and its throughput is that of saturation.
    """

    ttft_s: Spread
    tpot_s: Spread
    itl_s: Spread
    queue_s: Spread
    prefill_s: Array
    interference_s: Array
    transfer_s: Array
    request_per_s: Array
    output_token_per_s: Array
    input_token_per_s: Array
    batch: Array
    running: Array
    utilisation: Array
    saturation_request_per_s: Array
    slots: Array
    slot_limit: NDArray[np.intp]
    step_s: Array
    host_share: Array


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """One replica under its traffic, before percentiles: means, and variances of what varies between requests."""

    cycle: Cycle
    saturation: Array
    request_per_s: Array
    queue_s: Spread
    interference_s: Array
    interference_var: Array
    running: Array
    limited: NDArray[np.intp]
    batch_var: Array
    slots: Array
    by_memory: Array


def finished(found: Found, load: Load, replicas: Number, transfer_s: Number = 0.0) -> SteadyState:
    """The SteadyState of `replicas` that each do as `found`, with percentiles."""
    cycle, costs = found.cycle, found.cycle.costs
    prompt, output, slots = load.prompt + load.cached, load.output, found.slots
    emitted = load.speculation.token_per_step
    prefill_s = front_end_s(load) + costs.alone_s
    own_var = load.prompt_cv2 * costs.alone_s**2
    inner = lognormal_spread(prefill_s + found.interference_s + transfer_s, own_var + found.interference_var)
    ttft = sum_of(found.queue_s, inner)
    # prompts of others met while one request generates are Poisson: the variance of their number is its mean
    met = found.request_per_s * load.steps * np.where(np.isfinite(cycle.tpot_s), cycle.tpot_s, 0.0)
    steps = np.maximum(load.steps, 1.0)
    drift_s = slope_s(load, cycle.decoding) * np.sqrt(found.batch_var)
    tpot_var = met * (1.0 + load.prompt_cv2) * costs.added_s**2 / steps**2 + 0.5 * drift_s**2
    tpot = lognormal_spread(cycle.tpot_s / emitted, tpot_var / emitted**2)
    itl = _gaps(cycle, drift_s, emitted)
    limit = np.where(slots < found.by_memory, 1, 2)
    return SteadyState(
        ttft_s=ttft,
        tpot_s=tpot,
        itl_s=itl,
        queue_s=found.queue_s,
        prefill_s=prefill_s,
        interference_s=found.interference_s,
        transfer_s=np.asarray(transfer_s, dtype=np.float64),
        request_per_s=found.request_per_s * replicas,
        output_token_per_s=found.request_per_s * replicas * output,
        input_token_per_s=found.request_per_s * replicas * prompt,
        batch=cycle.decoding * replicas,
        running=found.running * replicas,
        utilisation=found.request_per_s / np.maximum(found.saturation, 1e-30),
        saturation_request_per_s=found.saturation * replicas,
        slots=slots * replicas,
        slot_limit=np.where(found.limited == 0, 0, limit),
        step_s=costs.decode_s,
        host_share=costs.host_s / costs.decode_s,
    )


def front_end_s(load: Load) -> Array:
    """Seconds that a request spends in the engine's front end, where it holds no slot."""
    host = load.served.engine.host
    return np.asarray(host.request_s + host.prompt_token_s * (load.prompt + load.cached))


def slope_s(load: Load, decoding: Array) -> Array:
    """Seconds that one more generating sequence adds to a decode step."""
    near = np.maximum(decoding, 1.0)
    apart = np.maximum(0.2 * near, 1.0)
    later = load.served.decode_step_s(near + apart, load.context).total_s
    return np.maximum(later - load.served.decode_step_s(near, load.context).total_s, 0.0) / apart


def _gaps(cycle: Cycle, drift_s: Array, emitted: Number) -> Spread:
    """The Spread of times between tokens: decode steps, and steps with a chunk of some prompt in them.

    The share of steps with a chunk is what makes their mean TPOT; the running batch moves both by `drift_s`.
    """
    costs = cycle.costs
    chunk_s = costs.added_s / costs.chunks
    share = np.clip((cycle.tpot_s - costs.decode_s) / np.maximum(chunk_s, 1e-30), 0.0, 1.0)
    plain, mixed = costs.decode_s, costs.decode_s + chunk_s
    endless = np.where(np.isfinite(cycle.tpot_s), 0.0, np.inf)

    def at(level: float) -> Array:
        within = np.where(
            share > 1.0 - level,
            np.clip((level - (1.0 - share)) / np.maximum(share, 1e-12), 0.01, 0.99),
            np.clip(level / np.maximum(1.0 - share, 1e-12), 0.01, 0.99),
        )
        centre = np.where(share > 1.0 - level, mixed, plain)
        return centre + drift_s * normal_quantile(within) + endless

    return Spread(cycle.tpot_s / emitted, at(0.50), at(0.95), at(0.99))
