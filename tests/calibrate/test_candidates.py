"""Which kernels a fit may start from: those that exist for the records' formats and family."""

from dataclasses import replace

import numpy as np
import pytest

from roofline.calibrate.candidates import candidates
from roofline.io.profiles import load_device, load_target
from roofline.io.records import DIMENSIONS, Family, Precision, Records
from roofline.structs import Dtype
from roofline.timing.calibration import Parameters
from roofline.timing.chip import chip_of
from roofline.timing.gemm import GemmParameters, gemm_time
from roofline.timing.loop import BenchmarkLoop
from roofline.timing.parameter import facts_of, value_of
from roofline.timing.pointwise import PointwiseParameters
from roofline.timing.systolic import SystolicGatherParameters
from roofline.timing.tiles import TileLibrary

BF16 = Precision("bf16", Dtype.BF16, Dtype.BF16, Dtype.BF16)
FP8 = Precision("fp8", Dtype.FP8, Dtype.FP8, Dtype.FP8)
INT4 = Precision("int4_weight_only", Dtype.BF16, Dtype.INT4, Dtype.BF16)
MI210 = load_device("mi210")


def records(family: Family, precision: Precision = BF16, loop: BenchmarkLoop | None = None) -> Records:
    one = np.ones(1)
    return Records(
        family, "mi210", "pytorch", "", "step", precision, loop or BenchmarkLoop(), {}, one, one, "a.csv", "0"
    )


def priors(of: Records) -> list[Parameters]:
    return [option.prior for option in candidates(of, MI210)]


@pytest.mark.parametrize(
    ("precision", "has", "lacks"),
    [
        (BF16, "ROCBLAS_CDNA2 CUBLAS_HOPPER", "CUTLASS_FP8_HOPPER CUTLASS_WEIGHT_ONLY_AMPERE"),
        (FP8, "CUTLASS_FP8_HOPPER CUBLAS_HOPPER", "ROCBLAS_CDNA2 CUTLASS_WEIGHT_ONLY_AMPERE"),
        (INT4, "CUTLASS_WEIGHT_ONLY_AMPERE CUBLAS_AMPERE", "CUTLASS_FP8_HOPPER"),
    ],
)
def test_libraries_have_kernels_for_the_formats(precision: Precision, has: str, lacks: str):
    found = {prior.library.name for prior in priors(records(Family.GEMM, precision)) if type(prior) is GemmParameters}
    assert set(has.split()) <= found and not set(lacks.split()) & found


def test_reductions_may_read_rows_again_and_activations_may_cut_them():
    softmax, activation = (
        [prior for prior in priors(records(family)) if isinstance(prior, PointwiseParameters)]
        for family in (Family.SOFTMAX, Family.ACTIVATION)
    )
    assert {(prior.reduces, prior.passes) for prior in softmax} == {(1.0, 1.0), (1.0, 2.0), (1.0, 3.0)}
    assert {(prior.reduces, prior.block_byte) for prior in activation} == {(0.0, 1e9), (0.0, 2048.0)}


def test_only_the_embedding_gathers():
    assert any(isinstance(prior, SystolicGatherParameters) for prior in priors(records(Family.EMBEDDING)))
    assert not any(isinstance(prior, SystolicGatherParameters) for prior in priors(records(Family.ROPE)))


def test_an_eager_loop_starts_at_the_time_of_a_launch():
    (prior,) = priors(records(Family.ROPE, loop=BenchmarkLoop(1.0, 4e-5)))
    assert isinstance(prior, PointwiseParameters) and prior.launch_s == 4e-5


def test_one_row_more_costs_no_second_pass():
    """257 rows of GPT-3's 12288 x 12288 on MI210. With tiles in pairs of 128 rows it took 1.8 times as long as 256; a
    library with tiles in between needs 320 rows' work at most, and a wave more.
    """
    target = load_target("mi210")
    assert target.kernels["pytorch"]["gemm"]["bf16"] == {"library": "ROCBLAS_CDNA2"}
    chip = chip_of(MI210, Dtype.FP16)

    def ratio(library: TileLibrary) -> float:
        parameters = replace(GemmParameters(), library=library)
        few, more = gemm_time(np.array([256.0, 257.0]), 12288.0, 12288.0, chip=chip, parameters=parameters).total_s
        return float(more / few)

    assert ratio(TileLibrary.CUTLASS_FP8_HOPPER) > 1.6
    assert ratio(TileLibrary.ROCBLAS_CDNA2) < 1.35


SINGLE_KERNELS = frozenset(Family) - {Family.LAYER, Family.MODEL, Family.SERVING}
ON_PROCESSORS = {family for family in SINGLE_KERNELS if DIMENSIONS[family] == DIMENSIONS[Family.NORM]} | {
    *(Family.GEMM, Family.MOE, Family.PREFILL_ATTENTION, Family.DECODE_ATTENTION)
}


@pytest.mark.parametrize(
    ("device", "family"),
    [("a100-sxm-80gb", family) for family in sorted(SINGLE_KERNELS)]
    + [("epyc-9654", family) for family in sorted(ON_PROCESSORS)],
)
def test_a_fit_has_at_most_twelve_parameters_each_within_its_bounds(device: str, family: Family):
    for precision in (BF16, FP8, INT4):
        dims = {name: np.ones(1) for name in DIMENSIONS[family]}
        options = candidates(replace(records(family, precision), dims=dims), load_device(device))
        for option in options:
            facts = facts_of(type(option.prior))
            assert 0 < len(set(option.free)) == len(option.free) <= 12 and set(option.free) <= facts.keys()
            for name in option.free:
                assert facts[name].low <= value_of(option.prior, name) <= facts[name].high
                assert facts[name].meaning and facts[name].unit and not np.isnan(facts[name].ideal)
