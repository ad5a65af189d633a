"""Where the times of a step's kernels come from: the timing models themselves, or a table made of them for speed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..deployment import Deployment
from ..kernels import KernelGroup, Work
from ..kernels.attention import FusedAttention, MixedAttention, UnfusedAttention, WholeLatentAttention
from ..kernels.collective import Collective
from ..kernels.gemm import Gemm
from ..kernels.moe import ExpertGemm, ExpertLayer
from ..kernels.pointwise import Pointwise
from ..structs import Array, Number
from ..timing import StepTime, runs_as_one, sum_over_kernels, time_step
from ..transformer import Plan
from ..workload import Batch, decode, prefill

GEMM, ALL_REDUCE, OTHER, ATTENTION = range(4)
"""The parts of a step, in the order of their axis; rows know the first three."""


class KernelTimes(Protocol):
    """Seconds of a replica's kernels and their bare roofline, elementwise over arrays.

    Last axis: time, bare roofline. Before it the parts (GEMM, ALL_REDUCE, OTHER) where there are any, and before those
    the pipeline stages.
    """

    @property
    def one_launch(self) -> bool:
        """Whether attention over prompts and decodes is one launch."""
        ...

    def body(self, token: Number) -> Array:
        """Kernels that run over `token` new tokens; shape (*scenarios, stages, parts, 2)."""
        ...

    def head(self, sampled: Number) -> Array:
        """Kernels that run over `sampled` sequences whose logits are needed; shape (*scenarios, stages, parts, 2)."""
        ...

    def prefill_attention(
        self,
        sequence: Number,
        new_token: Number,
        context: Number,
        decode_sequence: Number = 0.0,
        decode_context: Number = 0.0,
    ) -> Array:
        """What `sequence` prompts with `new_token` tokens behind `context` add to the attention of a step.

        It matters beside how many decodes only where both run in one launch. Shape (*scenarios, stages, 2).
        """
        ...

    def decode_attention(self, sequence: Number, context: Number) -> Array:
        """Attention of `sequence` generating sequences behind `context` tokens; shape (*scenarios, stages, 2)."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class ModelledTimes:
    """KernelTimes straight from the timing models of a deployment.

    `one_launch`: attention over prompts and decodes of one step is timed as one launch.
    """

    deployment: Deployment
    body_plan: Plan
    head_plan: Plan
    one_launch: bool

    def body(self, token: Number) -> Array:
        """Kernels that run over `token` new tokens; shape (*scenarios, stages, parts, 2)."""
        return self._rows(self.body_plan, token)

    def head(self, sampled: Number) -> Array:
        """Kernels that run over `sampled` sequences whose logits are needed; shape (*scenarios, stages, parts, 2)."""
        return self._rows(self.head_plan, sampled)

    def prefill_attention(
        self,
        sequence: Number,
        new_token: Number,
        context: Number,
        decode_sequence: Number = 0.0,
        decode_context: Number = 0.0,
    ) -> Array:
        """What prompts add to the attention of a step; shape (*scenarios, stages, 2)."""
        prompts = prefill(sequence, new_token, context)
        alone = self._attention(self.deployment.prefill_plan, (prompts,))
        if not self.one_launch:
            return alone
        generating = decode(np.maximum(decode_sequence, 1.0), decode_context)
        together = self._attention(self.deployment.prefill_plan, (prompts, generating))
        added = np.maximum(together - self._attention(self.deployment.decode_plan, (generating,)), 0.0)
        beside = np.asarray(decode_sequence, dtype=np.float64)[..., None, None] > 0.0
        return np.where(beside, added, alone)

    def decode_attention(self, sequence: Number, context: Number) -> Array:
        """Attention of `sequence` generating sequences behind `context` tokens; shape (*scenarios, stages, 2)."""
        return self._attention(self.deployment.decode_plan, (decode(sequence, context),))

    def _attention(self, of: Plan, batch: Batch) -> Array:
        step = self._timed(of.context_groups(batch))
        return np.stack(np.broadcast_arrays(step.stage_s, step.stage_roofline_s), axis=-1)

    def _timed(self, groups: tuple[KernelGroup, ...]) -> StepTime:
        where = self.deployment
        return time_step(groups, where.device, where.calibration, where.working_set)

    def _rows(self, of: Plan, row: Number) -> Array:
        """The kernels of `of` over `row` rows, summed by part."""
        step = self._timed(of.row_groups(row, row))
        shape = (*step.stage_s.shape, ATTENTION, 2)
        total = np.zeros(shape)
        for group, time in zip(step.groups, step.times, strict=True):
            part = _part(group.work)
            total[..., part, 0] += sum_over_kernels((group,), (time.total_s,))
            total[..., part, 1] += sum_over_kernels((group,), (time.roofline_s,))
        return total


def _part(work: Work) -> int:
    """The part of a step that a kernel belongs to."""
    match work:
        case Gemm() | ExpertGemm() | ExpertLayer():
            return GEMM
        case Collective():
            return ALL_REDUCE
        case Pointwise():
            return OTHER
        case FusedAttention() | MixedAttention() | WholeLatentAttention() | UnfusedAttention():
            return ATTENTION


def modelled_times(deployment: Deployment) -> ModelledTimes:
    """The KernelTimes of `deployment`."""
    together = deployment.prefill_plan.context_groups((prefill(1.0, 1.0), decode(1.0, 1.0)))
    one_launch = any(runs_as_one(group.work, deployment.calibration) for group in together)
    return ModelledTimes(deployment, *deployment.decode_plan.split_by_row(), one_launch)


@dataclass(frozen=True, slots=True, eq=False)
class TabulatedTimes:
    """KernelTimes read from tables of a source, linearly in the logarithms of arguments and times between grid points.

    For searches and simulations that ask millions of times. Arguments beyond the grids are clipped to them.
    """

    body_grid: "Grid"
    head_grid: "Grid"
    prefill_grid: "Grid"
    """Over sequences, tokens and context; and decodes and theirs where both run in one launch."""
    decode_grid: "Grid"
    one_launch: bool

    def body(self, token: Number) -> Array:
        """Kernels that run over `token` new tokens; shape (*scenarios, stages, parts, 2)."""
        return self.body_grid.at(token)

    def head(self, sampled: Number) -> Array:
        """Kernels that run over `sampled` sequences whose logits are needed; shape (*scenarios, stages, parts, 2)."""
        return self.head_grid.at(sampled)

    def prefill_attention(
        self,
        sequence: Number,
        new_token: Number,
        context: Number,
        decode_sequence: Number = 0.0,
        decode_context: Number = 0.0,
    ) -> Array:
        """What prompts add to the attention of a step; shape (*scenarios, stages, 2)."""
        given = (sequence, new_token, context, decode_sequence, decode_context)
        return self.prefill_grid.at(*given[: len(self.prefill_grid.axes)])

    def decode_attention(self, sequence: Number, context: Number) -> Array:
        """Attention of `sequence` generating sequences behind `context` tokens; shape (*scenarios, stages, 2)."""
        return self.decode_grid.at(sequence, context)


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Logarithms of times on a grid. `axes`: ln(1 + argument) of each axis, ascending; `value`: ln of the times."""

    axes: tuple[Array, ...]
    value: Array

    def at(self, *arguments: Number) -> Array:
        """The times there, multilinear in the logarithms; shape (*scenarios, *rest of the values)."""
        points = np.broadcast_arrays(*(np.asarray(argument, dtype=np.float64) for argument in arguments))
        corner, share = [], []
        for axis, point in zip(self.axes, points, strict=True):
            place = np.log1p(point)
            below = np.clip(np.searchsorted(axis, place, side="right") - 1, 0, axis.size - 2)
            corner.append(below)
            share.append(np.clip((place - axis[below]) / (axis[below + 1] - axis[below]), 0.0, 1.0))
        depth = len(self.axes)
        rest = (1,) * (self.value.ndim - depth)
        total: Array = np.zeros(points[0].shape + self.value.shape[depth:])
        for choice in np.ndindex((2,) * depth):
            weight = np.ones(points[0].shape)
            for axis_share, upper in zip(share, choice, strict=True):
                weight = weight * (axis_share if upper else 1.0 - axis_share)
            index = tuple(below + upper for below, upper in zip(corner, choice, strict=True))
            total += weight.reshape(weight.shape + rest) * self.value[index]
        return np.exp(total)


SMALLEST_S = 1e-12
"""Stands for no time at all where logarithms are taken."""


def _grid(times: Callable[..., Array], *axes: Array) -> Grid:
    """A Grid of `times` over the product of `axes`."""
    mesh = np.meshgrid(*axes, indexing="ij")
    return Grid(tuple(np.log1p(axis) for axis in axes), np.log(np.maximum(times(*mesh), SMALLEST_S)))


def whole_numbers(limit: float, dense: int, ratio: float) -> Array:
    """Every whole number from 1 to `dense`, then about `ratio` apart, up to `limit` itself."""
    count = int(np.ceil(np.log(max(limit / dense, 1.0)) / np.log(ratio))) + 1
    apart = np.ceil(dense * (limit / dense) ** (np.arange(1, count) / max(count - 1, 1)))
    return np.array(
        sorted({*np.arange(1.0, min(dense, limit) + 1.0).tolist(), *apart.tolist(), float(max(limit, 2.0))})
    )


def tabulated_times(source: KernelTimes, max_token: float, max_sequence: float, max_context: float) -> TabulatedTimes:
    """Tables of `source` for steps of up to `max_token` tokens and `max_sequence` sequences of `max_context` tokens.

    Costs some tens of milliseconds. Between grid points 3 % apart (5 to 20 % for attention) the tile steps of the
    timing models are smoothed; tests state how far the table is off.
    """
    most = max_token + max_sequence
    contexts = np.concatenate([[0.0], whole_numbers(max_context, 4, 1.25)[3:]])
    prompt_axes = [whole_numbers(max_sequence, 1, 2.0), whole_numbers(max_token, 1, 1.3), contexts]
    if source.one_launch:  # five axes: coarser ones
        sparse = np.concatenate([[0.0], whole_numbers(max_context, 4, 2.0)[3:]])
        decodes = np.concatenate([[0.0], whole_numbers(max_sequence, 1, 2.0)])
        prompt_axes = [prompt_axes[0], whole_numbers(max_token, 1, 1.7), sparse, decodes, sparse]
    return TabulatedTimes(
        body_grid=_grid(source.body, whole_numbers(most, 64, 1.03)),
        head_grid=_grid(source.head, whole_numbers(most, 64, 1.03)),
        prefill_grid=_grid(source.prefill_attention, *prompt_axes),
        decode_grid=_grid(source.decode_attention, whole_numbers(max_sequence, 8, 1.05), contexts),
        one_launch=source.one_launch,
    )
