"""Continuous batching in steady state, in closed form on top of the step times; elementwise over configurations.

A closed loop of N clients runs B = min(N·T / (T + F), memory, max_sequence) sequences in the cycle T of cycle.py, F the
front end's time of a request; the others wait for a slot: N/B·T - T - F (Little's law). An open loop of rate r has
t = D / (1 - r·X) with D at r·n·t decoding sequences (a fixed point), and more because the running batch varies
(_varied); prompts queue for the token budget as G/G/1 and for slots as G/G/c; it saturates at the throughput of the
closed loop with every slot taken.

Sources: Little (1961); Allen and Cunneen's approximation for G/G/c in Sakasegawa's form (Annals of the Institute of
Statistical Mathematics 29, 1977).
"""

from dataclasses import dataclass

import numpy as np

from ..structs import Array, Number
from .cycle import NO_SPECULATION, ROUNDS, Cycle, Load, Speculation, costs_of, cycle_of, in_step, load_of
from .lengths import Lengths
from .solve import root_between
from .spread import lognormal_spread, waiting_spread
from .state import Found, SteadyState, finished, front_end_s, slope_s
from .step import ServedModel
from .traffic import ClosedLoop, OpenLoop, Traffic

__all__ = ["SteadyState", "slots_of", "steady_state", "wait_for_servers_s"]

TRUSTED_UTILISATION = 0.7
"""Share of the saturating rate up to which mean TTFT, mean TPOT and throughput of an open loop are within 10 % of the
simulation's, in all deployments that were tried (benchmarks/closed_form.py). Nearer to saturation the queue, and with
it TTFT, is an estimate: 0.6 to 4 times the simulated one. Closed loops of lengths that differ are within about 10 % at
1 to 16 clients, and TPOT and throughput at 64; TTFT at 64 was 34 % low where they filled the cache, 18 % high where
prompts alone nearly fill the steps.
"""


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
    load = load_of(served, lengths, prefix_hit, speculation)
    match traffic:
        case ClosedLoop():
            return finished(_closed(load, traffic), load, served.replicas)
        case OpenLoop():
            return finished(_open(load, traffic), load, served.replicas)


def slots_of(load: Load) -> tuple[Array, Array]:
    """Sequences that may run at once in a replica (0: not even one fits), and how many memory alone allows.

    A sequence holds its prompt and, on average over its life, (1 + r²)/2 of its output: r of it set aside at admission,
    the rest as it comes. One sequence must fit whole.
    """
    served, prompt = load.served, load.prompt + load.cached
    reserved = served.engine.reserved_output
    held = served.memory.sequence(prompt + load.output * (1.0 + reserved**2) / 2.0)
    one_fits = served.memory.sequence(prompt + load.output) >= 1.0
    by_memory = np.floor(held) * one_fits
    return np.minimum(by_memory, np.asarray(served.engine.limits.max_sequence, dtype=np.float64)), by_memory


def wait_for_servers_s(servers: Number, usage: Number, service_s: Number, cv2: Number) -> tuple[Array, Array]:
    """Mean wait in seconds for one of `servers`, busy for `usage` of the time, and the probability of waiting.

    Sakasegawa's form of Allen and Cunneen's approximation of G/G/c: u^(sqrt(2(c+1)) - 1) / (c (1 - u)) · S · cv², with
    `cv2` the mean of the squared variations of arrivals and service.
    """
    busy = np.clip(usage, 0.0, 1.0 - 1e-12)
    waits = busy ** (np.sqrt(2.0 * (servers + 1.0)) - 1.0)
    wait_s: Array = cv2 * waits / (servers * (1.0 - busy)) * service_s
    return wait_s, waits


def _closed(load: Load, traffic: ClosedLoop) -> Found:
    slots, by_memory = slots_of(load)
    clients = np.asarray(traffic.concurrency, dtype=np.float64) / load.served.replicas
    some = slots > 0.0
    front_s = front_end_s(load)
    running = np.maximum(np.minimum(clients, slots), 1e-9)
    for _ in range(ROUNDS):
        slot_s = cycle_of(load, running).slot_s
        running = np.maximum(np.minimum(clients * slot_s / (slot_s + front_s), slots), 1e-9)
    cycle = cycle_of(load, running)
    started = 1.0 / np.maximum(traffic.request_per_slot, 1.0)
    burst_s = started * np.maximum(running - 1.0, 0.0) / 2.0 * cycle.costs.beside_s
    waiting_s = clients / running * cycle.slot_s - cycle.slot_s - front_s
    wait_s = np.where(some & (running >= slots), np.maximum(waiting_s, 0.0), 0.0)
    endless = np.where(some, 0.0, np.inf)
    met_s = np.maximum(cycle.service_s - cycle.costs.alone_s, 0.0) + burst_s * (1.0 - in_step(load, cycle.costs))
    return Found(
        cycle=cycle,
        saturation=cycle_of(load, np.maximum(slots, 1e-9)).request_per_s * some,
        request_per_s=cycle.request_per_s * some,
        queue_s=lognormal_spread(wait_s, load.output_cv2 / running * wait_s**2).plus(endless),
        interference_s=met_s,
        interference_var=met_s**2 / 3.0,
        running=running * some,
        limited=np.where(clients <= slots, 0, 1),
        batch_var=np.zeros(np.shape(running)),
        slots=slots,
        by_memory=by_memory,
    )


def _open(load: Load, traffic: OpenLoop) -> Found:
    slots, by_memory = slots_of(load)
    rate = np.asarray(traffic.request_per_s, dtype=np.float64) / load.served.replicas
    full = cycle_of(load, np.maximum(slots, 1e-9))
    saturation = full.request_per_s * (slots > 0.0)
    usage = rate / np.maximum(saturation, 1e-30)
    served_rate = np.minimum(rate, saturation)

    def tpot_s(decoding: Array) -> Array:
        costs = costs_of(load, decoding)
        at_s: Array = costs.decode_s / np.maximum(1.0 - served_rate * costs.added_s, 1e-9)
        return at_s

    def missing(decoding: Array) -> Array:
        return served_rate * load.steps * tpot_s(decoding) - decoding

    shape = np.broadcast_shapes(np.shape(rate), np.shape(slots), np.shape(full.tpot_s))
    most = np.broadcast_to(np.maximum(full.decoding, 1e-9), shape)
    root = root_between(missing, np.zeros(shape), most)
    arrival_cv2 = np.asarray(traffic.arrival_cv2, dtype=np.float64)
    varied = _varied(load, root, served_rate, arrival_cv2)
    moved = np.minimum(root * (1.0 + varied.more), most)
    gap_s = np.minimum(tpot_s(moved) * (1.0 + varied.slower), np.maximum(full.tpot_s, tpot_s(root)))
    decoding = served_rate * load.steps * gap_s
    costs = costs_of(load, decoding)
    prompt_usage = np.minimum(served_rate * costs.beside_s, 1.0 - 1e-9)
    prompt_wait_s, _ = wait_for_servers_s(1.0, prompt_usage, costs.beside_s, (arrival_cv2 + load.prompt_cv2) / 2.0)
    # steps until a request is seen: the rest of the running one, and the next where engines schedule ahead
    until_seen = 0.5 + load.served.engine.ahead
    service_s = costs.beside_s + prompt_wait_s + until_seen * gap_s
    slot_s = service_s + load.steps * gap_s
    slot_cv2 = load.output_cv2 * (load.steps * full.tpot_s / np.maximum(full.slot_s, 1e-30)) ** 2
    servers = np.maximum(slots, 1.0)
    wait_s, waits = wait_for_servers_s(servers, usage, full.slot_s, (arrival_cv2 + slot_cv2) / 2.0)
    endless = np.where(usage < 1.0, 0.0, np.inf)
    return Found(
        cycle=Cycle(costs, gap_s + endless, service_s + endless, slot_s, decoding, served_rate),
        saturation=saturation,
        request_per_s=served_rate,
        queue_s=waiting_spread(wait_s, waits).plus(endless),
        interference_s=service_s - costs.alone_s,
        interference_var=(2.0 / np.maximum(prompt_usage, 1e-9) - 1.0) * prompt_wait_s**2 + gap_s**2 / 12.0,
        running=np.minimum(served_rate * slot_s, slots),
        limited=np.full(shape, 1),
        batch_var=np.minimum(decoding, np.maximum(slots - decoding, 0.0)),
        slots=slots,
        by_memory=by_memory,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Varied:
    """What a running batch that varies does, as shares: `more` sequences run, and a token of theirs is `slower`."""

    more: Array
    slower: Array


def _varied(load: Load, decoding: Array, rate: Array, arrival_cv2: Array) -> Varied:
    """The Varied of an open loop around `decoding` sequences, to second order in how far they move.

    Sequences end at the rate mu(B) = B (1 - u) / (n D(B)), with D = D0 + d·B the decode step, u = rate·X the share of
    time that prompts take, n decode steps a request. mu bends down (mu'' = -2 (1 - u) D0 d / (n D^3)), so the mean of B
    lies above the root of mu(B) = rate. An arrival moves B by 1 + u/(1 - u): itself, and those that its prompt keeps
    from ending; ends are Poisson. Then B has the variance B (D/D0) I/2 of an Ornstein-Uhlenbeck process, with
    I = (cv² + prompt_cv² u²) / (1 - u)² + 1, and the mean of mu is mu(B) (1 - e), e = (d/D) I/2. Below one sequence on
    average there is less to vary: a request alone meets nobody.
    """
    costs = costs_of(load, decoding)
    slope = slope_s(load, decoding)
    free = np.maximum(1.0 - rate * costs.added_s, 1e-9)
    jumps = (arrival_cv2 + load.prompt_cv2 * (1.0 - free) ** 2) / free**2 + 1.0
    slower = np.minimum(decoding, 1.0) * slope / costs.decode_s * jumps / 2.0
    fixed = np.maximum(1.0 - slope * np.maximum(decoding, 1.0) / costs.decode_s, 1e-3)
    return Varied(slower / fixed, slower)
