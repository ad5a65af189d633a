"""How a step is executed: run it, run and count it, or keep it so that it can be repeated alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, Protocol

from ..cost import Cost
from ..structs import FLOP_PER_FMA
from .library import Elementwise, Library, Mask, Reduction, Tensor

Operation = Callable[..., Any]


@dataclass(frozen=True, slots=True, eq=False)
class Operands:
    """What one step touches, by what the cost model calls it.

    `reads`: activations read whole. `gathered`: tables of which only some rows are read (counted as activations).
    `weights`: read whole. `cache`: the part of the KV cache that is read. `slots`: the part that is written.
    `aside`: what the cost model ignores because it is one value per row or position: indices, masks, rotary tables,
    gates. An operation takes them in this order.
    """

    reads: tuple[Tensor, ...] = ()
    gathered: tuple[Tensor, ...] = ()
    weights: tuple[Tensor, ...] = ()
    cache: tuple[Tensor, ...] = ()
    slots: tuple[Tensor, ...] = ()
    aside: tuple[Any, ...] = ()

    @property
    def all(self) -> tuple[Any, ...]:
        """In the order in which an operation takes them."""
        return (*self.reads, *self.gathered, *self.weights, *self.cache, *self.slots, *self.aside)


class Tape(Protocol):
    """Executes the steps of a model one by one, by name."""

    @property
    def library(self) -> Library:
        """What computes."""

    def step(self, name: str, operation: Operation, operands: Operands) -> Any:
        """What `operation` returns for `operands`."""


@dataclass(frozen=True, slots=True)
class Runner:
    """Just runs."""

    library: Library

    def step(self, name: str, operation: Operation, operands: Operands) -> Any:
        """Run it."""
        return operation(self.library, *operands.all)


@dataclass(frozen=True, slots=True)
class Product:
    """`copies` products of [m, k] with [k, n], as they were executed."""

    m: int
    n: int
    k: int
    copies: int


@dataclass(frozen=True, slots=True, eq=False)
class Executed:
    """One step as it ran: enough to repeat it, and its cost counted from the arrays."""

    name: str
    operation: Operation
    operands: Operands
    cost: Cost
    products: tuple[Product, ...]
    row: int


@dataclass(slots=True)
class Counter:
    """Runs every step and counts it; `executed` has them in order, with their operands where `keep` is set."""

    library: Library
    keep: bool = False
    executed: list[Executed] = field(default_factory=list)

    def step(self, name: str, operation: Operation, operands: Operands) -> Any:
        """Run it with every array operation counted."""
        counting = CountingLibrary(self.library)
        result = operation(counting, *operands.all)
        written = [x for x in (result if isinstance(result, tuple) else (result,)) if hasattr(x, "nbytes")]
        cost = Cost(
            matrix_flop=counting.matrix_flop,
            vector_flop=counting.vector_flop,
            weight_read_byte=_nbytes(operands.weights),
            activation_read_byte=_nbytes(operands.reads) + counting.gathered_byte,
            activation_write_byte=0.0 if name in WRITES_INDICES else _nbytes(written),
            kv_read_byte=self._distinct_nbytes(operands.cache),
            kv_write_byte=_nbytes(operands.slots),
        )
        rows = next(iter((*operands.reads, *written)))
        self.executed.append(
            Executed(
                name,
                operation,
                operands if self.keep else Operands(),
                cost,
                tuple(counting.products),
                prod(rows.shape[:-1]),
            )
        )
        return result

    def _distinct_nbytes(self, tensors: Sequence[Tensor]) -> float:
        """Bytes of tensors of which some are parts of others (MLA's values are a part of its latents): those once."""
        largest: dict[int, float] = {}
        for tensor in tensors:
            address = self.library.address(tensor)
            largest[address] = max(largest.get(address, 0.0), float(tensor.nbytes))
        return sum(largest.values())


WRITES_INDICES = frozenset({"sampling"})
"""Steps whose only result is one index per row, which the cost model ignores."""


def _nbytes(tensors: Sequence[Tensor]) -> float:
    return float(sum(tensor.nbytes for tensor in tensors))


_FLOP_PER_INPUT = {Reduction.MAX: 1.0, Reduction.SUM: 1.0, Reduction.MEAN: 1.0, Reduction.MEAN_SQUARE: 2.0}


class CountingLibrary:
    """Another library with every operation counted: FLOP from the shapes of the arrays, bytes of gathered rows.

    Functions that the other library has of its own run as their primitives here, so that what is counted is their
    definition. One exception: a fused attention kernel does work for the pairs that its mask allows, no others.
    What moves no numbers is the other library's, uncounted.
    """

    softmax, rms_norm, layer_norm = Library.softmax, Library.rms_norm, Library.layer_norm
    silu, gelu = Library.silu, Library.gelu

    def __init__(self, inner: Library) -> None:
        self.inner = inner
        self.matrix_flop = 0.0
        self.vector_flop = 0.0
        self.gathered_byte = 0.0
        self.products: list[Product] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def _product(self, m: int, n: int, k: int, copies: int) -> None:
        self.products.append(Product(m, n, k, copies))
        self.matrix_flop += FLOP_PER_FMA * copies * m * n * k

    def elementwise(self, function: Elementwise, *operands: Tensor, out: Tensor | None = None) -> Tensor:
        """One FLOP per element of the result."""
        result = self.inner.elementwise(function, *operands, out=out)
        self.vector_flop += prod(result.shape)
        return result

    def reduce(self, function: Reduction, x: Tensor, axis: int = -1) -> Tensor:
        """FLOP per element that goes in."""
        self.vector_flop += _FLOP_PER_INPUT[function] * prod(x.shape)
        return self.inner.reduce(function, x, axis)

    def matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """2·m·n·k FLOP per copy."""
        self._product(a.shape[-2], b.shape[-1], a.shape[-1], prod(a.shape[:-2]))
        return self.inner.matmul(a, b)

    def linear(self, x: Tensor, weight: Tensor, *bias: Tensor) -> Tensor:
        """2·m·n·k FLOP, and m·n for a bias."""
        result = self.inner.linear(x, weight, *bias)
        self._product(x.shape[0], weight.shape[0], weight.shape[1], 1)
        self.vector_flop += len(bias) * prod(result.shape)
        return result

    def take(self, table: Tensor, rows: Tensor) -> Tensor:
        """The bytes of the rows taken."""
        result = self.inner.take(table, rows)
        self.gathered_byte += result.nbytes
        return result

    def top_k(self, x: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """One comparison per value."""
        self.vector_flop += prod(x.shape)
        return self.inner.top_k(x, count)

    def arg_max(self, x: Tensor) -> Tensor:
        """One comparison per value."""
        self.vector_flop += prod(x.shape)
        return self.inner.arg_max(x)

    def fused_attention(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask, scale: float) -> Tensor:
        """Products and softmax of the pairs that the mask allows."""
        pairs = q.shape[0] * q.shape[1] * float(mask.allowed.sum())
        self.matrix_flop += FLOP_PER_FMA * pairs * (k.shape[-1] + v.shape[-1])
        self.vector_flop += 7.0 * pairs  # scale, add; maximum, subtract, exp, sum, divide
        return self.inner.fused_attention(q, k, v, mask, scale)
