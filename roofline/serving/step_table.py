"""Step times of one deployment as tables: the vectorised model evaluated on a grid once, then looked up step by step.

A simulation asks for one step after another, so it cannot hand the model a million at once; tables can. A decode step
is tabulated for every number of sequences and interpolated in the mean context. A step with prompts in it is an exact
table over its tokens, where matrix tiles make jumps, plus what the decodes' contexts cost in a decode step, plus the
rest: smooth, and interpolated on a grid of prompt tokens, their mean context, prompts, decodes and their mean context.
Contexts enter by their means: attention is close to affine in each.
"""

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np

from ..structs import Array
from .replica import StepTimes
from .step import ServedModel

EXACT_TOKEN = 512
"""Up to here every number of tokens is tabulated; beyond, both sides of every multiple of TILE."""

TILE = 16
"""Tiles of matrix products start at multiples of this."""


@dataclass(frozen=True, slots=True, eq=False)
class StepTable:
    """Tables of one deployment's step times in seconds, up to its limits of sequences, tokens a step, and context."""

    decode_s: Array
    """Decode steps, shape (sequences + 1, contexts)."""
    decode_context: Array
    token_s: list[float]
    """Steps of one prompt of so many tokens and nothing else."""
    behind_s: list[list[float]]
    """What the contexts of decodes add to a decode step, by sequences and context."""
    rest_s: Array
    """The rest, shape (prompt tokens, contexts, prompts, decodes, decode contexts)."""
    axes: tuple[list[float], ...]
    contexts: list[float]

    def decode_run_s(self, sequences: int, mean_context: float, steps: int) -> Array:
        """Seconds of `steps` decode steps on end: each adds one token to the context of every sequence."""
        context = mean_context + np.arange(steps)
        return np.asarray(np.interp(context, self.decode_context, self.decode_s[sequences]))

    def step_s(
        self, prompt_token: int, prompt_context: float, prompts: int, decodes: int, decode_context: float
    ) -> float:
        """Seconds of one step with prompts in it."""
        point = (prompt_token, prompt_context, prompts, decodes, decode_context)
        places = [_place(axis, value) for axis, value in zip(self.axes, point, strict=True)]
        rest = self.rest_s[tuple(slice(low, low + 2) for low, _ in places)]
        for _, share in places:
            rest = rest[0] + share * (rest[1] - rest[0])
        low, share = _place(self.contexts, decode_context)
        behind = self.behind_s[decodes]
        return (
            self.token_s[prompt_token + decodes] + behind[low] + share * (behind[low + 1] - behind[low]) + float(rest)
        )


def _place(axis: list[float], value: float) -> tuple[int, float]:
    """The grid point below `value`, and how far towards the next one it is; beyond the ends, along the last piece."""
    low = min(max(bisect_right(axis, value) - 1, 0), len(axis) - 2)
    return low, (value - axis[low]) / (axis[low + 1] - axis[low])


def _grid(limit: float, first: float, ratio: float, zero: bool = False) -> Array:
    """Whole numbers from `first` to `limit` (at least two), each about `ratio` times the last; 0 too where asked."""
    last = max(limit, first + 1.0)
    values = np.round(np.geomspace(first, last, max(int(np.ceil(np.log(last / first) / np.log(ratio))) + 1, 2)))
    return np.array(sorted({*([0.0] if zero else []), *values.tolist()}))


def _token_nodes(limit: int) -> Array:
    tiles = np.arange(EXACT_TOKEN, limit + TILE, TILE, dtype=np.float64)
    nodes = np.concatenate([np.arange(1.0, EXACT_TOKEN + 1.0), tiles, tiles + 1.0])
    return np.array(sorted(set(np.minimum(nodes, float(limit)).tolist())))


def step_table(served: ServedModel, *, sequences: int, budget: int, context: int) -> StepTable:
    """The StepTable of `served` for up to `sequences` at once, `budget` tokens a step, `context` tokens a sequence."""
    decode_context = _grid(context, 8.0, 1.09, zero=True)
    decode_s = served.decode_step_s(np.arange(1.0, sequences + 1.0)[:, None], decode_context).total_s
    decode_s = np.concatenate([np.zeros((1, decode_context.size)), decode_s])
    behind_s = decode_s - decode_s[:, :1]
    nodes = _token_nodes(budget + sequences)
    token_s = np.interp(np.arange(budget + sequences + 1.0), nodes, served.prefill_step_s(nodes).total_s)
    powers = 2.0 ** np.arange(max(np.ceil(np.log2(min(budget, sequences))), 1.0) + 1.0)
    together = served.times.one_launch  # prompts and decodes meet in attention: all five axes matter
    ratio = (1.5, 1.8, 1.25, 1.3) if together else (1.2, 1.4, 1.4, float(context))
    axes = (
        _grid(budget, 1.0, ratio[0]),
        _grid(context, 64.0, ratio[1], zero=True),
        powers,
        _grid(sequences, 1.0, ratio[2], zero=True),
        _grid(context, 64.0, ratio[3], zero=True),
    )
    tokens, behind, prompts, decodes, decode_behind = np.meshgrid(*axes, indexing="ij", sparse=True)
    each = np.minimum(prompts, tokens)
    whole_s = served.mixed_step_s(tokens / each, behind, each, decodes, decode_behind).total_s
    alone_s = token_s[np.minimum(tokens + decodes, budget + sequences).astype(np.intp)]
    held_s = np.array(
        [np.interp(axes[4], decode_context, behind_s[min(int(running), sequences)]) for running in axes[3]]
    )
    return StepTable(
        decode_s=decode_s,
        decode_context=decode_context,
        token_s=token_s.tolist(),
        behind_s=behind_s.tolist(),
        rest_s=np.asarray(whole_s - alone_s - held_s),
        axes=tuple(axis.tolist() for axis in axes),
        contexts=decode_context.tolist(),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Bounded:
    """Step times multiplied by `scale`, but never below those of `floor`."""

    times: StepTimes
    scale: float
    floor: StepTimes

    def decode_run_s(self, sequences: int, mean_context: float, steps: int) -> Array:
        """Seconds of `steps` decode steps on end."""
        scaled = self.scale * self.times.decode_run_s(sequences, mean_context, steps)
        return np.maximum(scaled, self.floor.decode_run_s(sequences, mean_context, steps))

    def step_s(
        self, prompt_token: int, prompt_context: float, prompts: int, decodes: int, decode_context: float
    ) -> float:
        """Seconds of one step with prompts in it."""
        point = (prompt_token, prompt_context, prompts, decodes, decode_context)
        return max(self.scale * self.times.step_s(*point), self.floor.step_s(*point))
