"""Where fits of collectives start: kernels and free parameters, by kind. What a kind does not use is not fitted."""

from ..kernels.collective import CollectiveKind
from ..timing.direct_all_reduce import DirectParameters, SymmetricMemory
from ..timing.nccl import RingParameters
from ..timing.parameter import all_but

_ONE_CHANNEL = RingParameters().low_latency_link / 24.0
"""Fraction of the link that LL reaches between a pair: on one of NCCL's two dozen channels, not on all."""

Prior = tuple[RingParameters | DirectParameters, tuple[str, ...]]


def collective_priors(kind: CollectiveKind) -> tuple[Prior, ...]:
    """For each kernel known, the parameters that a fit starts with and the names of those that it may change."""
    switched = ("switch_s", "switch_link")
    ring = all_but(RingParameters, *switched, "ramp")
    match kind:
        case CollectiveKind.ALL_REDUCE:
            own = all_but(DirectParameters)
            custom = all_but(DirectParameters, "symmetric_s", "symmetric_link")
            return (
                (RingParameters(), ring),
                (RingParameters(switch_group=8.0), (*ring, *switched)),
                *(
                    (DirectParameters(symmetric=memory), custom if memory is SymmetricMemory.NONE else own)
                    for memory in SymmetricMemory
                ),
            )
        case CollectiveKind.REDUCE_SCATTER:
            return ((RingParameters(), ring),)
        case CollectiveKind.ALL_GATHER:
            return ((RingParameters(), all_but(RingParameters, *switched, "ramp", "add")),)
        case CollectiveKind.ALL_TO_ALL:
            exchanged = all_but(RingParameters, *switched, "channels_s", "medium_link", "add")
            return ((RingParameters(low_latency_link=_ONE_CHANNEL), exchanged),)
        case CollectiveKind.POINT_TO_POINT:
            sent = all_but(RingParameters, *switched, "channels_s", "medium_link", "add", "copy")
            return ((RingParameters(low_latency_link=_ONE_CHANNEL), sent),)
