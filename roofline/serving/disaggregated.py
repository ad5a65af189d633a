"""Prefill and decode on replicas of their own, the KV cache handed over between them; elementwise.

Prompts queue for `prefill` replicas as G/G/c with the time of a prompt alone; the cache of a prompt then crosses the
link; it decodes on one of `decode` replicas, whose steps hold no prompts: TPOT is the decode step at the running batch.
The rate at which it saturates is the smaller of both pools'. A closed loop of N clients runs at the rate r at which
r · (time of a request) = N (Little's law).
Ignores: contention of transfers, overlap of a transfer with the prompt's last layers, and prompts batched below
saturation of their pool. Source: Zhong et al., DistServe (arXiv 2401.09670); Patel et al.,
Splitwise (arXiv 2311.18677).
"""

from dataclasses import dataclass

import numpy as np

from ..device import Device, Link
from ..errors import InfeasibleError
from ..footprint import kv_byte_per_sequence
from ..structs import Array, Number
from .cycle import NO_SPECULATION, Costs, Cycle, Load, Speculation, costs_of, load_of
from .lengths import Lengths
from .solve import root_between
from .spread import waiting_spread
from .state import Found, SteadyState, finished
from .steady import slots_of, wait_for_servers_s
from .step import ServedModel
from .traffic import ClosedLoop, OpenLoop, Traffic


@dataclass(frozen=True, slots=True)
class Pools:
    """Replicas that prefill and replicas that decode; numbers may be arrays. `link`: what a cache crosses between them.

    `link_fraction`: share of the link's rate that a transfer reaches.
    """

    prefill: Number
    decode: Number
    link: Link
    link_fraction: float


def pools_of(device: Device, prefill: Number, decode: Number, device_count: float) -> Pools:
    """The Pools of a deployment of `device_count` devices, which hand over inside a node if they fit into one.

    Errors: InfeasibleError where the profile states no such link.
    """
    inside = device.intra_node is not None and device_count <= float(np.max(device.intra_node.domain_size))
    link = device.intra_node if inside else device.inter_node
    if link is None:
        raise InfeasibleError(
            f"disaggregated: {device.name} states no link over which {device_count:.0f} devices hand over a KV cache. "
            "Use an aggregated deployment, or add [link.inter_node] to its profile."
        )
    return Pools(prefill, decode, link, device.efficiency.link)


def transfer_s(served: ServedModel, pools: Pools, token: Number) -> Array:
    """Seconds to hand over the cache of `token` tokens: every device sends its share at once, over its own link."""
    scenario = served.memory.scenario
    byte = kv_byte_per_sequence(served.memory.model, token, scenario.precision, scenario.parallelism).max(axis=-1)
    time_s: Array = byte / (pools.link.bandwidth_byte_per_s * pools.link_fraction) + pools.link.latency_s
    return time_s


def disaggregated_state(
    served: ServedModel,
    pools: Pools,
    traffic: Traffic,
    lengths: Lengths,
    *,
    prefix_hit: Number = 0.0,
    speculation: Speculation = NO_SPECULATION,
) -> SteadyState:
    """The SteadyState of replicas like `served` in two pools. `slots`, `batch` and `running` are the decode pool's.

    `prefix_hit` spares prefill but not transfer. Errors: none beyond those of its parts; see steady_state.
    """
    load = load_of(served, lengths, prefix_hit, speculation)
    slots, by_memory = slots_of(load)
    handed_s = transfer_s(served, pools, load.prompt + load.cached)
    alone = costs_of(load, np.ones(1)[0])
    full = costs_of(load, np.ones(1)[0], np.maximum(slots, 1.0))
    match traffic:
        case OpenLoop():
            arrival_cv2 = np.asarray(traffic.arrival_cv2, dtype=np.float64)
        case ClosedLoop():
            arrival_cv2 = np.ones(())
    prompt_limit = pools.prefill / full.alone_s
    fullest_s = costs_of(load, np.maximum(slots, 1.0)).decode_s
    decode_limit = pools.decode * slots / np.maximum(load.steps * fullest_s, 1e-30)
    saturation = np.minimum(prompt_limit, decode_limit)

    def at(rate: Array) -> _Pooled:
        return _pooled(load, pools, rate, slots, alone, full, arrival_cv2, prompt_limit, decode_limit)

    match traffic:
        case OpenLoop():
            asked = np.asarray(traffic.request_per_s, dtype=np.float64)
            usage = asked / np.maximum(saturation, 1e-30)
            rate = np.minimum(asked, saturation * (1.0 - 1e-9))
            endless = np.where(usage < 1.0, 0.0, np.inf)
        case ClosedLoop():
            clients = np.asarray(traffic.concurrency, dtype=np.float64)
            shape = np.broadcast_shapes(np.shape(clients), np.shape(saturation))
            most = np.broadcast_to(saturation * (1.0 - 1e-6), shape)
            rate = root_between(lambda r: clients / (at(r).request_s + handed_s) - r, 1e-9 * most, most, steps=16)
            endless = np.where(saturation > 0.0, 0.0, np.inf)
    state = at(rate)
    none = 0.0 * state.decode.decode_s
    costs = Costs(
        state.decode.decode_s, state.decode.host_s, none, alone.alone_s, alone.alone_s, alone.chunks, alone.group
    )
    tpot_s = state.decode.decode_s + endless
    found = Found(
        cycle=Cycle(costs, tpot_s, alone.alone_s, state.request_s, state.decoding, rate / pools.decode),
        saturation=saturation / pools.decode,
        request_per_s=rate / pools.decode,
        queue_s=waiting_spread(state.slot_wait_s, state.slot_waits).plus(endless),
        interference_s=state.prompt_wait_s,
        interference_var=(2.0 / np.maximum(state.prompt_waits, 1e-9) - 1.0) * state.prompt_wait_s**2,
        running=np.minimum(state.decoding, slots),
        limited=np.ones(np.shape(rate), dtype=np.intp),
        batch_var=np.minimum(state.decoding, np.maximum(slots - state.decoding, 0.0)),
        slots=slots,
        by_memory=by_memory,
    )
    return finished(found, load, np.asarray(pools.decode, dtype=np.float64), handed_s)


@dataclass(frozen=True, slots=True, eq=False)
class _Pooled:
    """Both pools at a rate: waits, the decode step, and the time of a request without its transfer."""

    prompt_wait_s: Array
    prompt_waits: Array
    slot_wait_s: Array
    slot_waits: Array
    decode: Costs
    decoding: Array
    request_s: Array


def _pooled(
    load: Load,
    pools: Pools,
    rate: Array,
    slots: Array,
    alone: Costs,
    full: Costs,
    arrival_cv2: Array,
    prompt_limit: Array,
    decode_limit: Array,
) -> _Pooled:
    """The _Pooled at `rate` requests per second over all replicas."""
    prompt_cv2 = (arrival_cv2 + load.prompt_cv2) / 2.0
    prompt_wait_s, prompt_waits = wait_for_servers_s(pools.prefill, rate / prompt_limit, full.alone_s, prompt_cv2)
    per_replica = rate / pools.decode
    shape = np.broadcast_shapes(np.shape(rate), np.shape(slots))

    def missing(decoding: Array) -> Array:
        lacking: Array = per_replica * load.steps * costs_of(load, decoding).decode_s - decoding
        return lacking

    decoding = root_between(missing, np.zeros(shape), np.broadcast_to(np.maximum(slots, 1e-9), shape))
    decode = costs_of(load, decoding)
    slot_cv2 = (arrival_cv2 + load.output_cv2) / 2.0
    usage = rate / np.maximum(decode_limit, 1e-30)
    slot_wait_s, slot_waits = wait_for_servers_s(np.maximum(slots, 1.0), usage, load.steps * decode.decode_s, slot_cv2)
    request_s = prompt_wait_s + alone.alone_s + slot_wait_s + load.steps * decode.decode_s
    return _Pooled(prompt_wait_s, prompt_waits, slot_wait_s, slot_waits, decode, decoding, request_s)
