"""NumPy as an executor: fp32 for measuring, float64 as the reference that other executors are compared with."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .environment import use_blas_threads
from .library import NORM_EPSILON, Elementwise, ExpertRows, Library, Reduction, Tensor

_ELEMENTWISE = {function: getattr(np, function.value) for function in Elementwise}
_REDUCTION: dict[Reduction, Any] = {Reduction.MAX: np.max, Reduction.SUM: np.sum, Reduction.MEAN: np.mean}


class NumpyLibrary(Library):
    """NumPy in fp32 or float64. Every array is of that format, weights too."""

    name = "numpy"

    def __init__(self, dtype: Any = np.float32) -> None:
        self.version = np.__version__
        self.dtype = np.dtype(dtype)
        self.stream_byte = self.dtype.itemsize
        self._index_dtype = np.dtype(f"i{self.stream_byte}")

    def use_threads(self, count: int) -> None:
        """Threads of NumPy's BLAS; everything else in NumPy runs on one."""
        use_blas_threads(count)

    def tensor(self, values: NDArray[Any]) -> Tensor:
        """`values` in fp32 (or float64)."""
        return np.ascontiguousarray(values, self.dtype)

    weight = tensor

    def index(self, values: NDArray[Any]) -> Tensor:
        """`values` as 64-bit integers."""
        return np.asarray(values, np.int64)

    def array(self, tensor: Tensor) -> NDArray[Any]:
        """`tensor` itself."""
        return np.asarray(tensor)

    def empty(self, shape: tuple[int, ...]) -> Tensor:
        """Zeros."""
        return np.zeros(shape, self.dtype)

    def copy(self, tensor: Tensor) -> Tensor:
        """A copy in the same memory order."""
        return tensor.copy(order="K")

    def address(self, tensor: Tensor) -> int:
        """The data pointer."""
        return int(tensor.__array_interface__["data"][0])

    def elementwise(self, function: Elementwise, *operands: Tensor, out: Tensor | None = None) -> Tensor:
        """A ufunc."""
        return _ELEMENTWISE[function](*operands, out=out)

    def reduce(self, function: Reduction, x: Tensor, axis: int = -1) -> Tensor:
        """A NumPy reduction; the mean square of rows as a product, without an array of squares."""
        if function is Reduction.MEAN_SQUARE:
            return np.einsum("...i,...i->...", x, x)[..., None] / self.dtype.type(x.shape[axis])
        return _REDUCTION[function](x, axis=axis, keepdims=True)

    def inverse_root(self, x: Tensor) -> Tensor:
        """1 / sqrt(x + epsilon)."""
        return 1.0 / np.sqrt(x + self.dtype.type(NORM_EPSILON))

    def matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """BLAS, once per leading index."""
        return np.matmul(a, b)

    def transpose(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        """A view."""
        return x.transpose(axes)

    def concat(self, parts: Sequence[Tensor], axis: int = -1) -> Tensor:
        """A new array."""
        return np.concatenate(parts, axis=axis)

    def contiguous(self, x: Tensor) -> Tensor:
        """`x` in C order."""
        return np.ascontiguousarray(x)

    def assign(self, slot: Tensor, values: Tensor) -> None:
        """Copy into the view."""
        slot[...] = values

    def take(self, table: Tensor, rows: Tensor) -> Tensor:
        """Rows by index."""
        return table.take(rows, axis=0)

    def top_k(self, x: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """By partial sorting."""
        place = np.argpartition(x, -count, axis=-1)[..., x.shape[-1] - count :]
        return np.take_along_axis(x, place, axis=-1), place.astype(self._index_dtype)

    def arg_max(self, x: Tensor) -> Tensor:
        """Index of the first largest value."""
        return x.argmax(axis=-1)

    def sort_by_expert(self, choice: Tensor, experts: int) -> ExpertRows:
        """A stable sort."""
        flat = choice.reshape(-1)
        order = np.argsort(flat, kind="stable")
        place = np.empty_like(order)
        place[order] = np.arange(order.size)
        count = np.bincount(flat, minlength=experts)
        return ExpertRows(order // choice.shape[-1], place.reshape(choice.shape), tuple(count.tolist()))
