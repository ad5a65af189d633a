"""Which layers and batches are measured where nobody names one: drawn at random, the same for the same seed."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import ceil

import numpy as np

from ..model import Attention, Layer, Mlp, Model, Moe, Norm, Position
from ..structs import NO_WINDOW
from .campaign import Case
from .steps import Form, StepShape

DECODE_WIDTH = 2
"""How much wider the layers of decode steps may be: their time is that of their weights, of which whole models have
more than fits the time of a prefill here. Wider ones are measured product by product (see shots).
"""

HEAD_WIDTH = 16
"""Vocabularies reach this many times the largest hidden size of a prefill."""


def random_cases(
    count: int,
    largest_hidden: int,
    largest_token: int,
    forms: Sequence[Form],
    seed: int | tuple[int, ...] = 0,
    mixtures: int = 6,
) -> Iterator[Case]:
    """`count` layers and batches, drawn log-uniformly; the same for every library and machine with the same `seed`.

    MHA, GQA and MQA, full and sliding, gated, plain and (every `mixtures`-th layer) gated MoE; prefill, decode and
    chunks in turn, half of the decode steps of one sequence.
    """
    draw = np.random.default_rng(seed)

    def size(low: int, high: int) -> int:
        return round(float(np.exp(draw.uniform(np.log(low), np.log(high)))))

    for number in range(count):
        shape = (
            StepShape(size(1, 4), size(16, largest_token), 0),
            StepShape(size(1, 32) ** int(draw.integers(2)), 1, size(16, 4 * largest_token)),
            StepShape(size(1, 2), size(8, largest_token // 2), size(16, largest_token)),
        )[number % 3]
        mixed = number % mixtures == mixtures - 1
        widest = largest_hidden * (DECODE_WIDTH if shape.new_token == 1 and not mixed else 1)
        head_dim = int(draw.choice([32, 64, 128]))
        heads = max(size(256, widest) // head_dim, 1)
        groups = [group for group in (1, 2, 4, 8, heads) if heads % group == 0]
        window = float(size(32, 512)) if number % 4 == 3 else NO_WINDOW
        attention = Attention(float(heads), float(heads // int(draw.choice(groups))), float(head_dim), window)
        hidden = heads * head_dim
        gated = bool(draw.integers(2))
        width = float(size(hidden, 4 * hidden))
        routed = Moe(float(draw.choice([4, 8, 16])), float(draw.choice([1, 2, 4])), float(ceil(width / 4)), True)
        layer = Layer(attention, routed if mixed else Mlp(width, gated))
        model = Model(
            name=f"drawn-{number}",
            family="drawn",
            hidden=float(hidden),
            vocabulary=float(size(1024, HEAD_WIDTH * largest_hidden)),
            layers=(layer,),
            tied_embeddings=True,
            max_context=65536.0,
            norm=Norm.RMS if gated else Norm.LAYER,
            position=Position.ROTARY,
        )
        yield Case(model, layer, forms[number % len(forms)], shape)


def doubled(cases: Sequence[Case]) -> Iterator[Case]:
    """Each case with twice the batch or twice the length (of the prompt, else of the context), in turn: how time moves
    then tells what binds.
    """
    for number, case in enumerate(cases):
        shape = case.shape
        if number % 2:
            twice = replace(shape, sequences=2 * shape.sequences)
        elif shape.new_token > 1:
            twice = replace(shape, new_token=2 * shape.new_token)
        else:
            twice = replace(shape, context=2 * shape.context)
        yield replace(case, shape=twice)
