"""A matrix product whose activations are quantised first, by a kernel of its own: two kernels, one measured time."""

from dataclasses import dataclass

import numpy as np

from ..structs import Dtype, Number
from .chip import Chip
from .gemm import GemmParameters, QuantiseParameters, gemm_time, quantise_time
from .loop import MODEL_STEP, BenchmarkLoop
from .parameter import nested
from .time import Time


@dataclass(frozen=True, slots=True)
class QuantisedGemmParameters:
    """Parameters of both kernels."""

    product: GemmParameters = nested(GemmParameters)  # noqa: RUF009 - a field, as dataclasses.field
    quantise: QuantiseParameters = nested(QuantiseParameters)  # noqa: RUF009


def quantised_gemm_time(
    m: Number,
    n: Number,
    k: Number,
    *,
    chip: Chip,
    parameters: QuantisedGemmParameters,
    activation: Dtype = Dtype.FP8,
    weight: Dtype = Dtype.FP8,
    products: Number = 1.0,
    loop: BenchmarkLoop = MODEL_STEP,
) -> Time:
    """Seconds to quantise A[m,k] and multiply it with W[n,k]; elementwise. See quantise_time and gemm_time."""
    product = gemm_time(
        *(m, n, k),
        chip=chip,
        parameters=parameters.product,
        activation=activation,
        weight=weight,
        products=products,
        loop=loop,
    )
    narrowed = quantise_time(m * products, k, chip=chip, parameters=parameters.quantise, target=activation)
    return Time(
        product.compute_s + narrowed.compute_s,
        product.memory_s + narrowed.memory_s,
        product.link_s + narrowed.link_s,
        product.overhead_s + narrowed.overhead_s,
        np.asarray(product.total_s + narrowed.total_s),
        product.roofline_s + narrowed.roofline_s,
    )
