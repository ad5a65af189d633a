"""PyTorch as an executor, eager, on CPU or CUDA. The only module that imports torch, and only when one is made."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import RooflineError, unknown
from ..structs import Dtype
from .library import GELU_SLOPE, NORM_EPSILON, Elementwise, ExpertRows, Library, Mask, MaskKind, Reduction, Tensor

_FORMATS = {Dtype.FP32: "float32", Dtype.BF16: "bfloat16", Dtype.FP16: "float16"}


def require_torch() -> Any:
    """The torch module. Errors: RooflineError where it is not installed."""
    try:
        import torch
    except ImportError:
        raise RooflineError(
            "library: torch is not installed here. Accepted without it: numpy. To fix: pip install torch, or leave out "
            "--library torch."
        ) from None
    return torch


def torch_blas() -> str:
    """The BLAS that torch was built with ("mkl", "open", …); empty where torch is missing or does not say."""
    try:
        told: str = require_torch().__config__.show()
    except RooflineError:
        return ""
    return told.partition("BLAS_INFO=")[2].split(",")[0].strip()


@dataclass(frozen=True, slots=True, eq=False)
class Int8Weight:
    """A matrix [n, k] in int8 and one scale per row in the format of activations (not counted in bytes)."""

    values: Tensor
    scale: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the matrix."""
        return tuple(self.values.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the matrix without its scales, as STORED_BYTE counts."""
        return int(self.values.nbytes)


class TorchLibrary(Library):
    """PyTorch on `device` with activations in fp32, bf16 or fp16, and weights in the same format or in int8.

    Errors: RooflineError where torch or CUDA is missing, or a format is not accepted.
    """

    name = "torch"

    def __init__(self, activations: Dtype = Dtype.FP32, weights: Dtype | None = None, device: str = "cpu") -> None:
        self.torch = torch = require_torch()
        if device == "cuda" and not torch.cuda.is_available():
            raise RooflineError("device: torch finds no CUDA GPU here. Accepted: cpu, or cuda on a machine with one.")
        if activations not in _FORMATS:
            raise unknown("activations", activations.value, [dtype.value for dtype in _FORMATS])
        if weights not in (None, activations, Dtype.INT8):
            raise unknown("weights", weights.value if weights else "", [activations.value, Dtype.INT8.value])
        self.version = torch.__version__
        self.device = device
        self.dtype = getattr(torch, _FORMATS[activations])
        self.int8_weights = weights is Dtype.INT8
        self.stream_byte = self.dtype.itemsize
        self._index_dtype = {2: torch.int16, 4: torch.int32}[self.stream_byte]
        self._elementwise = {function: getattr(torch, function.value) for function in Elementwise}
        self._reduction = {Reduction.MAX: torch.amax, Reduction.SUM: torch.sum, Reduction.MEAN: torch.mean}

    def use_threads(self, count: int) -> None:
        """Threads inside an operation, on the CPU."""
        self.torch.set_num_threads(count)

    def tensor(self, values: NDArray[Any]) -> Tensor:
        """`values` on the device in the format of activations."""
        source = self.torch.from_numpy(np.ascontiguousarray(values))
        return source.to(device=self.device, dtype=self.dtype)

    def weight(self, values: NDArray[Any]) -> Tensor:
        """`values` in the format of weights; int8 with one scale per row of the matrix."""
        if not self.int8_weights:
            return self.tensor(values)
        scale = np.abs(values).max(axis=-1, keepdims=True) / 127.0
        rounded = self.torch.from_numpy(np.rint(values / scale).astype(np.int8)).to(self.device)
        return Int8Weight(rounded, self.tensor(scale[:, 0]))

    def index(self, values: NDArray[Any]) -> Tensor:
        """`values` as 64-bit integers on the device."""
        return self.torch.from_numpy(np.asarray(values, np.int64)).to(self.device)

    def array(self, tensor: Tensor) -> NDArray[Any]:
        """`tensor` on the host, widened to fp32 where it is narrower."""
        on_host = tensor.cpu()
        return np.asarray(on_host.float() if tensor.dtype.is_floating_point else on_host)

    def empty(self, shape: tuple[int, ...]) -> Tensor:
        """Zeros on the device."""
        return self.torch.zeros(shape, dtype=self.dtype, device=self.device)

    def copy(self, tensor: Tensor) -> Tensor:
        """A clone."""
        if isinstance(tensor, Int8Weight):
            return Int8Weight(tensor.values.clone(), tensor.scale)
        return tensor.clone()

    def address(self, tensor: Tensor) -> int:
        """The data pointer."""
        return int(tensor.data_ptr())

    def elementwise(self, function: Elementwise, *operands: Tensor, out: Tensor | None = None) -> Tensor:
        """A torch function; the rounding to `out` is the library's."""
        return self._elementwise[function](*operands, out=out)

    def reduce(self, function: Reduction, x: Tensor, axis: int = -1) -> Tensor:
        """A torch reduction."""
        if function is Reduction.MEAN_SQUARE:
            return (x * x).mean(dim=axis, keepdim=True)
        return self._reduction[function](x, dim=axis, keepdim=True)

    def inverse_root(self, x: Tensor) -> Tensor:
        """One rsqrt per row."""
        return self.torch.rsqrt(x + NORM_EPSILON)

    def matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """torch.matmul."""
        return self.torch.matmul(a, b)

    def transpose(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        """A view."""
        return x.permute(*axes)

    def concat(self, parts: Sequence[Tensor], axis: int = -1) -> Tensor:
        """torch.cat."""
        return self.torch.cat(tuple(parts), dim=axis)

    def contiguous(self, x: Tensor) -> Tensor:
        """`x` in row-major order."""
        return x.contiguous()

    def assign(self, slot: Tensor, values: Tensor) -> None:
        """Copy into the view."""
        slot.copy_(values)

    def take(self, table: Tensor, rows: Tensor) -> Tensor:
        """Rows by index."""
        return self.torch.nn.functional.embedding(rows, table)

    def top_k(self, x: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """torch.topk."""
        values, place = self.torch.topk(x, count, dim=-1)
        return values, place.to(self._index_dtype)

    def arg_max(self, x: Tensor) -> Tensor:
        """torch.argmax."""
        return self.torch.argmax(x, dim=-1)

    def sort_by_expert(self, choice: Tensor, experts: int) -> ExpertRows:
        """A stable sort; the counts come to the host, which launches one product per expert."""
        flat = choice.reshape(-1).long()
        order = self.torch.argsort(flat, stable=True)
        place = self.torch.empty_like(order)
        place[order] = self.torch.arange(order.numel(), device=order.device)
        count = self.torch.bincount(flat, minlength=experts)
        source = self.torch.div(order, choice.shape[-1], rounding_mode="floor")
        return ExpertRows(source, place.reshape(choice.shape), tuple(count.tolist()))

    def linear(self, x: Tensor, weight: Tensor, *bias: Tensor) -> Tensor:
        """torch.nn.functional.linear; int8 weights are widened inside the library's own kernel."""
        if isinstance(weight, Int8Weight):
            product = self.torch._weight_int8pack_mm(x, weight.values, weight.scale)
            return product + bias[0] if bias else product
        return self.torch.nn.functional.linear(x, weight, *bias)

    def softmax(self, x: Tensor) -> Tensor:
        """torch.softmax."""
        return self.torch.softmax(x, dim=-1)

    def rms_norm(self, x: Tensor, weight: Tensor) -> Tensor:
        """torch.nn.functional.rms_norm."""
        return self.torch.nn.functional.rms_norm(x, (x.shape[-1],), weight, NORM_EPSILON)

    def layer_norm(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """torch.nn.functional.layer_norm."""
        return self.torch.nn.functional.layer_norm(x, (x.shape[-1],), weight, bias, NORM_EPSILON)

    def silu(self, x: Tensor) -> Tensor:
        """torch.nn.functional.silu."""
        return self.torch.nn.functional.silu(x)

    def gelu(self, x: Tensor) -> Tensor:
        """By torch.sigmoid."""
        return self.torch.sigmoid(x * GELU_SLOPE).mul_(x)

    def fused_attention(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask, scale: float) -> Tensor:
        """torch.nn.functional.scaled_dot_product_attention; the library picks the kernel."""
        return self.torch.nn.functional.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=mask.additive if mask.kind is MaskKind.EXPLICIT else None,
            is_causal=mask.kind is MaskKind.CAUSAL,
            scale=scale,
            enable_gqa=q.shape[1] != k.shape[1],
        )
