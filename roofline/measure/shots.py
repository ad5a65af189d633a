"""A few dozen single kernels, spread over what a model's steps are made of: enough to calibrate a device like another.

Products, attention over prompts and decode attention in turn, so that each family has a third of them. Drawn by a seed;
no whole layer is made, so that large shapes fit where a model would not.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..io.datasets.own import Measurement
from ..io.records import Family
from ..structs import NO_WINDOW
from . import operations
from .campaign import Settings, record_of, repeated
from .library import Library, make_mask
from .tape import Counter, Executed, Operands
from .timer import time_call

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


def draw_shots(count: int, largest: Largest, seed: int) -> tuple[Shot, ...]:
    """`count` shapes, drawn log-uniformly; equal for an equal seed."""
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

    return tuple(shot(FAMILIES[number % len(FAMILIES)]) for number in range(count))


def executed_shot(shot: Shot, library: Library) -> Executed:
    """The kernel of `shot`, run once on random values, counted and ready to be repeated."""
    draw, tape = np.random.default_rng(0), Counter(library, keep=True)

    def values(*shape: float) -> np.ndarray:
        count = int(np.prod(shape))
        return np.resize(draw.standard_normal(min(count, 2**20), dtype=np.float32), [int(size) for size in shape])

    dims = shot.dims
    match shot.family:
        case Family.GEMM:
            weight = library.weight(values(dims["n"], dims["k"]) / np.sqrt(np.float32(dims["k"])))
            operands = Operands(reads=(library.tensor(values(dims["m"], dims["k"])),), weights=(weight,))
            tape.step("o_proj", operations.linear, operands)
        case _:
            rows, dim = dims["new_token"], dims["head_dim"]
            query = library.tensor(values(dims["sequences"], dims["heads"], rows, dim))
            keys = (dims["sequences"], dims["kv_heads"], dims["context"] + rows, dim)
            cache = library.tensor(values(*keys)), library.tensor(values(*keys))
            mask = make_mask(library, int(rows), int(dims["context"]), dims["window"], True)
            operands = Operands(reads=(query,), cache=cache, aside=(dim**-0.5, mask))
            tape.step("attention", operations.fused_attention, operands)
    return tape.executed[0]


def measure_shots(shots: tuple[Shot, ...], library: Library, settings: Settings) -> Iterator[Measurement]:
    """A record of every shot."""
    for shot in shots:
        executed = executed_shot(shot, library)
        call, copies, recorded = repeated(executed, library, settings)
        samples = time_call(call, settings.budget, settings.clock, turn=settings.clock.turn(copies))
        yield record_of(executed.name, shot.family, shot.dims, library, settings, recorded, samples)
