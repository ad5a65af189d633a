"""Single kernels, drawn by a seed. No whole layer is made, so that large shapes fit where a model would not.

A few dozen, spread over what a model's steps are made of, are enough to calibrate a device like another: products,
attention over prompts and decode attention in turn. And the products of layers as wide as those of large models.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..io.datasets.own import Measurement
from ..io.records import Family
from ..structs import NO_WINDOW
from . import operations
from .campaign import Settings, record_of, repeated
from .library import Library, make_mask
from .tape import Counter, Executed, Operands
from .timer import time_call
from .weights import drawn

FAMILIES = (Family.GEMM, Family.PREFILL_ATTENTION, Family.DECODE_ATTENTION)


@dataclass(frozen=True, slots=True)
class Largest:
    """Largest sizes to draw: rows, and columns and depth of products; tokens of a prompt; sequences of a decode step;
    and tokens in all of their caches together.
    """

    row: int
    width: int
    token: int
    sequences: int
    cached: int


ACCELERATOR, PROCESSOR = Largest(8192, 16384, 8192, 128, 2**18), Largest(256, 2048, 256, 16, 2**12)


@dataclass(frozen=True, slots=True)
class Shot:
    """One kernel to measure: `dims` are those of a record of its family."""

    family: Family
    dims: dict[str, float]


def draw_shots(count: int, largest: Largest, seed: int, families: tuple[Family, ...] = FAMILIES) -> tuple[Shot, ...]:
    """`count` shapes of the `families` in turn, drawn log-uniformly; equal for an equal seed."""
    draw = np.random.default_rng(seed)

    def size(low: float, high: float) -> float:
        return float(round(float(np.exp(draw.uniform(np.log(low), np.log(high))))))

    def attention(sequences: float, new_token: float, context: float) -> dict[str, float]:
        kv_heads, group = float(draw.choice([1, 2, 4, 8])), float(draw.choice([1, 4, 8]))
        return {
            "sequences": sequences,
            "new_token": new_token,
            "context": context,
            "heads": kv_heads * group,
            "kv_heads": kv_heads,
            "head_dim": float(draw.choice([64, 128])),
            "window": NO_WINDOW,
        }

    def shot(family: Family) -> Shot:
        match family:
            case Family.GEMM:
                n, k = (8.0 * size(32, largest.width / 8) for _ in range(2))
                return Shot(family, {"m": size(1, largest.row), "n": n, "k": k, "copies": 1.0})
            case Family.PREFILL_ATTENTION:
                behind = size(16, largest.token) * float(draw.integers(2))
                return Shot(family, attention(size(1, 4), size(16, largest.token), behind))
            case _:
                sequences = size(1, largest.sequences)
                return Shot(family, attention(sequences, 1.0, size(16, largest.cached / sequences)))

    return tuple(shot(families[number % len(families)]) for number in range(count))


PRODUCT_STEP = "o_proj"
"""What the records of drawn products are called."""

WIDE_HIDDEN, WIDE_MLP, WIDE_VOCABULARY = (2048, 4096), (2.5, 4.0), (32768, 57344)
"""Hidden sizes, widths of MLPs over them, and vocabularies (thinned: a whole one has up to three times these) of wide
layers: a weight is below 1 GB in fp32.
"""

WIDE_FEW, WIDE_SEQUENCES, WIDE_PROMPT = (2, 3), (4, 8), (16, 64)
"""Sequences of decode steps besides one (MKL multiplies up to three rows one by one), and tokens of a prompt."""


@dataclass(frozen=True, slots=True)
class Wide:
    """A weight of `n` columns and depth `k`, and the rows to measure its product at."""

    n: int
    k: int
    rows: tuple[int, ...]


def draw_wide(count: int, seed: int) -> tuple[Wide, ...]:
    """`count` weights of wide layers, each with the rows of one sequence, of a few, of more, and of a prompt (a
    vocabulary, multiplied once a sequence, has none). MLP, vocabulary and projections of attention in turn.
    """
    draw = np.random.default_rng((seed, 2))

    def size(low: float, high: float, step: int = 1) -> int:
        return step * round(float(np.exp(draw.uniform(np.log(low), np.log(high)))) / step)

    def weight(number: int) -> Wide:
        hidden = size(*WIDE_HIDDEN, 128)
        width, vocabulary = size(WIDE_MLP[0] * hidden, WIDE_MLP[1] * hidden, 128), size(*WIDE_VOCABULARY)
        decode, prompt = (1, size(*WIDE_FEW), size(*WIDE_SEQUENCES)), (size(*WIDE_PROMPT),)
        return (
            Wide(2 * width, hidden, decode + prompt),
            Wide(vocabulary, hidden, decode),
            Wide(hidden, width, decode + prompt),
            Wide(hidden, hidden, decode + prompt),
        )[number % 4]

    return tuple(weight(number) for number in range(count))


def _values(*shape: float) -> NDArray[np.float32]:
    return drawn(0, *(int(size) for size in shape))


def _product(m: float, weight: Any, library: Library) -> Executed:
    """A linear layer of `m` rows, run once, counted and ready to be repeated."""
    tape = Counter(library, keep=True)
    operands = Operands(reads=(library.tensor(_values(m, weight.shape[-1])),), weights=(weight,))
    tape.step(PRODUCT_STEP, operations.linear, operands)
    return tape.executed[0]


def executed_shot(shot: Shot, library: Library) -> Executed:
    """The kernel of `shot`, run once on random values, counted and ready to be repeated."""
    dims = shot.dims
    match shot.family:
        case Family.GEMM:
            return _product(dims["m"], library.weight(_values(dims["n"], dims["k"])), library)
        case _:
            tape = Counter(library, keep=True)
            rows, dim = dims["new_token"], dims["head_dim"]
            query = library.tensor(_values(dims["sequences"], dims["heads"], rows, dim))
            keys = (dims["sequences"], dims["kv_heads"], dims["context"] + rows, dim)
            cache = library.tensor(_values(*keys)), library.tensor(_values(*keys))
            mask = make_mask(library, int(rows), int(dims["context"]), dims["window"], True)
            operands = Operands(reads=(query,), cache=cache, aside=(dim**-0.5, mask))
            tape.step("attention", operations.fused_attention, operands)
            return tape.executed[0]


def measure_shots(shots: tuple[Shot, ...], library: Library, settings: Settings) -> Iterator[Measurement]:
    """A record of every shot."""
    for shot in shots:
        yield _measured(executed_shot(shot, library), shot.family, shot.dims, library, settings)


def measure_wide(wide: Wide, library: Library, settings: Settings) -> Iterator[Measurement]:
    """A record of every product of one wide weight, which is made once."""
    weight = library.weight(_values(wide.n, wide.k))
    for m in wide.rows:
        dims = {"m": float(m), "n": float(wide.n), "k": float(wide.k), "copies": 1.0}
        yield _measured(_product(m, weight, library), Family.GEMM, dims, library, settings)


def _measured(
    executed: Executed, family: Family, dims: dict[str, float], library: Library, settings: Settings
) -> Measurement:
    call, copies, recorded = repeated(executed, library, settings)
    samples = time_call(call, settings.budget, settings.clock, turn=settings.clock.turn(copies))
    return record_of(executed.name, family, dims, library, settings, recorded, samples)
