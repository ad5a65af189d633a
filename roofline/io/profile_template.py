"""A new device profile with blanks: what `roofline hardware new` prints."""

from ..errors import RooflineError, clip
from .profile_schema import NAME_PATTERN, SCHEMA

_TEMPLATE = """# A device profile. Fill every blank: each 0 and each ? below. Then: roofline hardware lint NAME.toml
#
# A number is { value, printed, kind, source }: `printed` is the text of the datasheet, `value` the same in SI (989.4e12
# for "989.4 TFLOP/s", 80e9 for "80 GB", 85899345920 for "80 GiB"). The loader compares the two.
# kind: datasheet, measured, derived (`printed` is arithmetic, "900 GB/s / 2"), or assumed (shown beside every result).
# Remember: dense rates, not sparse ones. One direction of a link, not both. GB is not GiB. One device, not the server.
schema = "SCHEMA"
name = "NAME"                # the file is called NAME.toml
title = "?"
vendor = "?"
structure = "gpu"            # gpu, systolic (needs units.array_row and units.array_column), dataflow, cpu
form_factor = "pcie"         # sxm, oam, pcie, low-profile, superchip, module, board, socket
year = 2025
aliases = []
unsupported = []             # formats that the device cannot compute in at all

[units]
count = { value = 0, printed = "? SM", kind = "datasheet", source = "sheet" }
# The clock that, with the count, gives the matrix rates.
clock = { value = 0, printed = "? MHz", kind = "datasheet", source = "sheet" }

[matrix]
# Dense, with fp32 accumulation. fp32 without a matrix unit: the vector rate.
fp32 = { value = 0, printed = "? TFLOP/s", kind = "datasheet", source = "sheet" }
tf32 = { value = 0, printed = "? TFLOP/s", kind = "datasheet", source = "sheet" }
bf16 = { value = 0, printed = "? TFLOP/s", kind = "datasheet", source = "sheet" }
fp16 = { value = 0, printed = "? TFLOP/s", kind = "datasheet", source = "sheet" }
fp8  = { value = 0, printed = "? TFLOP/s", kind = "datasheet", source = "sheet" }
int8 = { value = 0, printed = "? TOP/s", kind = "datasheet", source = "sheet" }

[vector]
fp32 = { value = 0, printed = "? TFLOP/s", kind = "datasheet", source = "sheet" }

[upcast]
# Stored narrow, computed wide. Each of fp32, tf32, bf16, fp16, fp8, int8, int4, fp4 is named exactly once: in [matrix],
# here, or in unsupported.
int4 = "bf16"
fp4  = "bf16"

[memory.last_level_cache]
capacity = { value = 0, printed = "? MB", kind = "datasheet", source = "sheet" }

[memory.dram]
capacity  = { value = 0, printed = "? GB", kind = "datasheet", source = "sheet" }
bandwidth = { value = 0, printed = "? GB/s", kind = "datasheet", source = "sheet" }
reserve_fraction = { value = 0.1, printed = "1 - 0.9", kind = "derived", source = "vllm" }

# One direction of one device. Delete the table of a link that the device does not have.
[link.intra_node]
bandwidth   = { value = 0, printed = "? GB/s / 2", kind = "derived", source = "sheet" }
domain_size = { value = 8, printed = "8 GPU", kind = "assumed", source = "guess" }
latency     = { value = 2e-6, printed = "2 us", kind = "assumed", source = "guess" }

[power]
tdp = { value = 0, printed = "? W", kind = "datasheet", source = "sheet" }

# [price]
# on_demand = { value = 0, printed = "? USD/h", kind = "datasheet", source = "where", date = 2026-01-31 }

[efficiency]
# Fractions that well-tuned kernels reach: the medians of A100, H100, H200 and B200. Replace what you have measured.
matrix          = { value = 0.8, printed = "0.8", kind = "assumed", source = "median" }
vector          = { value = 0.5, printed = "0.5", kind = "assumed", source = "median" }
dram            = { value = 0.82, printed = "0.82", kind = "assumed", source = "median" }
link            = { value = 0.75, printed = "0.75", kind = "assumed", source = "median" }
kernel_overhead = { value = 2.3e-6, printed = "2.3 us", kind = "assumed", source = "median" }

[sources]
sheet  = "?"                 # who printed it, document, version or date
vllm   = "vLLM argument --gpu-memory-utilization, default 0.9; the rest stays free"
guess  = "general knowledge, no document at hand"
median = "median of the shipped profiles of A100, H100, H200 and B200; vector: general knowledge"
"""


def template(name: str = "my-device") -> str:
    """The text of a profile called `name` in which 0 and ? are the blanks.

    Errors: RooflineError for a name that cannot be that of a profile.
    """
    if not NAME_PATTERN.fullmatch(name):
        raise RooflineError(
            f"name: {clip(name)} cannot name a profile. Accepted: up to 40 of a-z, 0-9, - and ., such as my-gpu-80gb."
        )
    return _TEMPLATE.replace("SCHEMA", SCHEMA).replace("NAME", name)
