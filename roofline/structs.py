"""The element type of every quantity, and the names of number formats."""

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
"""An array of float64. Counts are float64 too: 4·B·T²·d·h overflows int64 on a realistic workload."""

Number = float | Array
"""One scenario (a float) or a million (an array): every formula takes either."""

FLOP_PER_FMA = 2.0
"""One fused multiply-add is two floating-point operations. Stated here once."""

NO_WINDOW = 2.0**50
"""The window of full attention: a finite number beyond any context, so that min() and 0·window stay exact."""


class Dtype(StrEnum):
    """A number format. Storage cost is `bit_per_value`; the rate of arithmetic in it is a fact of a device."""

    FP32 = "fp32"
    TF32 = "tf32"
    BF16 = "bf16"
    FP16 = "fp16"
    FP8 = "fp8"
    INT8 = "int8"
    INT4 = "int4"
    FP4 = "fp4"


STORED_BYTE = {
    Dtype.FP32: 4.0,
    Dtype.TF32: 4.0,
    Dtype.BF16: 2.0,
    Dtype.FP16: 2.0,
    Dtype.FP8: 1.0,
    Dtype.INT8: 1.0,
    Dtype.INT4: 0.5 + 2.0 / 128.0,
    Dtype.FP4: 0.5 + 1.0 / 32.0,
}
"""Bytes that one stored value costs, scales included. int4: one 16-bit scale per group of 128 (GPTQ and AWQ
default). fp4: one 8-bit scale per block of 32 (OCP Microscaling Formats v1.0, MXFP4). fp8 and int8 scales are per
channel or tensor, under 0.1 %: ignored."""

MANTISSA_RANK = {
    Dtype.FP4: 0,
    Dtype.INT4: 1,
    Dtype.FP8: 2,
    Dtype.INT8: 3,
    Dtype.FP16: 4,
    Dtype.BF16: 5,
    Dtype.TF32: 6,
    Dtype.FP32: 7,
}
"""Order of formats by what a mixed product is computed in: W4A16 runs in 16-bit arithmetic."""


def arithmetic_dtype(left: Dtype, right: Dtype) -> Dtype:
    """The format that a product of `left` and `right` is computed in: the wider of the two."""
    return max(left, right, key=MANTISSA_RANK.__getitem__)
