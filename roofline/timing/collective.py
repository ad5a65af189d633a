"""Communication between devices: what it takes inside a node (nccl, direct_all_reduce), and across nodes.

Notation as in collective_parts.
"""

import numpy as np

from ..device import Link
from ..errors import InfeasibleError
from ..kernels.collective import CollectiveKind, sent_share, step_count
from ..structs import Array, Number
from .direct_all_reduce import DirectParameters, direct_parts
from .loop import MODEL_STEP, BenchmarkLoop
from .nccl import RingParameters, ring_parts
from .time import Time


def collective_time(
    kind: CollectiveKind,
    payload_byte: Number,
    group_size: Number,
    intra: Link,
    inter: Link | None,
    parameters: RingParameters | DirectParameters,
    *,
    value_byte: Number = 2.0,
    switch_reduces: Number = 1.0,
    loop: BenchmarkLoop = MODEL_STEP,
) -> Time:
    """Seconds of one collective of `payload_byte` (whole buffer) among `group_size` devices; elementwise.

    A group beyond intra.domain_size spans nodes: reduce inside, exchange the shares between nodes, gather inside (see
    `_across_s`). A group of one takes no time. `value_byte`: bytes of one value that is added. `switch_reduces`: 0 for
    formats that the switch cannot add (int8).
    Counts launch, messages, wire bytes, the local copy, additions; ignores other traffic on the same links, and skew
    between ranks.
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
            parts = ring_parts(kind, local_payload, local, intra, parameters, value_byte, switch_reduces)
        case DirectParameters():
            inside = nodes <= 1.0
            parts = direct_parts(kind, local_payload, local, intra, parameters, value_byte, switch_reduces, inside)
    share = sent_share(kind, np.maximum(local, 1.0))
    if kind is CollectiveKind.ALL_REDUCE:
        in_switch = np.where(local >= _switch_group(parameters), switch_reduces, 0.0) > 0.0
        share = np.where(in_switch, np.minimum(share, (local + 1.0) / local), share)
    across_s, across_floor_s = _across_s(kind, payload, local, nodes, inter)
    alone = group > 1.0
    link_s, memory_s = np.where(alone, parts.wire_s + across_s, 0.0), np.where(alone, parts.copy_s, 0.0)
    compute_s, overhead_s = np.where(alone, parts.add_s, 0.0), np.where(alone, parts.fixed_s, 0.0)
    roofline_s = np.where(alone, share * local_payload / intra.bandwidth_byte_per_s + across_floor_s, 0.0)
    model_s = np.maximum(link_s + memory_s + compute_s + overhead_s, np.where(alone, loop.launch_floor_s, 0.0))
    return Time(
        compute_s=compute_s,
        memory_s=memory_s,
        link_s=link_s,
        overhead_s=overhead_s,
        total_s=np.maximum(model_s, roofline_s),
        roofline_s=roofline_s,
    )


def _switch_group(parameters: RingParameters | DirectParameters) -> float:
    """The smallest group for which the switch may reduce."""
    match parameters:
        case RingParameters():
            return parameters.switch_group
        case DirectParameters():
            return min(parameters.beyond.switch_group, parameters.symmetric.value.multicast_group)


def _across_s(
    kind: CollectiveKind, payload: Array, local: Array, nodes: Array, inter: Link | None
) -> tuple[Array, Array]:
    """Time that the exchange between nodes adds, and its floor; zero inside one node.

    After the part inside a node every device holds 1/local of the payload and exchanges it with its peers in the
    other nodes, all devices of a node at once over their own inter-node links: a ring among `nodes`, or for an
    all-reduce NCCL's double binary tree where that is faster: 2 log2(nodes) messages, everything sent up and down.
    All-to-all sends the share of the other nodes, with log2(nodes) latencies: messages to many are in flight together.
    Point-to-point goes over the inter-node link alone.
    Source: Sanders, Speck and Traeff, Parallel Computing 35 (2009); NCCL, src/graph/tuning.cc (steps of both).
    """
    if inter is None:
        return np.zeros(payload.shape), np.zeros(payload.shape)
    bandwidth, latency_s = inter.bandwidth_byte_per_s, inter.latency_s
    depth_s = np.log2(nodes) * latency_s
    match kind:
        case CollectiveKind.ALL_TO_ALL:
            floor_s = payload * (1.0 - 1.0 / nodes) / bandwidth
            return floor_s + depth_s, floor_s
        case CollectiveKind.POINT_TO_POINT:
            floor_s = np.where(nodes > 1.0, payload, 0.0) / bandwidth
            return floor_s + np.where(nodes > 1.0, latency_s, 0.0), floor_s
        case _:
            floor_s = np.asarray(sent_share(kind, nodes) * payload / local / bandwidth)
            ring_s = floor_s + np.asarray(step_count(kind, nodes)) * latency_s
    if kind is not CollectiveKind.ALL_REDUCE:
        return ring_s, floor_s
    return np.where(nodes > 1.0, np.minimum(ring_s, 2.0 * (payload / local / bandwidth + depth_s)), 0.0), floor_s
