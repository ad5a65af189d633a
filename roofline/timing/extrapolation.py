"""Where a kernel's shape lies outside what its fit has seen: predictions there are extrapolations."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..kernels import Work
from ..kernels.attention import FusedAttention
from ..kernels.collective import Collective
from ..kernels.gemm import Gemm
from ..kernels.moe import ExpertLayer
from ..structs import Number

MARGIN = 1.25
"""How far beyond a measured range still counts as inside: closed forms do not fail at the edge of a grid."""


def _dimensions(work: Work) -> Mapping[str, Number]:
    """The dimensions of a kernel by the names that measured records give them."""
    match work:
        case Gemm():
            return {"m": work.m, "n": work.n, "k": work.k}
        case ExpertLayer():
            return {"token": work.token, "hidden": work.hidden, "experts": work.experts}
        case FusedAttention():
            shape = work.shape
            return {
                "sequences": shape.sequences,
                "new_token": shape.new_token,
                "context": shape.context + shape.new_token,
                "heads": shape.heads,
                "kv_heads": shape.kv_heads,
                "head_dim": shape.head_dim,
            }
        case Collective():
            return {"group_size": work.group}  # beyond the largest payload only bandwidth counts
        case _:
            return {}


def outside(work: Work, ranges: Mapping[str, tuple[float, float]]) -> dict[str, NDArray[np.bool_]]:
    """For every dimension of `work` that `ranges` knows: where it is beyond the measured range by more than MARGIN.

    Shapes broadcast to (*scenarios, kernels). Small sizes are no extrapolation upwards: only a value below the smallest
    measured one counts, as one above the largest does.
    """
    return {
        name: (np.asarray(value) > ranges[name][1] * MARGIN) | (np.asarray(value) < ranges[name][0] / MARGIN)
        for name, value in _dimensions(work).items()
        if name in ranges
    }
