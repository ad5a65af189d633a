"""What an array library must do so that the steps of a transformer, written once, run on it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..structs import NO_WINDOW

Tensor = Any
"""An array of whichever library runs. Both have shape, nbytes, reshape, swapaxes, basic slicing."""

NORM_EPSILON = 1e-6

GELU_SLOPE = 1.702
"""GELU as x · sigmoid(1.702 x) (Hendrycks and Gimpel, arXiv 1606.08415, section 2)."""


class Elementwise(StrEnum):
    """Functions of one or two arrays, element by element with broadcasting: one vector FLOP per value that results."""

    ADD = "add"
    SUBTRACT = "subtract"
    MULTIPLY = "multiply"
    DIVIDE = "divide"
    NEGATIVE = "negative"
    EXP = "exp"


class Reduction(StrEnum):
    """Functions of an array along one axis, which is kept with length 1."""

    MAX = "max"
    SUM = "sum"
    MEAN = "mean"
    MEAN_SQUARE = "mean_square"


class MaskKind(StrEnum):
    """What a fused kernel must be told: nothing, that attention is causal from the first key on, or every pair."""

    OPEN = "open"
    CAUSAL = "causal"
    EXPLICIT = "explicit"


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """Who sees whom: `allowed`, shape (new tokens, keys), and the same as 0 and -inf to be added to scores."""

    kind: MaskKind
    allowed: NDArray[np.bool_]
    additive: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class ExpertRows:
    """Routed rows sorted by expert: `source`, the token of each row; `place`, where each (token, choice) went;
    `count`, rows of each expert.
    """

    source: Tensor
    place: Tensor
    count: tuple[int, ...]


class Library(ABC):
    """An array library, one format of activations and one of weights. Arrays stay on its device.

    Subclasses give the primitives; what is built from them here may be replaced where the library has a function of
    its own for it, with the same result up to rounding.
    """

    name: str
    version: str
    stream_byte: int

    @abstractmethod
    def use_threads(self, count: int) -> None:
        """Compute with `count` threads from now on. Errors: RooflineError where the library cannot be told."""

    @abstractmethod
    def tensor(self, values: NDArray[Any]) -> Tensor:
        """`values` in the format of activations."""

    @abstractmethod
    def weight(self, values: NDArray[Any]) -> Tensor:
        """`values` in the format of weights of linear layers."""

    @abstractmethod
    def index(self, values: NDArray[Any]) -> Tensor:
        """`values` as indices."""

    @abstractmethod
    def array(self, tensor: Tensor) -> NDArray[Any]:
        """`tensor` as a NumPy array of at least 32 bits."""

    @abstractmethod
    def empty(self, shape: tuple[int, ...]) -> Tensor:
        """A new array of zeros in the format of activations."""

    @abstractmethod
    def copy(self, tensor: Tensor) -> Tensor:
        """A copy with the same memory layout that shares nothing with `tensor`."""

    @abstractmethod
    def address(self, tensor: Tensor) -> int:
        """Where the first value lies in memory: equal for a tensor and a part of it that begins there."""

    @abstractmethod
    def elementwise(self, function: Elementwise, *operands: Tensor, out: Tensor | None = None) -> Tensor:
        """`function` of the operands, written to `out` if given."""

    @abstractmethod
    def reduce(self, function: Reduction, x: Tensor, axis: int = -1) -> Tensor:
        """`function` of `x` along `axis`."""

    @abstractmethod
    def inverse_root(self, x: Tensor) -> Tensor:
        """1 / sqrt(x + NORM_EPSILON): one value per row, which the cost model does not count."""

    @abstractmethod
    def matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """The product of a [..., m, k] and b [..., k, n], the leading axes alike."""

    @abstractmethod
    def transpose(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        """A view with the axes in the given order."""

    @abstractmethod
    def concat(self, parts: Sequence[Tensor], axis: int = -1) -> Tensor:
        """The parts one after another along `axis`."""

    @abstractmethod
    def contiguous(self, x: Tensor) -> Tensor:
        """`x` in row-major order, copied if it is not."""

    @abstractmethod
    def assign(self, slot: Tensor, values: Tensor) -> None:
        """Write `values` into the view `slot`."""

    @abstractmethod
    def take(self, table: Tensor, rows: Tensor) -> Tensor:
        """Rows of `table` by index."""

    @abstractmethod
    def top_k(self, x: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """The `count` largest values of the last axis, in any order, and where they are (indices as wide as values)."""

    @abstractmethod
    def arg_max(self, x: Tensor) -> Tensor:
        """Where the largest value of the last axis is."""

    @abstractmethod
    def sort_by_expert(self, choice: Tensor, experts: int) -> ExpertRows:
        """Rows in the order of their expert; `choice` [tokens, per token] names each row's expert."""

    def linear(self, x: Tensor, weight: Tensor, *bias: Tensor) -> Tensor:
        """Product of x [m, k] and the transpose of weight [n, k], plus bias [n] where there is one."""
        product = self.matmul(x, weight.swapaxes(-1, -2))
        return self.elementwise(Elementwise.ADD, product, *bias, out=product) if bias else product

    def softmax(self, x: Tensor) -> Tensor:
        """exp(x - max) over its sum, along the last axis."""
        e = self.elementwise(Elementwise.SUBTRACT, x, self.reduce(Reduction.MAX, x))
        e = self.elementwise(Elementwise.EXP, e, out=e)
        return self.elementwise(Elementwise.DIVIDE, e, self.reduce(Reduction.SUM, e), out=e)

    def rms_norm(self, x: Tensor, weight: Tensor) -> Tensor:
        """Each row over the root of its mean square, times weight (Zhang and Sennrich, arXiv 1910.07467)."""
        scale = self.inverse_root(self.reduce(Reduction.MEAN_SQUARE, x))
        y = self.elementwise(Elementwise.MULTIPLY, x, scale)
        return self.elementwise(Elementwise.MULTIPLY, y, weight, out=y)

    def layer_norm(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Each row less its mean, over its standard deviation, times weight plus bias (Ba et al., arXiv 1607.06450)."""
        y = self.elementwise(Elementwise.SUBTRACT, x, self.reduce(Reduction.MEAN, x))
        scale = self.inverse_root(self.reduce(Reduction.MEAN_SQUARE, y))
        y = self.elementwise(Elementwise.MULTIPLY, y, scale, out=y)
        y = self.elementwise(Elementwise.MULTIPLY, y, weight, out=y)
        return self.elementwise(Elementwise.ADD, y, bias, out=y)

    def silu(self, x: Tensor) -> Tensor:
        """Elementwise x / (1 + exp(-x))."""
        e = self.elementwise(Elementwise.NEGATIVE, x)
        e = self.elementwise(Elementwise.EXP, e, out=e)
        e = self.elementwise(Elementwise.ADD, e, 1.0, out=e)
        return self.elementwise(Elementwise.DIVIDE, x, e, out=e)

    def gelu(self, x: Tensor) -> Tensor:
        """Elementwise x / (1 + exp(-1.702 x))."""
        e = self.elementwise(Elementwise.MULTIPLY, x, GELU_SLOPE)
        e = self.elementwise(Elementwise.NEGATIVE, e, out=e)
        e = self.elementwise(Elementwise.EXP, e, out=e)
        e = self.elementwise(Elementwise.ADD, e, 1.0, out=e)
        return self.elementwise(Elementwise.DIVIDE, x, e, out=e)

    def fused_attention(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask, scale: float) -> Tensor:
        """Attention [sequences, heads, new tokens, value dim] in one call; k and v have one head per group of q's."""
        grouped = grouped_queries(q, k.shape[1])
        scores = self.matmul(grouped, k.swapaxes(-1, -2)).reshape(*q.shape[:3], k.shape[2])
        scores = self.elementwise(Elementwise.MULTIPLY, scores, scale, out=scores)
        scores = self.elementwise(Elementwise.ADD, scores, mask.additive, out=scores)
        weights = self.softmax(scores).reshape(*grouped.shape[:3], k.shape[2])
        return self.matmul(weights, v).reshape(*q.shape[:3], v.shape[3])


def grouped_queries(q: Tensor, kv_heads: int) -> Tensor:
    """[sequences, heads, new tokens, dim] as [sequences, kv heads, group x new tokens, dim]: one product per KV head.

    A view where heads or new tokens are alone in their group, else a copy (which the cost model ignores).
    """
    sequences, heads, new_token, dim = q.shape
    return q.reshape(sequences, kv_heads, heads // kv_heads * new_token, dim)


def visible(new_token: int, context: int, window: float, causal: bool) -> NDArray[np.bool_]:
    """Which of the kept keys each new token sees, shape (new tokens, keys).

    Kept are the keys that at least one of them sees: the last min(context, window - 1) cached ones and the new ones.
    """
    kept = context if window >= NO_WINDOW else min(context, int(window) - 1)
    query = np.arange(new_token)[:, None]
    key = np.arange(-kept, new_token)[None, :]
    seen = query - key < window
    return seen & (key <= query) if causal else seen


def make_mask(library: Library, new_token: int, context: int, window: float, causal: bool) -> Mask:
    """The Mask of `new_token` tokens behind `context` cached ones."""
    allowed = visible(new_token, context, window, causal)
    additive = library.tensor(np.where(allowed, 0.0, -np.inf))
    if allowed.all():
        return Mask(MaskKind.OPEN, allowed, additive)
    plain = causal and allowed.shape[0] == allowed.shape[1] and window >= allowed.shape[1]
    return Mask(MaskKind.CAUSAL if plain else MaskKind.EXPLICIT, allowed, additive)
