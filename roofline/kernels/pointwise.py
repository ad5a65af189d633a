"""Work that is linear in rows and multiplies no matrices: norms, RoPE, KV append, activation, residual, sampling."""

from dataclasses import dataclass
from enum import StrEnum

from ..cost import Cost
from ..structs import Array, Number


class PointwiseKind(StrEnum):
    """What is done to a row: kernels of one kind share a timing model's parameters."""

    NORM = "norm"
    ROPE = "rope"
    ACTIVATION = "activation"
    RESIDUAL = "residual"
    EMBEDDING = "embedding"
    SOFTMAX = "softmax"
    SAMPLING = "sampling"
    COPY = "copy"


@dataclass(frozen=True, slots=True)
class Pointwise:
    """Kernels that treat `row` rows alike; the last axis of the other fields runs over kernels.

    Per row: `flop`, bytes read and written of activations, bytes appended to the KV cache. `weight_byte` is read once.
    `launch`: 1, or 0 where engines fuse the work into its neighbour (no launch of its own). `kinds`: one per kernel.
    """

    row: Number
    flop: Array
    read_byte: Array
    write_byte: Array
    kv_write_byte: Array
    weight_byte: Array
    launch: Array
    kinds: tuple[PointwiseKind, ...]


def pointwise_cost(work: Pointwise) -> Cost:
    """Cost of one execution: everything is proportional to rows. Ignores: caches between neighbouring kernels."""
    return Cost(
        vector_flop=work.row * work.flop,
        weight_read_byte=work.weight_byte,
        activation_read_byte=work.row * work.read_byte,
        activation_write_byte=work.row * work.write_byte,
        kv_write_byte=work.row * work.kv_write_byte,
    )
