"""One step of a model as kernels."""

from .layer import LatentForm, cache_values, kv_heads_per_device
from .plan import Plan, check_parallelism, plan, row_counts, stage_layers

__all__ = [
    "LatentForm",
    "Plan",
    "cache_values",
    "check_parallelism",
    "kv_heads_per_device",
    "plan",
    "row_counts",
    "stage_layers",
]
