"""Communication between devices: NCCL's rings with their protocols, in-switch reduction, and one- and two-shot kernels.

Notation: N devices, payload b bytes (the whole buffer), link bandwidth B per direction, w = sent bytes / B,
S messages that follow one another, b/N bytes each.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..device import Link
from ..errors import InfeasibleError, RooflineError
from ..kernels.collective import CollectiveKind, sent_share, step_count
from ..structs import Array, Number
from .loop import MODEL_STEP, BenchmarkLoop
from .parameter import Scaling, parameter
from .time import Time


@dataclass(frozen=True, slots=True)
class Protocol:
    """How NCCL's own tuner rates a protocol when it picks one: base_s + S * hop_s + w / link_share."""

    base_s: float
    hop_s: float
    link_share: float


NCCL_TUNER = (
    Protocol(base_s=6.6e-6, hop_s=0.6e-6, link_share=0.2923),
    Protocol(base_s=14.0e-6, hop_s=1.9e-6, link_share=0.736),
    Protocol(base_s=8.4e-6, hop_s=3.4e-6, link_share=0.8),
)
"""LL, LL128 and Simple on a ring over NVLink. The estimates choose the protocol, the fitted times say what it takes.
Source: NCCL, src/graph/tuning.cc (baseLat, hwLat, llMaxBws; shares are A100's 87.7, 0.92 * 240 and 240 GB/s of its
300 GB/s link; Hopper's LL is 141 of 450, here within 7 %)."""

_SLOT_BYTE = 4096.0
"""Bytes of one message beyond which LL needs further slots (and costs `slot_s` more)."""

_RAMP_S = 1e-6
"""Scale of the ramp term: `ramp` is dimensionless."""


def _time(prior: float, *, low: float, high: float, meaning: str) -> Any:
    """A parameter in seconds that a faster generation of links shortens."""
    return parameter(prior, low=low, high=high, ideal=0.0, unit="s", meaning=meaning, scaling=Scaling.AGAINST_LINK)


@dataclass(frozen=True, slots=True)
class RingParameters:
    """NCCL for one kind of collective. All-to-all uses neither LL128 nor the switch (they stay at their priors).

    `switch_group`: kernel fact, the group from which the switch reduces (NVLS on NVLink 4: 8; inf without).
    """

    launch_s: float = _time(7e-6, low=1e-6, high=3e-5, meaning="kernel start and end")
    hop_s: float = _time(0.8e-6, low=5e-8, high=4e-6, meaning="one message, LL or Simple")
    slot_s: float = _time(0.4e-6, low=1e-9, high=5e-6, meaning="LL message beyond one slot")
    low_latency_link: float = parameter(
        0.2, low=0.01, high=1.0, ideal=1.0, unit="1", meaning="fraction of the link reached by LL"
    )
    medium_hop_s: float = _time(2.5e-6, low=1e-7, high=1e-5, meaning="one message, LL128")
    medium_link: float = parameter(
        0.5, low=0.1, high=1.0, ideal=1.0, unit="1", meaning="fraction of the link reached by LL128"
    )
    setup_s: float = _time(12e-6, low=1e-7, high=1e-4, meaning="extra start of Simple")
    link: float = parameter(0.8, low=0.4, high=1.0, ideal=1.0, unit="1", meaning="fraction of the link, Simple")
    copy: float = parameter(
        1.8, low=0.3, high=20.0, ideal=20.0, unit="1", meaning="rate of copying the own share locally, over the link's"
    )
    ramp: float = parameter(
        1.0, low=1e-3, high=10.0, ideal=1e-3, unit="1", meaning="pipeline filling of Simple: ramp * sqrt(w * S * 1 us)"
    )
    switch_s: float = _time(60e-6, low=1e-6, high=3e-4, meaning="start of in-switch reduction")
    switch_link: float = parameter(
        0.68, low=0.5, high=1.0, ideal=1.0, unit="1", meaning="fraction of the link reached by in-switch reduction"
    )
    switch_group: float = np.inf


@dataclass(frozen=True, slots=True)
class DirectParameters:
    """A custom all-reduce over peer memory: one-shot (everyone reads everything) or two-shot (scatter, then gather).

    Kernel facts: the payloads from which groups of four and of eight take two shots (a pair never does), and where NCCL
    (`beyond`) takes over: from `limit_byte` on, in groups of more than `largest_group`, and across nodes.
    Source: vLLM, csrc/custom_all_reduce.cuh and distributed/device_communicators/custom_all_reduce.py.
    """

    launch_s: float = _time(4.6e-6, low=1e-6, high=3e-5, meaning="kernel start and barrier")
    peer_s: float = _time(0.1e-6, low=1e-9, high=2e-6, meaning="each peer beyond the first")
    slot_s: float = _time(0.4e-6, low=1e-9, high=5e-6, meaning="payload beyond one slot")
    one_shot_link: float = parameter(
        0.62, low=0.05, high=1.0, ideal=1.0, unit="1", meaning="fraction of the link reached by one shot"
    )
    second_s: float = _time(2.5e-6, low=1e-7, high=2e-5, meaning="second shot, per log2 N")
    two_shot_link: float = parameter(
        0.78, low=0.05, high=1.0, ideal=1.0, unit="1", meaning="fraction of the link reached by two shots"
    )
    two_shot_from_4: float = 512.0 * 1024.0
    two_shot_from_8: float = 256.0 * 1024.0
    limit_byte: float = 8.0 * 2**20
    largest_group: float = 8.0
    beyond: RingParameters = field(default_factory=RingParameters)


def collective_time(
    kind: CollectiveKind,
    payload_byte: Number,
    group_size: Number,
    intra: Link,
    inter: Link | None,
    parameters: RingParameters | DirectParameters,
    *,
    switch_reduces: Number = 1.0,
    loop: BenchmarkLoop = MODEL_STEP,
) -> Time:
    """Seconds of one collective of `payload_byte` (whole buffer) among `group_size` devices; elementwise.

    A group beyond intra.domain_size spans nodes: reduce inside, exchange the shares between nodes, gather inside (see
    `_across_s`). A group of one takes no time. `switch_reduces`: 0 for formats that the switch cannot add (int8).
    Counts launch, messages, wire bytes, the local copy; ignores other traffic on the same links and skew between ranks.
    The total is never below link bytes / link bandwidth.
    Errors: InfeasibleError where the group spans nodes and there is no `inter` link.
    """
    payload, group = np.broadcast_arrays(np.float64(payload_byte), np.float64(group_size))
    local = np.minimum(group, intra.domain_size)
    nodes = np.ceil(group / intra.domain_size)
    if inter is None and np.any(nodes > 1.0):
        raise InfeasibleError(
            f"link.inter_node: a group of {np.max(group):.0f} exceeds the {intra.domain_size:.0f} devices of one node, "
            "and the profile states no inter-node link."
        )
    match kind:
        case CollectiveKind.ALL_TO_ALL:
            local_payload = payload * local / group
        case CollectiveKind.POINT_TO_POINT:
            local_payload, local = np.where(nodes > 1.0, 0.0, payload), np.minimum(local, 2.0)  # a pair of the group
        case _:
            local_payload = payload
    match parameters:
        case RingParameters():
            wire_s, copy_s, fixed_s = _ring(kind, local_payload, local, intra, parameters, switch_reduces)
        case DirectParameters():
            served = (nodes <= 1.0) & (group <= parameters.largest_group) & (payload < parameters.limit_byte)
            wire_s, copy_s, fixed_s = _direct(kind, local_payload, local, intra, parameters, switch_reduces, served)
    share = sent_share(kind, np.maximum(local, 1.0))
    if kind is CollectiveKind.ALL_REDUCE:
        ring = parameters if isinstance(parameters, RingParameters) else parameters.beyond
        in_switch = np.where(local >= ring.switch_group, switch_reduces, 0.0) > 0.0
        share = np.where(in_switch, np.minimum(share, (local + 1.0) / local), share)
    across_s, across_floor_s = _across_s(kind, payload, local, nodes, inter)
    alone = group > 1.0
    link_s, memory_s = np.where(alone, wire_s + across_s, 0.0), np.where(alone, copy_s, 0.0)
    overhead_s = np.where(alone, fixed_s, 0.0)
    roofline_s = np.where(alone, share * local_payload / intra.bandwidth_byte_per_s + across_floor_s, 0.0)
    model_s = np.maximum(link_s + memory_s + overhead_s, np.where(alone, loop.launch_floor_s, 0.0))
    return Time(
        compute_s=np.zeros(payload.shape),
        memory_s=memory_s,
        link_s=link_s,
        overhead_s=overhead_s,
        total_s=np.maximum(model_s, roofline_s),
        roofline_s=roofline_s,
    )


def _ring(
    kind: CollectiveKind, payload: Array, group: Array, intra: Link, given: RingParameters, switch_reduces: Number
) -> tuple[Array, Array, Array]:
    """Wire, copy and fixed time of NCCL inside a node, of the protocol that its tuner picks.

    LL sends data with a flag in every eight bytes: cheap messages, a fraction of the link. LL128 flags 128 bytes.
    Simple synchronises between chunks: dear messages, most of the link, and the own share is copied locally besides.
    """
    bandwidth = intra.bandwidth_byte_per_s
    wire_s = sent_share(kind, np.maximum(group, 1.0)) * payload / bandwidth
    message = payload / group
    slot = 1.0 - np.exp(-((message / _SLOT_BYTE) ** 2))
    ramp_s = given.ramp * np.sqrt(wire_s * _RAMP_S)
    copy_s = message / (given.copy * bandwidth)
    nothing = np.zeros(payload.shape)
    if kind is CollectiveKind.ALL_TO_ALL or kind is CollectiveKind.POINT_TO_POINT:
        return _peer_to_peer(kind, wire_s, message / bandwidth, slot, ramp_s, copy_s, group, given)
    steps = np.asarray(step_count(kind, group))
    low_s, medium_s = steps * (given.hop_s + given.slot_s * slot), steps * given.medium_hop_s
    candidates = (
        (_overlapped(low_s, wire_s / given.low_latency_link) - low_s, nothing, low_s),
        (_overlapped(medium_s, wire_s / given.medium_link) - medium_s, nothing, medium_s),
        (wire_s / given.link + ramp_s * np.sqrt(steps), copy_s, given.setup_s + steps * given.hop_s),
    )
    best = np.full(payload.shape, np.inf)
    wire, copy, fixed = nothing, nothing, nothing
    for rating, candidate in zip(NCCL_TUNER, candidates, strict=True):
        estimate = rating.base_s + steps * rating.hop_s + wire_s / rating.link_share
        picked = estimate < best
        best = np.minimum(best, estimate)
        wire, copy, fixed = (
            np.where(picked, new, old) for new, old in zip(candidate, (wire, copy, fixed), strict=True)
        )
    if kind is CollectiveKind.ALL_REDUCE:
        ring_s = wire + copy + fixed + given.launch_s
        added = payload * (group + 1.0) / group / bandwidth / given.switch_link
        switch_s = given.switch_s + added
        can = (group >= given.switch_group) & (np.asarray(switch_reduces) > 0.0)
        faster = np.where(can, np.minimum(switch_s / ring_s, 1.0), 1.0)
        return wire * faster, copy * faster, (fixed + given.launch_s) * faster
    return wire, copy, fixed + given.launch_s


def _peer_to_peer(
    kind: CollectiveKind,
    wire_s: Array,
    message_s: Array,
    slot: Array,
    ramp_s: Array,
    copy_s: Array,
    group: Array,
    given: RingParameters,
) -> tuple[Array, Array, Array]:
    """Wire, copy and fixed time of sends and receives: LL by message, or Simple by all bytes, whichever is faster."""
    exchange = kind is CollectiveKind.ALL_TO_ALL
    rounds = np.log2(group) if exchange else np.ones(group.shape)
    low_s = rounds * (given.hop_s + given.slot_s * slot)
    low_wire_s = (message_s if exchange else wire_s) / given.low_latency_link
    simple_wire_s, simple_copy_s = wire_s / given.link + ramp_s, copy_s if exchange else np.zeros(group.shape)
    simple_s = given.setup_s + rounds * given.hop_s
    low = low_s + low_wire_s < simple_s + simple_wire_s + simple_copy_s
    return (
        np.where(low, low_wire_s, simple_wire_s),
        np.where(low, 0.0, simple_copy_s),
        given.launch_s + np.where(low, low_s, simple_s),
    )


def _direct(
    kind: CollectiveKind,
    payload: Array,
    group: Array,
    intra: Link,
    given: DirectParameters,
    switch_reduces: Number,
    served: NDArray[np.bool_],
) -> tuple[Array, Array, Array]:
    """Wire, copy and fixed time of a custom all-reduce: one shot reads N-1 payloads, two shots move 2(N-1)/N. Those of
    NCCL where it is not `served`.
    """
    if kind is not CollectiveKind.ALL_REDUCE:
        raise RooflineError(f"collective: the custom kernel only reduces (all_reduce), not {kind.value}; use NCCL's.")
    bandwidth, peers = intra.bandwidth_byte_per_s, group - 1.0
    threshold = np.where(group <= 2.0, np.inf, np.where(group <= 4.0, given.two_shot_from_4, given.two_shot_from_8))
    two = payload >= threshold
    one_shot_s = peers * payload / (given.one_shot_link * bandwidth)
    two_shot_s = 2.0 * peers / group * payload / (given.two_shot_link * bandwidth)
    slot = 1.0 - np.exp(-((payload / _SLOT_BYTE) ** 2))
    start_s = given.launch_s + given.peer_s * (group - 2.0) + given.slot_s * slot
    fixed_s = start_s + np.where(two, given.second_s * np.log2(group), 0.0)
    ring = _ring(kind, payload, group, intra, given.beyond, switch_reduces)
    direct = (np.where(two, two_shot_s, one_shot_s), np.zeros(payload.shape), fixed_s)
    wire, copy, fixed = (np.where(served, near, far) for far, near in zip(ring, direct, strict=True))
    return wire, copy, fixed


def _across_s(
    kind: CollectiveKind, payload: Array, local: Array, nodes: Array, inter: Link | None
) -> tuple[Array, Array]:
    """Time that the exchange between nodes adds, and its floor; zero inside one node.

    After the part inside a node every device holds 1/local of the payload and exchanges it with its peers in the
    other nodes, all devices of a node at once over their own inter-node links: a ring among `nodes`. All-to-all sends
    the share of the other nodes; point-to-point goes over the inter-node link alone.
    """
    if inter is None:
        return np.zeros(payload.shape), np.zeros(payload.shape)
    match kind:
        case CollectiveKind.ALL_TO_ALL:
            sent = payload * (1.0 - 1.0 / nodes)
        case CollectiveKind.POINT_TO_POINT:
            sent = np.where(nodes > 1.0, payload, 0.0)
        case _:
            sent = sent_share(kind, nodes) * payload / local
    floor_s = sent / inter.bandwidth_byte_per_s
    return floor_s + np.where(nodes > 1.0, step_count(kind, nodes) * inter.latency_s, 0.0), floor_s


def _overlapped(first_s: Array, second_s: Array) -> Array:
    """Two parts of a pipeline that hide each other in large part: the 2-norm."""
    return np.hypot(first_s, second_s)
