"""Step times of one workload as curves over the running batch: what a search of a million steady states reads.

A search asks for steps with the same prompts and contexts again and again; only the batch differs. So the exact times
of kernels are taken once, on grids of row counts 3 % apart, and those of steps on a grid of batches, whole numbers up
to 16 and then 6 % apart; they are read linearly in between. Both grids hold either side of the multiples at which tiles
of matrix products end: times jump there, and token budgets and limits of sequences lie just there. A curve of steps
never falls: where a tile pattern makes a larger batch faster, an engine may pad a smaller one.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..serving.engine import Limits
from ..serving.memory import KvMemory
from ..serving.source import SMALLEST_S, Grid, KernelTimes, whole_numbers
from ..serving.step import ServedModel, StepParts
from ..structs import Array, Number

DENSE = 16
"""Batches up to this one are all on the grid."""

RATIO = 1.06
"""Ratio of neighbouring batches beyond."""

CHUNK_RATIO = 1.08
"""Ratio of neighbouring chunk sizes."""

SPARSE_CHUNK_RATIO, SPARSE_RATIO = 1.3, 1.6
"""Ratios of chunk sizes and of batches where attention depends on both."""

AHEAD = 1.3
"""Grids go beyond the largest batch by this factor: slopes are taken there."""


NOTHING = np.zeros(())
"""Seconds of the parts of a step that are not told apart."""

ROWS_DENSE, ROWS_RATIO = 64, 1.03
"""Whole numbers of rows that are all on the grid, and the ratio of neighbours beyond."""


EDGES = ((512.0, 16.0), (2048.0, 64.0), (32768.0, 256.0))
"""Up to how many rows both sides of the multiples of what are on a grid; beyond, a row of tiles is below 1 %."""


def _with_edges(rows: Array) -> Array:
    """A grid of whole numbers and both sides of the multiples in EDGES within it."""
    most, parts, start = float(rows[-1]), [rows], 0.0
    for end, step in EDGES:
        ends = np.arange(start + step, min(end, most) + 1.0, step)
        parts += [ends, ends[ends < most] + 1.0]
        start = end
    return np.unique(np.concatenate(parts))


@dataclass(frozen=True, slots=True, eq=False)
class LineTimes:
    """KernelTimes (serving.source) of one workload: prompts of one length, one context of decodes. Whatever arguments
    say of those, it answers for the workload. `most`: rows up to which it is made. `prompt`: tokens of the prompts.
    """

    body_line: Grid
    head_line: Grid
    prefill_line: Grid
    decode_line: Grid
    most: float
    prompt: float
    one_launch: bool

    def body(self, token: Number) -> Array:
        """Kernels that run over `token` new tokens; shape (*scenarios, stages, parts, 2)."""
        return self.body_line.at(token)

    def head(self, sampled: Number) -> Array:
        """Kernels that run over `sampled` sequences whose logits are needed; shape (*scenarios, stages, parts, 2)."""
        return self.head_line.at(sampled)

    def prefill_attention(
        self,
        sequence: Number,
        new_token: Number,
        context: Number,
        decode_sequence: Number = 0.0,
        decode_context: Number = 0.0,
    ) -> Array:
        """What a chunk in the middle of the prompt adds to the attention of a step; shape (*scenarios, stages, 2)."""
        return self.prefill_line.at(*(new_token, decode_sequence)[: len(self.prefill_line.axes)])

    def decode_attention(self, sequence: Number, context: Number) -> Array:
        """Attention of `sequence` generating sequences; shape (*scenarios, stages, 2)."""
        return self.decode_line.at(sequence)

    def whole_prompt(self) -> Array:
        """Attention of the whole prompt in one step; shape (stages, 2)."""
        return self.prefill_attention(1.0, self.prompt, 0.0)

    def slopes(self) -> tuple[Array, Array, Array]:
        """Seconds of bare roofline that one more row adds at the far end: rows, rows with logits, decoding sequences.
        Shape (stages,) each.
        """
        rows, logits, attended = (_last_slope(line) for line in (self.body_line, self.head_line, self.decode_line))
        return rows[..., 1].sum(axis=-1), logits[..., 1].sum(axis=-1), attended[..., 1]


def _last_slope(line: Grid) -> Array:
    rows, values = np.expm1(line.axes[0][-2:]), np.exp(line.value[-2:])
    slope: Array = (values[1] - values[0]) / (rows[1] - rows[0])
    return slope


def _line(values: Array, *axes: Array) -> Grid:
    return Grid(tuple(np.log1p(axis) for axis in axes), np.log(np.maximum(values, SMALLEST_S)))


def _prefill_line(times: KernelTimes, largest: float, prompt: float, context: float) -> Grid:
    """Attention of chunks by their size; and by the decodes beside them where both run in one launch."""
    longest = max(prompt, 2.0)
    if not times.one_launch:
        chunk = np.geomspace(1.0, longest, int(np.log(longest) / np.log(CHUNK_RATIO)) + 2)
        return _line(times.prefill_attention(1.0, chunk, 0.5 * np.maximum(prompt - chunk, 0.0)), chunk)
    chunk = np.geomspace(1.0, longest, int(np.log(longest) / np.log(SPARSE_CHUNK_RATIO)) + 2)
    decodes = np.concatenate([[0.0], whole_numbers(np.ceil(largest * AHEAD) + 1.0, 1, SPARSE_RATIO)])
    size, beside = np.meshgrid(chunk, decodes, indexing="ij")
    behind = 0.5 * np.maximum(prompt - size, 0.0)
    return _line(times.prefill_attention(1.0, size, behind, beside, context), chunk, decodes)


def line_times(times: KernelTimes, most: float, largest: float, prompt: float, context: float) -> LineTimes:
    """The LineTimes of `times` for steps of up to `most` rows and `largest` sequences."""
    rows = _with_edges(whole_numbers(most, ROWS_DENSE, ROWS_RATIO))
    batch = _batches(largest)
    return LineTimes(
        body_line=_line(times.body(rows), rows),
        head_line=_line(times.head(batch), batch),
        prefill_line=_prefill_line(times, largest, prompt, context),
        decode_line=_line(times.decode_attention(batch, context), batch),
        most=float(rows[-1]),
        prompt=prompt,
        one_launch=times.one_launch,
    )


def _batches(largest: float) -> Array:
    """The grid of batches."""
    return _with_edges(whole_numbers(np.ceil(largest * AHEAD) + 1.0, DENSE, RATIO))


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """Seconds of steps of one replica. `batch` and `chunk`: the grids; `place`: index into `batch` below each whole
    number. `decode_s`, `host_s`: shape (batches,); `added_s`: what a chunk adds to a step, shape (budgets, batches);
    `alone_s`: a step of one chunk alone, shape (chunks,); `group_s`: a step of several whole prompts, shape (groups,).
    """

    batch: Array
    place: Array
    width: Array
    decode_s: Array
    host_s: Array
    added_s: Array
    chunk: Array
    alone_s: Array
    group: Array
    group_s: Array


@dataclass(frozen=True, slots=True, eq=False)
class CurvedModel(ServedModel):
    """A ServedModel whose step times are read from `curves`; `budget`: index of each configuration's token budget.

    It answers for the prompts, contexts and budgets that the curves were made for, whatever the arguments say of them.
    """

    curves: Curves
    budget: NDArray[np.intp]

    def decode_step_s(self, sequence: Number, context: Number, new_token: Number = 1.0) -> StepParts:
        """The step with `sequence` sequences generating."""
        at, share = self._placed(sequence)
        curves = self.curves
        host_s = _between(curves.host_s, at, share)
        return _parts(_between(curves.decode_s, at, share) - host_s, host_s)

    def mixed_step_s(
        self,
        prefill_token: Number,
        prefill_context: Number,
        prefill_sequence: Number,
        decode_sequence: Number,
        decode_context: Number,
    ) -> StepParts:
        """A chunk beside `decode_sequence` generating sequences."""
        at, share = self._placed(decode_sequence)
        curves = self.curves
        flat = self.budget * curves.batch.size + at
        added_s = _between(curves.added_s.ravel(), flat, share)
        host_s = _between(curves.host_s, at, share)
        return _parts(_between(curves.decode_s, at, share) + added_s - host_s, host_s)

    def prefill_step_s(self, token: Number, context: Number = 0.0, sequence: Number = 1.0) -> StepParts:
        """A chunk of `token` tokens alone, or `sequence` whole prompts together."""
        curves = self.curves
        one, several = np.interp(token, curves.chunk, curves.alone_s), np.interp(sequence, curves.group, curves.group_s)
        return _parts(np.where(np.asarray(sequence) > 1.0, several, one), NOTHING)

    def _placed(self, sequence: Number) -> tuple[Array, Array]:
        """The grid point below each batch, and how far it is to the next."""
        curves = self.curves
        within = np.minimum(sequence, curves.batch[-1])
        at = curves.place[np.asarray(within, dtype=np.intp)]
        return at, (within - curves.batch[at]) / curves.width[at]


def _between(values: Array, at: Array, share: Array) -> Array:
    low = values[at]
    found: Array = low + share * (values[at + 1] - low)
    return found


def _parts(kernel_s: Array, host_s: Array) -> StepParts:
    """A step whose kernels are not told apart."""
    return StepParts(kernel_s, NOTHING, NOTHING, NOTHING, host_s)


def curves(
    exact: ServedModel, served: ServedModel, budgets: Array, largest: float, prompt: float, context: float
) -> Curves:
    """The Curves of `served` for batches up to `largest`, prompts of `prompt` tokens and `context` cached tokens.

    `exact`: the same, with times of prompts together.
    `budgets`: token budgets of a step. A chunk is what the budget leaves beside the batch, or the whole prompt.
    """
    batch = _batches(largest)
    decode = served.decode_step_s(batch, context)
    decode_s = np.maximum.accumulate(decode.total_s)
    room = np.maximum(budgets[:, None] - batch, 1.0)
    chunks = np.maximum(prompt / room, 1.0)
    chunk = prompt / chunks
    mixed_s = served.mixed_step_s(
        chunk, 0.5 * (prompt - chunk), 1.0, np.broadcast_to(batch, chunk.shape), context
    ).total_s
    # a prompt beside decodes never gets faster with their number, though what it adds to their steps may: of a mixture
    # of experts, the decodes have read the weights already
    added_s = chunks * np.maximum(mixed_s - decode.total_s, 0.0)
    whole_s = np.maximum.accumulate(chunks * decode_s + added_s, axis=-1) - chunks * decode_s
    least, most = float(chunk.min()), prompt
    sizes = np.geomspace(least, most, int(np.log(most / least) / np.log(CHUNK_RATIO)) + 2)
    alone = served.prefill_step_s(sizes, 0.5 * (prompt - sizes))
    group = whole_numbers(max(np.floor(float(budgets.max()) / prompt), 2.0), DENSE, RATIO)
    place = np.searchsorted(batch, np.arange(batch[-1] + 1.0), side="right") - 1
    return Curves(
        batch=batch,
        place=np.clip(place, 0, batch.size - 2),
        width=np.diff(batch),
        decode_s=decode_s,
        host_s=decode.host_s,
        added_s=whole_s / chunks,
        chunk=sizes,
        alone_s=np.maximum.accumulate(alone.total_s),
        group=group,
        group_s=np.maximum.accumulate(exact.prefill_step_s(prompt, 0.0, group).total_s),
    )


def slowed(made: Curves, decode: Array, chunk: Array, budgets: Array, prompt: float) -> Curves:
    """`made` with every time multiplied: decode steps by `decode`, shape (batches,), chunks by `chunk`, shape
    (chunks,). As `made`, they never fall with the batch.
    """
    size = prompt / np.maximum(prompt / np.maximum(budgets[:, None] - made.batch, 1.0), 1.0)
    return replace(
        made,
        decode_s=np.maximum.accumulate(made.decode_s * decode),
        host_s=made.host_s * decode,
        added_s=made.added_s * np.interp(size, made.chunk, chunk),
        alone_s=np.maximum.accumulate(made.alone_s * chunk),
        group_s=made.group_s * chunk[-1],
    )


def curved(
    served: ServedModel, made: Curves, limits: Limits, memory: KvMemory, budget: NDArray[np.intp]
) -> CurvedModel:
    """`served` with its step times read from `made`, a configuration for each entry of `limits`, `memory`, `budget`."""
    return CurvedModel(
        engine=replace(served.engine, limits=limits),
        times=served.times,
        memory=memory,
        layers=served.layers,
        replicas=served.replicas,
        curves=made,
        budget=budget,
    )
