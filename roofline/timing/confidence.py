"""How sure a time is: the band of the fit that gave it, wider where a kernel's sizes lie outside the measured range."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels import Work
from ..kernels.attention import (
    AttentionShape,
    FusedAttention,
    MixedAttention,
    UnfusedAttention,
    UnfusedStep,
    WholeLatentAttention,
)
from ..kernels.collective import Collective
from ..kernels.gemm import Gemm
from ..kernels.moe import ExpertGemm, ExpertLayer
from ..kernels.pointwise import Pointwise
from ..structs import Number
from .calibration import Band, Calibration, Fitted, family_of, keys_of
from .cpu_step import rows_of
from .formats import fit_of

Sizes = Mapping[str, Number]
"""Sizes of kernels by the names that records and stored ranges have for them."""

Outside = Mapping[str, NDArray[np.bool_]]
"""For each size, whether it lies outside the range that was measured."""

PLAY = 1e-9
"""Relative distance that rounding may put between a size and the end of its range."""


@dataclass(frozen=True, slots=True)
class Confidence:
    """The band of every kernel of a group, and which of their sizes are `outside` the range that was fitted.

    Shapes broadcast against the times of the group: (*scenarios, kernels).
    """

    band: Band
    outside: Outside


def sizes_of(work: Work) -> Sizes:
    """The sizes of the kernels of `work` that a timing model depends on, as records of such kernels state them."""
    match work:
        case Gemm():
            return {"m": work.m, "n": work.n, "k": work.k, "copies": work.copies}
        case ExpertLayer():
            return _expert_sizes(work) | {"hidden": work.hidden, "width": work.width}
        case ExpertGemm():
            return _expert_sizes(work)
        case FusedAttention(shape) | UnfusedAttention(shape, UnfusedStep.SCORES | UnfusedStep.VALUES):
            return _attention_sizes(shape)
        case MixedAttention(prompts, decodes):
            decoding = {"decode_sequences": decodes.sequences, "decode_context": decodes.context}
            return {name: size for name, size in _attention_sizes(prompts).items() if name != "sequences"} | decoding
        case UnfusedAttention():
            row, byte = rows_of(work)
            return {"row": row, "read_byte": byte, "write_byte": byte}
        case WholeLatentAttention():
            names = ("sequences", "new_token", "context", "heads", "kv_rank", "rope_dim", "nope_dim", "value_dim")
            return {name: getattr(work, name) for name in names}
        case Collective():
            return {"payload_byte": work.row * work.row_byte, "group_size": work.group}
        case Pointwise():
            written = work.write_byte + work.kv_write_byte
            return {"row": work.row, "read_byte": work.read_byte, "write_byte": written}


def _expert_sizes(work: ExpertLayer | ExpertGemm) -> dict[str, Number]:
    ranks = work.experts / work.local_experts
    return {"token": work.token, "per_token": work.per_token, "experts": work.experts, "expert_parallel": ranks}


def _attention_sizes(shape: AttentionShape) -> Sizes:
    names = ("sequences", "new_token", "context", "heads", "kv_heads", "head_dim", "window")
    return {name: getattr(shape, name) for name in names}


def confidence(sizes: Sizes, fitted: Fitted, otherwise: Band) -> Confidence:
    """How sure the times of kernels with these `sizes` are by one fit; elementwise.

    A size above or below the fitted range widens the band to what calibrate measured by leaving the largest or the
    smallest values of that size out; a size that the rows did not vary enough to tell, to `otherwise`.
    """
    low, high = fitted.band.low, fitted.band.high
    outside: dict[str, NDArray[np.bool_]] = {}
    for name in sizes.keys() & fitted.evidence.ranges.keys():
        least, most = fitted.evidence.ranges[name]
        for out, ends in (
            (np.asarray(sizes[name] > most * (1.0 + PLAY)), fitted.evidence.beyond),
            (np.asarray(sizes[name] < least * (1.0 - PLAY)), fitted.evidence.below),
        ):
            if not out.any():
                continue
            wide_low, wide_high = ends.get(name, (otherwise.low, otherwise.high))
            low = np.where(out, np.minimum(low, wide_low), low)
            high = np.where(out, np.maximum(high, wide_high), high)
            outside[name] = outside.get(name, False) | out
    return Confidence(Band(low, high, fitted.band.source), outside)


def confidence_of(work: Work, calibration: Calibration) -> Confidence:
    """How sure the times of `work` in a model's step are: by its fits, or by datasheet timing where it has none."""
    otherwise = calibration.bands[family_of(work)]
    fits = [fit_of(key, calibration) for key in keys_of(work)]
    if not any(fits):
        return Confidence(otherwise, {})
    sizes, unknown = sizes_of(work), _either_way(work, calibration)
    if len(fits) == 1 and fits[0]:
        return confidence(sizes, fits[0], unknown)
    return _side_by_side([_of_column(sizes, i, fit, otherwise, unknown) for i, fit in enumerate(fits)])


def _either_way(work: Work, calibration: Calibration) -> Band:
    """The band of a fit at sizes of which its rows tell nothing: as far off as bare datasheet times are, but to both
    sides, since a fit may be as far too slow there as a datasheet is too fast.
    """
    family = family_of(work)
    band = calibration.bands[family]
    off = np.maximum(band.high * calibration.typical.get(family, 1.0), 1.0)
    return Band(np.minimum(band.low, 1.0 / off), off, band.source)


def _of_column(sizes: Sizes, column: int, fitted: Fitted | None, otherwise: Band, unknown: Band) -> Confidence:
    """That of one kernel of a group, of which each has a fit of its own or none; the kernels' axis goes."""
    if fitted is None:
        return Confidence(otherwise, {})
    arrays = {name: np.atleast_1d(size) for name, size in sizes.items()}
    own = {name: array[..., column if array.shape[-1] > 1 else 0] for name, array in arrays.items()}
    return confidence(own, fitted, unknown)


def _side_by_side(parts: Sequence[Confidence]) -> Confidence:
    """Confidences of single kernels as one, with the kernels' axis last."""
    low, high = (_stacked([getattr(part.band, end) for part in parts]) for end in ("low", "high"))
    names = sorted({name for part in parts for name in part.outside})
    never = np.zeros((), dtype=bool)
    outside = {name: _stacked([part.outside.get(name, never) for part in parts]) for name in names}
    return Confidence(Band(low, high, "; ".join(dict.fromkeys(part.band.source for part in parts))), outside)


def _stacked(columns: Sequence[Any]) -> Any:
    return np.stack(np.broadcast_arrays(*columns), axis=-1)
