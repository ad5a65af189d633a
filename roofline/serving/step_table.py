"""Step times of one deployment as tables: the vectorised model evaluated on a grid once, then looked up step by step.

A simulation asks for one step after another, so it cannot hand the model a million at once; tables can. A decode step
is tabulated for every number of sequences and interpolated in the mean context. A step with prompts in it is an exact
table over its tokens, where matrix tiles make jumps, plus what attention adds, which is smooth: interpolated on a grid
of prompt tokens, their mean context, prompts, decodes and their mean context. Contexts enter by their sums: attention
is close to affine in each.
"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..structs import Array, Number

DecodeStep = Callable[[Number, Number], Array]
"""Seconds of a decode step by sequences and mean cached tokens; elementwise."""

MixedStep = Callable[[Number, Number, Number, Number, Number], Array]
"""Seconds of a step by prompt tokens, their mean context, prompts, decodes and their mean context; elementwise."""

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
    extra_s: Array
    """What attention adds to that, shape (prompt tokens, contexts, prompts, decodes, decode contexts)."""
    axes: tuple[tuple[float, ...], ...]
    scale: float = 1.0
    """Multiplies every time (an end of the band)."""

    def decode_run_s(self, sequences: int, mean_context: float, steps: int) -> Array:
        """Seconds of `steps` decode steps on end: each adds one token to the context of every sequence."""
        context = mean_context + np.arange(steps)
        return np.asarray(self.scale * np.interp(context, self.decode_context, self.decode_s[sequences]))

    def step_s(
        self, prompt_token: int, prompt_context: float, prompts: int, decodes: int, decode_context: float
    ) -> float:
        """Seconds of one step with prompts in it."""
        point = (prompt_token, prompt_context, prompts, decodes, decode_context)
        lows = [
            min(max(bisect_right(axis, value) - 1, 0), len(axis) - 2)
            for axis, value in zip(self.axes, point, strict=True)
        ]
        block = self.extra_s[tuple(slice(low, low + 2) for low in lows)]
        for axis, value, low in zip(self.axes, point, lows, strict=True):
            block = block[0] + (value - axis[low]) / (axis[low + 1] - axis[low]) * (block[1] - block[0])
        return self.scale * (self.token_s[prompt_token + decodes] + float(block))


def _grid(limit: float, first: float, ratio: float, zero: bool = False) -> Array:
    """Whole numbers from `first` to `limit` (at least two), each about `ratio` times the last; 0 too where asked."""
    count = max(int(np.ceil(np.log(max(limit, first + 1.0) / first) / np.log(ratio))) + 1, 2)
    values = np.round(np.geomspace(first, max(limit, first + 1.0), count))
    return np.array(sorted({0.0, *values} if zero else set(values)))


def _token_nodes(limit: int) -> Array:
    tiles = np.arange(EXACT_TOKEN, limit + TILE, TILE, dtype=np.float64)
    nodes = np.concatenate([np.arange(1.0, EXACT_TOKEN + 1.0), tiles, tiles + 1.0])
    return np.array(sorted({min(node, float(limit)) for node in nodes}))


def step_table(
    decode_step_s: DecodeStep, mixed_step_s: MixedStep, *, sequences: int, budget: int, context: int
) -> StepTable:
    """The StepTable for up to `sequences` at once, `budget` tokens a step, and `context` tokens a sequence."""
    decode_context = _grid(context, 8.0, 1.09, zero=True)
    running = np.arange(1.0, sequences + 1.0)
    decode_s = np.broadcast_to(decode_step_s(running[:, None], decode_context), (sequences, decode_context.size))
    nodes = _token_nodes(budget + sequences)
    at_node = np.broadcast_to(mixed_step_s(nodes, 0.0, 1.0, 0.0, 0.0), nodes.shape)
    token_s = np.interp(np.arange(budget + sequences + 1.0), nodes, at_node)
    axes = (
        _grid(budget, 1.0, 1.5),
        _grid(context, 64.0, 2.0, zero=True),
        _grid(min(budget, sequences), 1.0, 2.0),
        _grid(sequences, 1.0, 1.6, zero=True),
        _grid(context, 64.0, 1.6, zero=True),
    )
    prompt_token, prompt_context, prompts, decodes, decode_at = np.meshgrid(*axes, indexing="ij", sparse=True)
    whole_s = mixed_step_s(prompt_token, prompt_context, np.minimum(prompts, prompt_token), decodes, decode_at)
    alone_s = token_s[np.minimum(prompt_token + decodes, budget + sequences).astype(np.intp)]
    return StepTable(
        decode_s=np.concatenate([np.zeros((1, decode_context.size)), decode_s]),
        decode_context=decode_context,
        token_s=token_s.tolist(),
        extra_s=np.asarray(whole_s - alone_s),
        axes=tuple(tuple(axis.tolist()) for axis in axes),
    )
