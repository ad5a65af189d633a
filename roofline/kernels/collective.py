"""Communication between devices: bytes that one device sends."""

from dataclasses import dataclass
from enum import StrEnum

from ..cost import Cost
from ..structs import Array, Number


class CollectiveKind(StrEnum):
    """What the group of devices does with its payload."""

    ALL_REDUCE = "all_reduce"
    ALL_GATHER = "all_gather"
    REDUCE_SCATTER = "reduce_scatter"
    ALL_TO_ALL = "all_to_all"
    POINT_TO_POINT = "point_to_point"


@dataclass(frozen=True, slots=True)
class Collective:
    """`row` rows of `row_byte` bytes among `group` devices; the last axis runs over kernels.

    The payload row·row_byte is the whole buffer: what every rank ends with (all-reduce, all-gather), starts with
    (reduce-scatter, all-to-all) or passes on (point-to-point).
    """

    kind: CollectiveKind
    row: Number
    row_byte: Array
    group: Array


def sent_share(kind: CollectiveKind, group: Number) -> Number:
    """Bytes that each device must send, as a share of the payload, with bandwidth-optimal algorithms.

    All-reduce 2(N-1)/N; all-gather, reduce-scatter, all-to-all (N-1)/N; point-to-point 1.
    Source: Patarasuk and Yuan, J. Parallel Distrib. Comput. 69 (2009), theorem 1. Ignores: reduction inside a switch.
    """
    match kind:
        case CollectiveKind.ALL_REDUCE:
            return 2.0 * (group - 1.0) / group
        case CollectiveKind.POINT_TO_POINT:
            return 1.0
        case CollectiveKind.ALL_GATHER | CollectiveKind.REDUCE_SCATTER | CollectiveKind.ALL_TO_ALL:
            return (group - 1.0) / group


def step_count(kind: CollectiveKind, group: Number) -> Number:
    """Messages that follow one another on a ring: 2(N-1) for all-reduce, N-1 otherwise, 1 for point-to-point."""
    match kind:
        case CollectiveKind.ALL_REDUCE:
            return 2.0 * (group - 1.0)
        case CollectiveKind.POINT_TO_POINT:
            return 1.0
        case CollectiveKind.ALL_GATHER | CollectiveKind.REDUCE_SCATTER | CollectiveKind.ALL_TO_ALL:
            return group - 1.0


def collective_cost(work: Collective) -> Cost:
    """Cost of one execution: link bytes only; the local reads, writes and additions are ignored."""
    return Cost(link_byte=work.row * work.row_byte * sent_share(work.kind, work.group))
