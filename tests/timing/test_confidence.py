"""Bands by hand: inside the measured sizes that of the fit, outside what leaving sizes out has cost."""

from dataclasses import replace

import numpy as np
import pytest

from roofline.io.calibration import load_calibration
from roofline.io.profiles import load_target
from roofline.kernels.gemm import Gemm
from roofline.kernels.pointwise import Pointwise, PointwiseKind
from roofline.structs import Dtype
from roofline.timing import Band, KernelFamily
from roofline.timing.confidence import confidence, confidence_of

CALIBRATION = load_calibration(load_target("a100-sxm-80gb"))
GEMM = ("gemm", "bf16")
OWN = CALIBRATION.models[GEMM]
FITTED = replace(
    OWN,
    band=Band(0.9, 1.1, "measured"),
    evidence=replace(
        OWN.evidence,
        ranges={"m": (1.0, 1024.0), "n": (128.0, 8192.0), "k": (128.0, 8192.0), "copies": (1.0, 1.0)},
        beyond={"m": (0.8, 1.05), "n": (0.95, 1.3)},
        below={"n": (0.7, 1.2)},
    ),
)
DATASHEET = Band(1.0, 1.8, "datasheet")


@pytest.mark.parametrize(
    ("changes", "low", "high", "outside"),
    [
        ({}, 0.9, 1.1, set()),
        ({"m": 1024.0 * (1 + 1e-12)}, 0.9, 1.1, set()),  # rounding is no extrapolation
        ({"m": 1025.0}, 0.8, 1.1, {"m"}),  # never narrower than inside
        ({"n": 64.0}, 0.7, 1.2, {"n"}),  # what leaving the smallest out has cost, not the largest
        ({"n": 9000.0}, 0.9, 1.3, {"n"}),
        ({"m": 0.5}, 0.9, 1.8, {"m"}),  # it was never tried below
        ({"m": 2048.0, "n": 9000.0}, 0.8, 1.3, {"m", "n"}),
        ({"k": 8193.0}, 0.9, 1.8, {"k"}),  # the rows could not tell: as uncertain as the datasheet
        ({"copies": 16.0}, 0.9, 1.8, {"copies"}),
    ],
)
def test_the_band_widens_by_what_leaving_sizes_out_has_cost(changes, low, high, outside):
    sizes = {"m": 64.0, "n": 4096.0, "k": 4096.0, "copies": 1.0} | changes
    found = confidence(sizes, FITTED, DATASHEET)
    assert (float(found.band.low), float(found.band.high)) == (low, high)
    assert set(found.outside) == outside


def test_where_rows_tell_nothing_a_fit_may_be_too_slow_too():
    # MI210 was measured from m = 128 up, too few values to leave some out. Products took up to twice their datasheet
    # time: a fit may be off so far, either way. Without a fit, there is the median and the band around it.
    mi210, mi300x = (load_calibration(load_target(name)) for name in ("mi210", "mi300x"))
    assert not mi210.models[GEMM].evidence.below
    off = mi210.bands[KernelFamily.GEMM].high
    assert off > 1.5
    side = np.array([4096.0])
    work = Gemm(np.ones(1), side, side, np.ones(1), np.zeros(1), Dtype.BF16, Dtype.BF16, Dtype.BF16)
    band = confidence_of(work, mi210).band
    assert band.low == pytest.approx(1.0 / off) and band.high == pytest.approx(off)
    assert confidence_of(work, mi300x).band == mi300x.bands[KernelFamily.GEMM]


def test_an_array_gives_what_its_elements_give():
    m, n = np.array([1.0, 1024.0, 4096.0])[:, None], np.array([64.0, 4096.0])
    whole = confidence({"m": m, "n": n}, FITTED, DATASHEET)
    for i in range(3):
        for j in range(2):
            one = confidence({"m": m[i, 0], "n": n[j]}, FITTED, DATASHEET)
            assert np.broadcast_to(whole.band.low, (3, 2))[i, j] == one.band.low
            assert np.broadcast_to(whole.band.high, (3, 2))[i, j] == one.band.high


def test_kernels_of_a_group_have_the_band_of_their_own_fit_each():
    models = dict(CALIBRATION.models)
    for kind, low, most in ((PointwiseKind.NORM, 0.7, 100.0), (PointwiseKind.ROPE, 0.6, 1e9)):
        known = models[str(kind), "bf16"]
        ranges = {"row": (1.0, most), "read_byte": (1.0, 1e9), "write_byte": (1.0, 1e9)}
        evidence = replace(known.evidence, ranges=ranges, beyond={"row": (0.5, 2.0)})
        models[str(kind), "bf16"] = replace(known, band=Band(low, 1.5, str(kind)), evidence=evidence)
    size, nothing = np.array([64.0, 64.0, 64.0]), np.zeros(3)
    kinds = (PointwiseKind.NORM, PointwiseKind.SOFTMAX, PointwiseKind.ROPE)
    work = Pointwise(np.array([[50.0], [500.0]]), nothing, size, size, nothing, nothing, nothing, kinds)
    found = confidence_of(work, replace(CALIBRATION, models=models))
    otherwise = CALIBRATION.bands["pointwise"]
    assert np.broadcast_to(found.band.low, (2, 3)).tolist() == [[0.7, otherwise.low, 0.6], [0.5, otherwise.low, 0.6]]
    assert np.broadcast_to(found.outside["row"], (2, 3)).tolist() == [[False] * 3, [True, False, False]]


def test_a_format_that_nothing_is_lent_to_has_the_band_of_the_datasheet():
    ones = np.ones(1)
    work = Gemm(ones, ones, ones, ones, ones, Dtype.FP4, Dtype.BF16, Dtype.BF16)
    found = confidence_of(work, replace(CALIBRATION, formats=None))
    assert found.band == CALIBRATION.bands["gemm"] and not found.outside


def test_a_carried_over_fit_widens_as_it_did_where_it_was_fitted():
    own, lent = CALIBRATION.models, load_calibration(load_target("a100-sxm-40gb")).models
    for key, fitted in lent.items():
        if key in own:
            assert fitted.evidence.beyond.keys() == own[key].evidence.beyond.keys()
            for low, high in fitted.evidence.beyond.values():
                assert low <= fitted.band.low <= fitted.band.high <= high
