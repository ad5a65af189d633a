"""Fits in a profile: they survive the way to TOML and back, and mistakes in them are named."""

import tomllib
from dataclasses import replace

import pytest

from roofline.errors import RooflineError
from roofline.io.calibration import calibration_of, calibration_text, load_calibration, transfer_bands, uncalibrated
from roofline.io.profiles import load_target, profile_names
from roofline.timing.parameter import facts_of, value_of
from roofline.timing.transfer import scaled, transferred

CALIBRATED = [name for name in profile_names() if load_target(name).calibration]


def test_shipped_calibrations():
    assert {"a100-sxm-80gb", "h100-sxm", "rtx-pro-6000", "mi210", "tpu-v6e"} <= set(CALIBRATED)


@pytest.mark.parametrize("name", CALIBRATED)
def test_fits_survive_the_way_to_toml_and_back(name):
    models = calibration_of(load_target(name).calibration, name).models
    again = calibration_of(tomllib.loads(calibration_text(models))["calibration"], name).models
    assert again == models


def test_whole_numbers_are_kept_exactly():
    models = calibration_of(load_target("a100-sxm-80gb").calibration, "a100").models
    fitted = models["all_reduce", "bf16"]
    exact = replace(fitted, parameters=replace(fitted.parameters, limit_byte=8388608.0))
    again = calibration_of(tomllib.loads(calibration_text({("all_reduce", "bf16"): exact}))["calibration"], "a100")
    assert again.models["all_reduce", "bf16"].parameters.limit_byte == 8388608.0


@pytest.mark.parametrize("name", CALIBRATED)
def test_every_parameter_is_within_its_bounds_and_every_fit_has_evidence(name):
    for fitted in calibration_of(load_target(name).calibration, name).models.values():
        for parameter, facts in facts_of(type(fitted.parameters)).items():
            assert facts.low * 0.99 <= value_of(fitted.parameters, parameter) <= facts.high * 1.01
        assert fitted.evidence.fitted_rows > 0 and fitted.evidence.data and fitted.evidence.date
        assert fitted.band.low < fitted.band.high
        assert len(facts_of(type(fitted.parameters))) - 3 <= 12  # three at most are another kernel's


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_has_a_band_for_every_kernel(name):
    calibration = load_calibration(load_target(name))
    assert set(calibration.bands) == set(uncalibrated().bands)
    for fitted in calibration.models.values():
        assert fitted.band.low <= fitted.band.high


def test_own_fits_win_over_a_relatives():
    own = load_calibration(load_target("h100-sxm")).models
    assert not own["gemm", "bf16"].transferred_from
    assert own["norm", "bf16"].transferred_from == "a100-sxm-80gb"
    lent = load_calibration(load_target("h200-sxm")).models["gemm", "bf16"]
    assert lent.transferred_from == "h100-sxm"
    assert lent.band == transfer_bands()["gemm"]
    assert lent.band.high - lent.band.low > own["gemm", "bf16"].band.high - own["gemm", "bf16"].band.low


def test_transfer_to_itself_changes_nothing():
    target = load_target("a100-sxm-80gb")
    models = calibration_of(target.calibration, "a").models
    for key, fitted in transferred(models, target.device, target.device).items():
        for name in facts_of(type(fitted.parameters)):
            assert value_of(fitted.parameters, name) == pytest.approx(value_of(models[key].parameters, name))


def test_transfer_scales_by_link_and_unit_rate():
    source, target = load_target("a100-sxm-80gb").device, load_target("h100-sxm").device
    models = calibration_of(load_target("a100-sxm-80gb").calibration, "a").models
    ring = models["all_gather", "bf16"].parameters
    lent = scaled(ring, source, target, next(iter(source.matrix_flop_per_s)))
    # NVLink 3 has 300 GB/s a direction, NVLink 4 has 450: times shrink to two thirds.
    assert value_of(lent, "launch_s") == pytest.approx(value_of(ring, "launch_s") * 300 / 450)
    assert value_of(lent, "link") == value_of(ring, "link")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("evidence"), ["missing evidence"]),
        (lambda t: t.update(type="GemParameters"), ["GemParameters", "GemmParameters"]),
        (lambda t: t["parameters"].update(launch=1e-6), ["'launch'", "launch_s"]),
        (lambda t: t["parameters"].update(launch_s=5.0), ["launch_s", "5.0"]),
        (lambda t: t["parameters"].update(launch_s="fast"), ["launch_s", "'fast'"]),
        (lambda t: t["parameters"].update(matrix_fraction=float("nan")), ["matrix_fraction", "nan"]),
        (lambda t: t["parameters"].update(library="CUBLAS_HOPER"), ["CUBLAS_HOPER", "CUBLAS_HOPPER"]),
        (lambda t: t["evidence"].update(rows=3), ["rows"]),
        (lambda t: t["band"].pop("low"), ["low"]),
    ],
)
def test_mistakes_in_a_calibration_are_named(change, words):
    models = calibration_of(load_target("h100-sxm").calibration, "h").models
    text = calibration_text({("gemm", "bf16"): replace(models["gemm", "bf16"])})
    table = tomllib.loads(text)["calibration"]
    change(table["gemm"]["bf16"])
    with pytest.raises(RooflineError) as caught:
        calibration_of(table, "mine")
    for word in (*words, "mine: calibration.gemm.bf16"):
        assert word in str(caught.value)
