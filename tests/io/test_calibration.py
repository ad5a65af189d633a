"""Fits in a profile: they survive the way to TOML and back, and mistakes in them are named."""

import tomllib
from dataclasses import replace

import numpy as np
import pytest

from roofline.errors import RooflineError
from roofline.io.calibration import (
    backends_of,
    calibration_of,
    calibration_text,
    carried_over,
    load_calibration,
    transfer_bands,
    typical_times,
    uncalibrated,
)
from roofline.io.profiles import load_target, profile_names
from roofline.kernels import KernelGroup
from roofline.kernels.gemm import Gemm
from roofline.structs import NO_WINDOW, Dtype
from roofline.timing import KernelFamily, WorkingSet, time_step
from roofline.timing.chip import chip_of
from roofline.timing.decode_attention import decode_attention_time
from roofline.timing.decode_kernels import DecodeKernel
from roofline.timing.parameter import facts_of, kernel_facts_of, value_of
from roofline.timing.transfer import scaled, transferred

CALIBRATED = [name for name in profile_names() if load_target(name).calibration]


def test_shipped_calibrations():
    assert {"a100-sxm-80gb", "h100-sxm", "rtx-pro-6000", "mi210", "tpu-v6e"} <= set(CALIBRATED)


@pytest.mark.parametrize("name", CALIBRATED)
def test_fits_survive_the_way_to_toml_and_back(name):
    own = calibration_of(load_target(name).calibration, name)
    again = calibration_of(tomllib.loads(calibration_text(own.backend, own.models.items()))["calibration"], name)
    assert again.models == own.models
    assert again.backend == own.backend


def made(*names, default="vllm"):
    """The [calibration] table of libraries that differ in the launch time of a GEMM; each has a family of its own."""
    fitted = calibration_of(load_target("a100-sxm-80gb").calibration, "a").models["gemm", "bf16"]
    fits = []
    for number, name in enumerate(names, start=1):
        parameters = replace(fitted.parameters, launch_s=number * 1e-6)
        own = replace(fitted, parameters=parameters, evidence=replace(fitted.evidence, backend=name))
        fits += [(("gemm", "bf16"), own), (("gemm", name), own)]
    return tomllib.loads(calibration_text(default, fits))["calibration"]


def test_a_backend_is_used_for_all_that_it_was_measured_for_and_the_default_for_the_rest():
    table = made("nccl", "trtllm", "vllm")
    for asked, launch_s in ((None, 3e-6), ("vllm", 3e-6), ("trtllm", 2e-6), ("nccl", 1e-6)):
        found = calibration_of(table, "mine", asked)
        assert found.backend == (asked or "vllm")
        assert found.models["gemm", "bf16"].parameters.launch_s == launch_s
        assert found.models["gemm", "bf16"].evidence.backend == found.backend
        assert {label for _, label in found.models} == {"bf16", "nccl", "trtllm", "vllm"}
        assert f"Kernels of {found.backend}" in found.summary


def test_before_other_libraries_the_default_fills_in():
    table = made("alpha", "trtllm", "vllm")
    del table["trtllm"]["gemm"]["bf16"]
    assert calibration_of(table, "mine", "trtllm").models["gemm", "bf16"].evidence.backend == "vllm"
    del table["vllm"]["gemm"]["bf16"]
    assert calibration_of(table, "mine", "trtllm").models["gemm", "bf16"].evidence.backend == "alpha"


def test_a_library_that_a_device_is_not_calibrated_for_is_refused():
    with pytest.raises(RooflineError, match=r"backend: 'vlm' .*'vllm'"):
        load_calibration(load_target("h100-sxm"), "vlm")
    with pytest.raises(RooflineError, match="epyc-9654 is calibrated for no library"):
        load_calibration(load_target("epyc-9654"), "vllm")
    with pytest.raises(RooflineError, match=r"mine: calibration.backend: 'torch' is not accepted. .*one of vllm"):
        calibration_of(made("vllm", default="torch"), "mine")


def test_a_relatives_libraries_can_be_asked_for_and_own_measurements_come_first():
    assert backends_of(load_target("h200-sxm")) == backends_of(load_target("h100-sxm"))
    assert backends_of(load_target("epyc-9654")) == ()
    h200, h100 = (load_calibration(load_target(name), "trtllm") for name in ("h200-sxm", "h100-sxm"))
    assert h200.backend == "trtllm"
    assert h200.models["prefill_attention", "bf16"].evidence.backend == "trtllm"
    assert h100.models["moe", "bf16"].evidence.backend == "vllm"  # measured on H100, though not of this library
    assert not h100.models["moe", "bf16"].transferred_from
    assert h100.models["gemm", "int4_weight_only"].transferred_from == "a100-sxm-80gb"


def test_whole_numbers_are_kept_exactly():
    models = calibration_of(load_target("a100-sxm-80gb").calibration, "a100").models
    fitted = models["all_reduce", "bf16"]
    exact = replace(fitted, parameters=replace(fitted.parameters, limit_byte=8388608.0))
    again = calibration_of(
        tomllib.loads(calibration_text("vllm", [(("all_reduce", "bf16"), exact)]))["calibration"], "a100"
    )
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


def test_a_relatives_parameters_run_the_kernels_that_a_profile_declares():
    source, target = load_target("a100-sxm-80gb"), load_target("h100-sxm")
    models = calibration_of(source.calibration, "a").models
    lent = carried_over(models, source, target)["decode_attention", "bf16"]
    assert models["decode_attention", "bf16"].parameters.kernel is DecodeKernel.FLASH_ATTENTION_2
    assert lent.parameters.kernel is DecodeKernel.FLASH_ATTENTION_3
    assert lent.parameters.launch_s == models["decode_attention", "bf16"].parameters.launch_s
    assert lent.transferred_from == "a100-sxm-80gb"
    undeclared = carried_over(models, source, replace(target, kernels={}))["decode_attention", "bf16"]
    assert undeclared.parameters.kernel is DecodeKernel.FLASH_ATTENTION_2


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ({"kernel": "FLASH_ATENTION_3"}, ["FLASH_ATENTION_3", "FLASH_ATTENTION_3"]),
        ({"kernal": "FLASH_ATTENTION_3"}, ["kernal", "kernel"]),
        ({"launch_s": 1e-6}, ["launch_s", "writes_cache"]),
    ],
)
def test_mistakes_in_declared_kernels_are_named(declared, words):
    source, target = load_target("a100-sxm-80gb"), load_target("h100-sxm")
    models = calibration_of(source.calibration, "a").models
    wrong = replace(target, kernels={"vllm": {"decode_attention": {"bf16": declared}}})
    with pytest.raises(RooflineError) as caught:
        carried_over(models, source, wrong)
    for word in (*words, "h100-sxm: kernels.vllm.decode_attention.bf16"):
        assert word in str(caught.value)


@pytest.mark.parametrize("name", ["a100-sxm-80gb", "h100-sxm"])
def test_declared_kernels_are_those_that_the_fits_found(name):
    target = load_target(name)
    models = calibration_of(target.calibration, name, "vllm").models
    for family in ("gemm", "moe", "prefill_attention", "decode_attention"):
        for label, declared in target.kernels["vllm"][family].items():
            found = kernel_facts_of(models[family, label].parameters)
            assert {key: getattr(found[key], "name", found[key]) for key in declared} == declared


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
    text = calibration_text("vllm", [(("gemm", "bf16"), models["gemm", "bf16"])])
    table = tomllib.loads(text)["calibration"]
    change(table["vllm"]["gemm"]["bf16"])
    with pytest.raises(RooflineError) as caught:
        calibration_of(table, "mine")
    for word in (*words, "mine: calibration.vllm.gemm.bf16"):
        assert word in str(caught.value)


def test_decode_attention_carried_to_a_faster_unit_keeps_its_latency():
    # A tile starts in 2.80 us on A100 (3949 cycles at 1.41 GHz), in 3.18 us on H100 (5818 at 1.83 GHz), and in 3.05 us
    # on RTX PRO 6000 (7418 at 2.43 GHz, mixed batches), whose units differ by a factor of four in FLOP per clock.
    h100, b200 = load_target("h100-sxm"), load_target("b200-sxm")
    own, lent = (load_calibration(target).models["decode_attention", "bf16"].parameters for target in (h100, b200))
    assert lent.tile_cycle / b200.device.clock_hz == pytest.approx(own.tile_cycle / h100.device.clock_hz)
    assert lent.feed_byte_per_clock == own.feed_byte_per_clock
    sequences, context = np.meshgrid(2.0 ** np.arange(12), 2.0 ** np.arange(5, 17))
    heads = (32.0, 8.0, 128.0, NO_WINDOW)
    slow, fast = (
        decode_attention_time(
            sequences.ravel(), context.ravel(), *heads, chip=chip_of(target.device, Dtype.BF16), parameters=parameters
        ).total_s
        for target, parameters in ((h100, own), (b200, lent))
    )
    assert (fast <= 1.12 * slow).all()  # more units and bandwidth, the same clock; some split their keys sooner


def test_a_family_that_nothing_was_measured_of_is_predicted_at_the_median_inside_its_band():
    # Nine of ten measured kernels took longer than datasheet timing: alone it is the fast end of its own band.
    bare, found = uncalibrated(), load_calibration(load_target("mi300x"))
    assert found.typical.keys() == typical_times().keys() >= {KernelFamily.GEMM, KernelFamily.EXPERTS}
    for family, middle in found.typical.items():
        assert middle > 1.0
        assert found.bands[family].low < 1.0 < found.bands[family].high
        assert middle * found.bands[family].high == pytest.approx(bare.bands[family].high)
    assert "gemm" in found.summary and "median" in found.summary
    gpu = {name: load_calibration(load_target(name)) for name in ("h100-sxm", "mi210", "epyc-9654", "fpga-u280")}
    assert not gpu["epyc-9654"].typical and not gpu["fpga-u280"].typical  # measured on GPUs: other machines
    assert not gpu["h100-sxm"].typical and "median of" not in gpu["h100-sxm"].summary  # a fit of every family
    assert KernelFamily.GEMM not in gpu["mi210"].typical and KernelFamily.DECODE_ATTENTION in gpu["mi210"].typical


def test_the_median_multiplies_the_time_of_a_kernel_and_never_beats_the_roofline():
    # 2 x 4096^3 FLOP at 1307.4 TFLOP/s and 54.2 % of it, and one launch of 2.1 us, times the median.
    calibration = load_calibration(load_target("mi300x"))
    one = np.array([4096.0])
    work = Gemm(one, one, one, np.ones(1), np.zeros(1), Dtype.BF16, Dtype.BF16, Dtype.BF16)
    plain_s = 2 * 4096.0**3 / 1307.4e12 / 0.542 + 2.1e-6
    group = KernelGroup(("product",), (0,), np.ones((1, 1)), work)
    (time,) = time_step((group,), load_target("mi300x").device, calibration, WorkingSet(0.0)).times
    assert time.total_s == pytest.approx(plain_s * calibration.typical[KernelFamily.GEMM])
    fast = replace(calibration, typical={KernelFamily.GEMM: 0.1})
    (time,) = time_step((group,), load_target("mi300x").device, fast, WorkingSet(0.0)).times
    assert time.total_s == time.roofline_s
