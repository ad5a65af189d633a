"""What no engine can beat: the bare roofline of a request's own work, from datasheet rates alone."""

from dataclasses import dataclass

import numpy as np

from ..structs import Array
from .curve import LineTimes
from .request import PlanRequest


@dataclass(frozen=True, slots=True)
class Floor:
    """Seconds below which no schedule brings one replica: `ttft_s` of the prompt at the percentile, `tpot_s`, and
    `request_s`, the time of the replica that each request takes at best, however many share a step.
    """

    ttft_s: float
    tpot_s: float
    request_s: float


def floor_of(lines: LineTimes, request: PlanRequest, replicas: float) -> Floor:
    """The Floor of a deployment whose kernels take `lines`; `replicas`: data-parallel ones inside it.

    TTFT: the rows of a whole prompt in one step on the slowest pipeline stage (chunks of it overlap between stages).
    TPOT: one pass of a token over the weights, through every stage. Time per request: its share of a step that very
    many requests join with all their work. They are bounds because the bare roofline of a kernel, max(FLOP / peak,
    byte / bandwidth), is a maximum of lines in its rows: it grows, it is subadditive (work cut into steps takes no
    less), and its slope is below its value per row. Ignores waiting, the host, and attention in TTFT and TPOT.
    """
    prompt, output = request.lengths.prompt, request.lengths.output
    longest = float(prompt.quantile(request.level.percentile / 100.0))
    one = lines.body(np.array([min(longest, lines.most)])).sum(axis=-2)[0, :, 1]
    token = (lines.body(np.array([1.0])) + lines.head(np.array([1.0]))).sum(axis=-2)[0, :, 1]
    steps = max(float(output.mean) - 1.0, 0.0)
    rows, logits, attended = lines.slopes()
    whole = lines.whole_prompt()[..., 1]
    shared = rows * (float(prompt.mean) + steps) + logits * (1.0 + steps) + whole + attended * steps
    return Floor(_largest(one), float(token.sum()), _largest(shared) / replicas)


def _largest(stage_s: Array) -> float:
    return float(np.max(stage_s))
