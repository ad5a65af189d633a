"""An engine's own all-reduce over peer memory: one shot, two shots, and symmetric memory, before NCCL takes over."""

from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from ..device import Link
from ..errors import RooflineError
from ..kernels.collective import CollectiveKind
from ..structs import Array, Number
from .collective_parts import HIDES, Parts, beyond_one_slot, chosen, link_fraction, link_time, norm
from .nccl import RingParameters, ring_parts

_KIB, _MIB = 1024.0, 1024.0**2


@dataclass(frozen=True, slots=True)
class ByGroup:
    """Bytes for a pair, for groups of up to four devices, and for larger ones."""

    pair: float
    four: float
    more: float

    def of(self, group: Number) -> Array:
        """The bytes for groups of this size; elementwise."""
        return np.where(group <= 2.0, self.pair, np.where(group <= 4.0, self.four, self.more))


@dataclass(frozen=True, slots=True)
class Takeover:
    """Payloads in bytes below which the custom kernel is taken, and beyond those, below which symmetric memory is;
    `multicast_group`: the group from which the switch reduces what is there (fewer take two shots).
    """

    custom: ByGroup
    symmetric: ByGroup
    multicast_group: float


class SymmetricMemory(Enum):
    """Which payloads vLLM leaves to PyTorch's symmetric memory, by the generation of the device.

    It copies the payload into a buffer that all devices of the group see, reduces it there, and copies it out.
    Source: vLLM, distributed/device_communicators/all_reduce_utils.py and symm_mem.py (compute capabilities 9.0, 10.0);
    NONE where the links have no multicast. Seen in the H100's table: one line through the rows of groups of eight from
    256 KiB to 32 MiB, and of two and four from 8 MiB to the limits here.
    """

    NONE = Takeover(ByGroup(np.inf, np.inf, np.inf), ByGroup(0.0, 0.0, 0.0), np.inf)
    HOPPER = Takeover(
        ByGroup(64.0 * _MIB, 32.0 * _MIB, 256.0 * _KIB), ByGroup(64.0 * _MIB, 32.0 * _MIB, 64.0 * _MIB), 4.0
    )
    BLACKWELL = Takeover(ByGroup(2.0 * _MIB, 2.0 * _MIB, _MIB), ByGroup(8.0 * _MIB, 32.0 * _MIB, 128.0 * _MIB), 6.0)


@dataclass(frozen=True, slots=True)
class DirectParameters:
    """A custom all-reduce over peer memory: one-shot (everyone reads everything) or two-shot (scatter, then gather).

    Kernel facts: the payloads from which groups of four and of eight take two shots (a pair never does); the payload
    from which the custom kernel is not taken (`limit_byte`), and what is left to `symmetric` memory; NCCL (`beyond`)
    takes what neither does, groups of more than `largest_group`, and those across nodes.
    Source: vLLM, csrc/custom_all_reduce.cuh and distributed/device_communicators/custom_all_reduce.py.
    """

    launch_s: float = link_time(4.6e-6, low=1e-6, high=3e-5, meaning="kernel start and barrier")
    peer_s: float = link_time(0.1e-6, low=1e-9, high=2e-6, meaning="each peer beyond the first")
    slot_s: float = link_time(0.4e-6, low=1e-9, high=5e-6, meaning="payload beyond one slot")
    one_shot_link: float = link_fraction(0.62, low=0.05, meaning="by one shot")
    second_s: float = link_time(2.5e-6, low=1e-7, high=2e-5, meaning="second shot, per log2 N")
    two_shot_link: float = link_fraction(0.65, low=0.05, meaning="by two shots")
    symmetric_s: float = link_time(9e-6, low=1e-6, high=5e-5, meaning="starts and barriers with symmetric memory")
    symmetric_link: float = link_fraction(0.5, low=0.1, meaning="through symmetric memory, with both copies")
    two_shot_from_4: float = 512.0 * _KIB
    two_shot_from_8: float = 256.0 * _KIB
    limit_byte: float = 8.0 * _MIB
    largest_group: float = 8.0
    symmetric: SymmetricMemory = SymmetricMemory.NONE
    beyond: RingParameters = field(default_factory=RingParameters)


def custom_limit_byte(given: DirectParameters, group: Number) -> Array:
    """The payload in bytes from which a group inside a node does not take the custom kernel; elementwise."""
    return np.minimum(given.limit_byte, given.symmetric.value.custom.of(group))


def own_limit_byte(given: DirectParameters, group: Number) -> Array:
    """The payload in bytes from which a group inside a node leaves it to NCCL; elementwise."""
    limit = np.maximum(custom_limit_byte(given, group), given.symmetric.value.symmetric.of(group))
    return np.where(np.asarray(group) <= given.largest_group, limit, 0.0)


def direct_parts(
    kind: CollectiveKind,
    payload: Array,
    group: Array,
    intra: Link,
    given: DirectParameters,
    value_byte: Number,
    switch_reduces: Number,
    inside: NDArray[np.bool_],
) -> Parts:
    """A custom all-reduce, elementwise: one shot reads N-1 payloads, two shots move 2(N-1)/N; through symmetric memory
    the switch takes (N+1)/N. NCCL's where none of them serves, and where the group is not `inside` a node.

    Errors: RooflineError for another collective.
    """
    if kind is not CollectiveKind.ALL_REDUCE:
        raise RooflineError(f"collective: the custom kernel only reduces (all_reduce), not {kind.value}; use NCCL's.")
    bandwidth, peers = intra.bandwidth_byte_per_s, group - 1.0
    threshold = np.where(group <= 2.0, np.inf, np.where(group <= 4.0, given.two_shot_from_4, given.two_shot_from_8))
    two = payload >= threshold
    exchanged_s = 2.0 * peers / group * payload / bandwidth
    one_shot_s = peers * payload / (given.one_shot_link * bandwidth)
    start_s = given.launch_s + given.peer_s * (group - 2.0) + given.slot_s * beyond_one_slot(payload)
    second_s = np.where(two, given.second_s * np.log2(group), 0.0)
    moved_s = np.where(two, norm(second_s, exchanged_s / given.two_shot_link, HIDES) - second_s, one_shot_s)
    nothing = np.zeros(payload.shape)
    custom = Parts(moved_s, nothing, nothing, start_s + second_s)
    multicast = group >= given.symmetric.value.multicast_group
    shared_s = np.where(multicast, (group + 1.0) / group * payload / bandwidth, exchanged_s) / given.symmetric_link
    symmetric = Parts(shared_s, nothing, nothing, nothing + given.symmetric_s)
    own = chosen(payload < custom_limit_byte(given, group), custom, symmetric)
    served = inside & (payload < own_limit_byte(given, group))
    return chosen(served, own, ring_parts(kind, payload, group, intra, given.beyond, value_byte, switch_reduces))
