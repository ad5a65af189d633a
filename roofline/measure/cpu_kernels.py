"""Which kernels array libraries run on a processor: discrete facts that a host's profile declares by name, and that no
fit has to find. Of libraries that are not known, a fit decides between the kernels that are (see calibrate.cpu).
"""

from collections.abc import Mapping

import numpy as np

from .environment import blas_name, cpu_fields
from .torch_executor import torch_blas

Kernels = Mapping[str, Mapping[str, Mapping[str, float]]]
"""For each family and format, facts by name."""

ROWS = ("activation", "copy", "embedding", "head_concat", "mask", "norm", "residual", "rope", "softmax")
PRODUCTS = ("gemm", "attention_scores", "attention_values")

OPENBLAS = {"single_rows": 1.0, "unpacked_value": 1200.0, "one_core_fma": 524288.0}
MKL = {"single_rows": 3.0, "unpacked_value": np.inf, "one_core_fma": 0.0}


def cpu_kernels() -> Mapping[str, Kernels]:
    """What is known of NumPy and torch on this processor, by library."""
    numpy_rows = {"grain_byte": np.inf, "grain_row": np.inf}
    torch_rows = {"grain_byte": 4.0 * 32768, "grain_row": 1.0}
    openblas = "openblas" in blas_name() and "avx512f" in cpu_fields().get("flags", "").split()
    return {
        "numpy": _by_family(numpy_rows, OPENBLAS if openblas else {}),
        "torch": _by_family(torch_rows, MKL if torch_blas() == "mkl" else {}),
    }


def _by_family(rows: Mapping[str, float], products: Mapping[str, float]) -> Kernels:
    found: dict[str, Mapping[str, Mapping[str, float]]] = {family: {"bf16": rows} for family in ROWS}
    if products:
        found |= {family: {"fp32": products} for family in PRODUCTS}
        found["attention_values"] = {"fp32": {**products, "unpacked_value": np.inf}}  # its weight is not transposed
    return found
