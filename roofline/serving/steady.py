"""Continuous batching in steady state, in closed form on top of the step times; elementwise over configurations.

A closed loop of N clients runs B = min(N, memory, max_sequence) sequences in the cycle of cycle.py; the others wait for
a slot: (N/B - 1)·T (Little's law). An open loop of rate r has t = D / (1 - r·X) with D at r·n·t decoding sequences (a
fixed point); prompts queue for the token budget as G/G/1 and for slots as G/G/c; it saturates at the throughput of the
closed loop with every slot taken.

Sources: Little (1961); Allen and Cunneen's approximation for G/G/c in Sakasegawa's form (Annals of the Institute of
Statistical Mathematics 29, 1977).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..structs import Array, Number
from .cycle import NO_SPECULATION, Cycle, Load, Speculation, costs_of, cycle_of, in_step
from .lengths import Lengths, normal_quantile
from .spread import Spread, lognormal_spread, sum_of, waiting_spread
from .step import ServedModel
from .traffic import ClosedLoop, OpenLoop, Traffic

HALVINGS = 30
"""Halvings of the interval of decoding sequences in an open loop."""

SLOT_LIMITS = ("concurrency", "max_sequence", "kv_memory")
"""What can limit the sequences that run at once, in the order of SteadyState.slot_limit."""


@dataclass(frozen=True, slots=True, eq=False)
class SteadyState:
    """What a deployment does in steady state, over all its replicas; elementwise over configurations.

    `ttft_s` = `queue_s` (waiting for a slot) + front end + `prefill_s` (the prompt's own steps) + `interference_s`
    (waiting for other prompts, and decodes in the same steps), the last two as means. `batch`: sequences that generate
    at once. `utilisation`: of the rate at which it saturates. `slot_limit`: index into SLOT_LIMITS. An open loop at or
    above saturation has infinite times and its throughput is that of saturation.
    """

    ttft_s: Spread
    tpot_s: Spread
    itl_s: Spread
    queue_s: Spread
    prefill_s: Array
    interference_s: Array
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


def steady_state(
    served: ServedModel,
    traffic: Traffic,
    lengths: Lengths,
    *,
    prefix_hit: Number = 0.0,
    speculation: Speculation = NO_SPECULATION,
) -> SteadyState:
    """The SteadyState of `served` and its replicas under `traffic`, each replica taking an equal share.

    `prefix_hit`: share of prompt tokens found in the prefix cache (not computed again, but attended to). All numbers of
    traffic, lengths, limits, prefix_hit and speculation broadcast against each other. A replica whose memory holds less
    than one request gives slots 0, no throughput and infinite times.
    """
    prompt, output = np.float64(1.0) * lengths.prompt.mean, np.maximum(lengths.output.mean, 1.0)
    emitted = speculation.token_per_step
    load = Load(
        served=served,
        prompt=np.maximum(np.asarray(prompt * (1.0 - prefix_hit)), 1.0),
        cached=np.asarray(prompt * prefix_hit),
        steps=np.asarray((output - 1.0) / emitted),
        context=np.asarray(prompt + output / 2.0),
        budget=np.asarray(served.engine.limits.max_batch_token, dtype=np.float64),
        prompt_cv2=np.asarray(lengths.prompt.cv2),
        output_cv2=np.asarray(lengths.output.cv2),
        speculation=speculation,
    )
    slots, by_memory = _slots(load, prompt, output)
    match traffic:
        case ClosedLoop():
            found = _closed(load, traffic, slots)
        case OpenLoop():
            found = _open(load, traffic, slots)
    return _finished(found, load, prompt, output, slots, by_memory)


def _slots(load: Load, prompt: Number, output: Number) -> tuple[Array, Array]:
    """Sequences that may run at once in a replica (0: not even one fits), and how many memory alone allows.

    A sequence holds its prompt and, on average over its life, (1 + r²)/2 of its output: r of it set aside at admission,
    the rest as it comes. One sequence must fit whole.
    """
    served = load.served
    reserved = served.engine.reserved_output
    by_memory = np.floor(served.memory.sequence(prompt + output * (1.0 + reserved**2) / 2.0))
    one_fits = served.memory.sequence(prompt + output) >= 1.0
    by_memory = by_memory * one_fits
    return np.minimum(by_memory, np.asarray(served.engine.limits.max_sequence, dtype=np.float64)), by_memory


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
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


def _closed(load: Load, traffic: ClosedLoop, slots: Array) -> _Found:
    clients = np.asarray(traffic.concurrency, dtype=np.float64) / load.served.replicas
    running = np.maximum(np.minimum(clients, slots), 1e-9)
    cycle = cycle_of(load, running)
    rounds = 1.0 - 1.0 / np.maximum(traffic.request_per_slot, 1.0)
    burst_s = (1.0 - rounds) * np.maximum(running - 1.0, 0.0) / 2.0 * cycle.costs.beside_s
    wait_s = np.maximum(clients / running - 1.0, 0.0) * cycle.slot_s * np.where(slots > 0.0, 1.0, np.inf)
    wait_cv2 = load.output_cv2 / running
    together = in_step(load, cycle.costs)
    meeting_s = np.maximum(cycle.service_s - cycle.costs.alone_s, 0.0) + burst_s * (1.0 - together)
    limited = np.where(clients <= slots, 0, 1)
    return _Found(
        cycle=cycle,
        saturation=cycle_of(load, np.maximum(slots, 1e-9)).request_per_s * (slots > 0.0),
        request_per_s=cycle.request_per_s * (slots > 0.0),
        queue_s=lognormal_spread(wait_s, wait_cv2 * wait_s**2),
        interference_s=meeting_s,
        interference_var=meeting_s**2 / 3.0,
        running=running * (slots > 0.0),
        limited=limited,
        batch_var=np.zeros(np.shape(running)),
    )


def _open(load: Load, traffic: OpenLoop, slots: Array) -> _Found:
    rate = np.asarray(traffic.request_per_s, dtype=np.float64) / load.served.replicas
    full = cycle_of(load, np.maximum(slots, 1e-9))
    saturation = full.request_per_s * (slots > 0.0)
    usage = rate / np.maximum(saturation, 1e-30)
    stable = usage < 1.0
    served_rate = np.minimum(rate, saturation)
    shape = np.broadcast_shapes(np.shape(rate), np.shape(slots), np.shape(full.tpot_s))
    low, high = np.zeros(shape), np.broadcast_to(np.maximum(full.decoding, 1e-9), shape)
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        costs = costs_of(load, middle)
        busy = served_rate * costs.added_s
        needed = served_rate * load.steps * costs.decode_s / np.maximum(1.0 - busy, 1e-9)
        low, high = np.where(needed > middle, middle, low), np.where(needed > middle, high, middle)
    decoding = 0.5 * (low + high)
    costs = costs_of(load, decoding)
    tpot_s = costs.decode_s / np.maximum(1.0 - served_rate * costs.added_s, 1e-9)
    held_s = costs.beside_s
    prefill_usage = np.minimum(served_rate * held_s, 1.0 - 1e-9)
    variability = (traffic.arrival_cv2 + load.prompt_cv2) / 2.0
    prefill_wait_s = prefill_usage / (1.0 - prefill_usage) * variability * held_s
    service_s = held_s + prefill_wait_s + 0.5 * tpot_s
    slot_s = service_s + load.steps * tpot_s
    # G/G/c for slots: Sakasegawa's form of Allen and Cunneen's approximation
    power = np.sqrt(2.0 * (np.maximum(slots, 1.0) + 1.0)) - 1.0
    busy_slots = np.clip(usage, 0.0, 1.0 - 1e-12)
    slot_cv2 = load.output_cv2 * (load.steps * full.tpot_s / np.maximum(full.slot_s, 1e-30)) ** 2
    wait_s = (
        (traffic.arrival_cv2 + slot_cv2)
        / 2.0
        * busy_slots**power
        / (np.maximum(slots, 1.0) * (1.0 - busy_slots))
        * full.slot_s
    )
    endless = np.where(stable, 0.0, np.inf)
    queue = waiting_spread(wait_s, busy_slots**power)
    meeting_s = np.maximum(held_s - costs.alone_s, 0.0) + prefill_wait_s + 0.5 * tpot_s
    cycle = Cycle(costs, tpot_s + endless, service_s + endless, slot_s, decoding, served_rate)
    return _Found(
        cycle=cycle,
        saturation=saturation,
        request_per_s=served_rate,
        queue_s=queue.plus(endless),
        interference_s=meeting_s,
        interference_var=(2.0 / np.maximum(prefill_usage, 1e-9) - 1.0) * prefill_wait_s**2 + tpot_s**2 / 12.0,
        running=np.minimum(served_rate * slot_s, np.maximum(slots, 0.0)),
        limited=np.full(shape, 1),
        batch_var=np.minimum(decoding, np.maximum(slots - decoding, 0.0)),
    )


def _finished(found: _Found, load: Load, prompt: Number, output: Number, slots: Array, by_memory: Array) -> SteadyState:
    """The SteadyState of all replicas, with percentiles."""
    served, cycle, costs = load.served, found.cycle, found.cycle.costs
    host, replicas = served.engine.host, served.replicas
    emitted = load.speculation.token_per_step
    front_s = host.request_s + host.prompt_token_s * prompt
    prefill_s = front_s + costs.alone_s
    own_var = load.prompt_cv2 * costs.alone_s**2
    inner = lognormal_spread(prefill_s + found.interference_s, own_var + found.interference_var)
    ttft = sum_of(found.queue_s, inner)
    # prompts of others met while one request generates are Poisson: the variance of their number is its mean
    met = found.request_per_s * load.steps * np.where(np.isfinite(cycle.tpot_s), cycle.tpot_s, 0.0)
    slope_s = _slope_s(load, cycle.decoding)
    steps = np.maximum(load.steps, 1.0)
    drift_s = slope_s * np.sqrt(found.batch_var)
    tpot_var = met * (1.0 + load.prompt_cv2) * costs.added_s**2 / steps**2 + 0.5 * drift_s**2
    tpot = lognormal_spread(cycle.tpot_s / emitted, tpot_var / emitted**2)
    itl = _gaps(cycle, found.request_per_s, drift_s, emitted)
    limit = np.where(slots < by_memory, 1, 2)
    return SteadyState(
        ttft_s=ttft,
        tpot_s=tpot,
        itl_s=itl,
        queue_s=found.queue_s,
        prefill_s=prefill_s,
        interference_s=found.interference_s,
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


def _slope_s(load: Load, decoding: Array) -> Array:
    """Seconds that one more generating sequence adds to a decode step."""
    near = np.maximum(decoding, 1.0)
    apart = np.maximum(0.2 * near, 1.0)
    later = load.served.decode_step_s(near + apart, load.context).total_s
    return np.maximum(later - load.served.decode_step_s(near, load.context).total_s, 0.0) / apart


def _gaps(cycle: Cycle, request_per_s: Array, drift_s: Array, emitted: Number) -> Spread:
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
