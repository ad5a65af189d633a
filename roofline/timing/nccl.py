"""NCCL inside a node: rings with three protocols, sends between pairs, and reduction in the switch.

Notation as in collective_parts; S messages that follow one another, b/N bytes each.
"""

from dataclasses import dataclass, replace

import numpy as np

from ..device import Link
from ..kernels.collective import CollectiveKind, sent_share, step_count
from ..structs import Array, Number
from .collective_parts import EXCLUDES, HIDES, Parts, beyond_one_slot, chosen, link_fraction, link_time, norm
from .parameter import parameter


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
"""LL, LL128 and Simple on a ring over NVLink. The estimates choose the protocol, the fitted times say what it takes;
how much dearer a message is in LL128 and Simple than in LL is taken from here too.
Source: NCCL, src/graph/tuning.cc (baseLat, hwLat, llMaxBws; shares are A100's 87.7, 0.92 * 240 and 240 GB/s of its
300 GB/s link; Hopper's LL is 141 of 450, here within 7 %)."""

_ADDED_BYTE = 2.0
"""Bytes of the values that `add` is a rate of: values are added one by one, smaller ones at fewer bytes per second."""

_RAMP_S = 1e-6
"""Scale of the ramp term: `ramp` is dimensionless."""


@dataclass(frozen=True, slots=True)
class RingParameters:
    """NCCL for one kind of collective; what a kind does not use stays at its prior.

    All-reduce, all-gather and reduce-scatter use all but `ramp`, the last two no switch, all-gather no `add`;
    all-to-all and point-to-point `launch_s`, `hop_s`, `low_latency_link`, `setup_s`, `link`, `copy` and `ramp`.
    `switch_group`: kernel fact, the group from which the switch reduces (NVLS on NVLink 4: 8; inf without).
    """

    launch_s: float = link_time(7e-6, low=1e-6, high=3e-5, meaning="kernel start and end")
    hop_s: float = link_time(0.8e-6, low=5e-8, high=4e-6, meaning="one message, LL; other protocols as the tuner rates")
    channels_s: float = link_time(
        2e-6, low=1e-9, high=1e-5, meaning="start of all channels for messages beyond one slot"
    )
    low_latency_link: float = link_fraction(0.25, low=0.003, meaning="by LL")
    medium_link: float = link_fraction(0.5, low=0.1, meaning="by LL128")
    setup_s: float = link_time(12e-6, low=1e-7, high=1e-4, meaning="extra start of Simple")
    link: float = link_fraction(0.8, low=0.4, meaning="by Simple")
    copy: float = parameter(
        1.8, low=0.3, high=20.0, ideal=20.0, unit="1", meaning="rate of copying the own share locally, over the link's"
    )
    add: float = parameter(
        10.0, low=0.5, high=100.0, ideal=100.0, unit="1", meaning="rate of adding two-byte values, over the link's"
    )
    ramp: float = parameter(
        3.0,
        low=1e-3,
        high=30.0,
        ideal=1e-3,
        unit="1",
        meaning="few channels for short messages between pairs: ramp * sqrt(w * 1 us)",
    )
    switch_s: float = link_time(60e-6, low=1e-6, high=3e-4, meaning="start of in-switch reduction")
    switch_link: float = link_fraction(0.68, low=0.5, meaning="by in-switch reduction")
    switch_group: float = np.inf


def ring_parts(
    kind: CollectiveKind,
    payload: Array,
    group: Array,
    intra: Link,
    given: RingParameters,
    value_byte: Number,
    switch_reduces: Number,
) -> Parts:
    """NCCL inside a node, elementwise, with the protocol that its tuner picks.

    LL sends data with a flag in every eight bytes: cheap messages, a fraction of the link. LL128 flags 128 bytes.
    Simple synchronises between chunks: dear messages, most of the link, and the own share is copied locally besides.
    Where the tuner's estimates part from the fitted times, it changes protocol late, and more bytes take less time.
    """
    bandwidth = intra.bandwidth_byte_per_s
    wire_s = sent_share(kind, np.maximum(group, 1.0)) * payload / bandwidth
    message = payload / group
    copy_s = message / (given.copy * bandwidth)
    if kind is CollectiveKind.ALL_TO_ALL or kind is CollectiveKind.POINT_TO_POINT:
        return _peer_to_peer(kind, wire_s, message / bandwidth, copy_s, group, given)
    steps = np.asarray(step_count(kind, group))
    low_s, medium_s, simple_s = (steps * given.hop_s * rating.hop_s / NCCL_TUNER[0].hop_s for rating in NCCL_TUNER)
    channels_s = given.channels_s * (beyond_one_slot(message))
    added = kind is CollectiveKind.ALL_REDUCE or kind is CollectiveKind.REDUCE_SCATTER
    add_s = added * payload * (group - 1.0) / group * _ADDED_BYTE / value_byte / (given.add * bandwidth)
    nothing = np.zeros(payload.shape)
    candidates = (
        Parts(norm(low_s, wire_s / given.low_latency_link, HIDES) - low_s, nothing, add_s, low_s + channels_s),
        Parts(
            norm(medium_s, wire_s / given.medium_link, HIDES) - medium_s, nothing, add_s, medium_s + given.channels_s
        ),
        Parts(wire_s / given.link, copy_s, add_s, simple_s + given.setup_s),
    )
    least, found = np.full(payload.shape, np.inf), candidates[0]
    for rating, candidate in zip(NCCL_TUNER, candidates, strict=True):
        estimate = rating.base_s + steps * rating.hop_s + wire_s / rating.link_share
        found = chosen(estimate < least, candidate, found)
        least = np.minimum(least, estimate)
    found = replace(found, fixed_s=found.fixed_s + given.launch_s)
    if kind is not CollectiveKind.ALL_REDUCE:
        return found
    switch_s = given.switch_s + payload * (group + 1.0) / group / bandwidth / given.switch_link
    can = (group >= given.switch_group) & (np.asarray(switch_reduces) > 0.0)
    return found.scaled(np.where(can, np.minimum(switch_s / found.total_s, 1.0), 1.0))


def _peer_to_peer(
    kind: CollectiveKind, wire_s: Array, message_s: Array, copy_s: Array, group: Array, given: RingParameters
) -> Parts:
    """Sends and receives: LL by message, each on one channel, or Simple by all bytes, whose start the bytes fill.

    Which of both is picked depends on the message's share of a channel, which is not known here: where they meet, the
    messages in flight take less than either.
    """
    exchange = kind is CollectiveKind.ALL_TO_ALL
    rounds_s = given.hop_s * (np.log2(group) if exchange else np.ones(group.shape))
    nothing = np.zeros(group.shape)
    low = Parts((message_s if exchange else wire_s) / given.low_latency_link, nothing, nothing, rounds_s)
    moved_s = wire_s / given.link + given.ramp * np.sqrt(wire_s * _RAMP_S)
    own_s = copy_s if exchange else nothing
    busy_s = moved_s + own_s
    hidden = norm(given.setup_s, busy_s, EXCLUDES) - busy_s  # what of the start is seen
    simple = Parts(moved_s, own_s, nothing, rounds_s + hidden)
    found = chosen(low.total_s < simple.total_s, low, simple)
    shorter = found.total_s / np.maximum(low.total_s, simple.total_s)
    found = found.scaled(np.power(1.0 + np.power(shorter, EXCLUDES), -1.0 / EXCLUDES))
    return replace(found, fixed_s=found.fixed_s + given.launch_s)
