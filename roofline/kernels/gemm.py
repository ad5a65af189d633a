"""Dense matrix products with a weight: projections, MLP matrices, router, LM head."""

from dataclasses import dataclass

from ..cost import Cost
from ..structs import FLOP_PER_FMA, STORED_BYTE, Array, Dtype, Number


@dataclass(frozen=True, slots=True)
class Gemm:
    """C[m, n] = A[m, k] · W[k, n] + b[n], `copies` independent ones of them (one per head in absorbed MLA).

    Shapes broadcast; the last axis runs over kernels. `weight`, `activation`, `output`: formats of W, A and C.
    """

    m: Number
    n: Array
    k: Array
    copies: Array
    bias: Array
    weight: Dtype
    activation: Dtype
    output: Dtype


def gemm_cost(gemm: Gemm) -> Cost:
    """Cost of one execution. Counts 2·m·n·k FLOP, W and b once, A once, C once.

    Ignores: re-reads of A or W by tiles (timing models know them), scales of quantised formats beyond STORED_BYTE,
    conversion of W to the arithmetic format.
    """
    m, n, k, copies = gemm.m, gemm.n, gemm.k, gemm.copies
    return Cost(
        matrix_flop=FLOP_PER_FMA * copies * m * n * k,
        vector_flop=copies * m * n * gemm.bias,
        weight_read_byte=copies * n * (k * STORED_BYTE[gemm.weight] + gemm.bias * STORED_BYTE[gemm.output]),
        activation_read_byte=copies * m * k * STORED_BYTE[gemm.activation],
        activation_write_byte=copies * m * n * STORED_BYTE[gemm.output],
    )
