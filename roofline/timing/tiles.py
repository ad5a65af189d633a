"""The GEMM kernels of a library: which tiles it was compiled for and when it may pick each. Facts, not fits."""

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class TileKernel:
    """One compiled kernel: a block of threads computes `m` x `n` outputs, `k_slices` k-steps at a time.

    It is used for `above_m` < M <= `up_to_m` (grouped kernels: tokens per expert); `cluster_m` blocks along M go
    together: they are launched at once, the last ones possibly empty (grouped kernels: they share one pass over the
    weights); `splits` are the split-K factors it is offered with.
    """

    m: float
    n: float
    splits: tuple[float, ...] = (1.0,)
    above_m: float = 0.0
    up_to_m: float = float("inf")
    cluster_m: float = 1.0
    k_slices: float = 1.0


@dataclass(frozen=True, slots=True)
class TileSet:
    """The kernels of a library and its rule of choice: the fastest of those that it considers.

    `k_step_byte`: bytes along K of one step of the main loop. A split is considered down to `least_split_steps`
    k-steps and up to `most_split_waves` waves. A tile that could still grow (to `large_side` and `large_area`) is
    dropped once it needs more than `most_small_waves` waves: libraries take large tiles then.
    """

    kernels: tuple[TileKernel, ...]
    k_step_byte: float
    least_split_steps: float = 4.0
    most_split_waves: float = 4.0
    most_small_waves: float = 2.0
    large_side: float = 256.0
    large_area: float = 128.0 * 256.0


_SPLITS = (2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 16.0, 20.0, 24.0, 32.0)
_ANY = float("inf")
_ALL = (1.0, *_SPLITS)

_CUBLAS_AMPERE = TileSet(
    kernels=(
        TileKernel(32, 64, _ALL),
        TileKernel(64, 64, _ALL),
        TileKernel(96, 64),
        TileKernel(64, 128, _ALL),
        TileKernel(64, 192, _SPLITS),
        TileKernel(128, 96, _SPLITS),
        TileKernel(64, 256),
        TileKernel(128, 128),
        TileKernel(128, 256, _ALL[:7]),
        TileKernel(1, 4, up_to_m=1, k_slices=8),
    ),
    k_step_byte=64.0,
    most_split_waves=8.0,
)

_CUTLASS_WEIGHT_ONLY_AMPERE = TileSet(
    kernels=tuple(TileKernel(m, 128, (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0)) for m in (16, 32, 64, 128)),
    k_step_byte=128.0,
    most_small_waves=_ANY,
)

_CUBLAS_HOPPER = TileSet(
    kernels=(
        TileKernel(64, 16),
        TileKernel(32, 64),
        TileKernel(64, 64),
        TileKernel(96, 32, _SPLITS),
        TileKernel(96, 64),
        TileKernel(64, 128, _SPLITS),
        TileKernel(96, 128),
        TileKernel(128, 128),
        TileKernel(96, 192),
        TileKernel(64, 256, _SPLITS[:6]),
        TileKernel(128, 192),
        TileKernel(192, 128),
        TileKernel(96, 256, _SPLITS[:6]),
    ),
    k_step_byte=128.0,
)

_CUTLASS_FP8_HOPPER = TileSet(
    kernels=(
        TileKernel(16, 64, up_to_m=64),
        TileKernel(64, 16, up_to_m=64),
        TileKernel(64, 64, up_to_m=64),
        TileKernel(64, 128, above_m=64, up_to_m=128),
        TileKernel(128, 128, above_m=128, cluster_m=2),
    ),
    k_step_byte=128.0,
    most_small_waves=_ANY,
)

_ROCBLAS_CDNA2 = TileSet(
    kernels=tuple(
        TileKernel(m, n, (1.0, 2.0, 4.0, 8.0, 16.0))
        for m, n in (
            *((16, 64), (32, 32), (64, 32), (32, 64), (64, 64), (96, 64), (128, 64), (64, 128), (144, 64)),
            *((96, 128), (128, 128), (160, 128), (192, 128), (64, 256), (256, 128), (128, 256)),
        )
    ),
    k_step_byte=64.0,
)


class TileLibrary(Enum):
    """Kernel sets by name, as a calibration declares them.

    The cuBLAS sets were chosen, tile by tile, on rows used for fitting (aiconfigurator A100 and H100, bf16). CUTLASS
    for fp8 picks by the number of rows alone and never splits K, as the steps at 64, 128 and every 256 rows show.
    rocBLAS: macro tiles of some of its kernels for gfx90a in 16 bits (ROCm/rocBLAS, Tensile/Logic/asm_full/aldebaran,
    *_HHS_BH.yaml: from 16 to 256 wide, also 144; 32 and 64 deep; GlobalSplitU); it picks by tables of measured sizes.
    """

    CUBLAS_AMPERE = _CUBLAS_AMPERE
    CUBLAS_HOPPER = _CUBLAS_HOPPER
    CUTLASS_WEIGHT_ONLY_AMPERE = _CUTLASS_WEIGHT_ONLY_AMPERE
    CUTLASS_FP8_HOPPER = _CUTLASS_FP8_HOPPER
    ROCBLAS_CDNA2 = _ROCBLAS_CDNA2
