"""Formats that were not measured: what is borrowed by hand, laws of narrower weights, what it cost where checked."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofline.api import case_of, predict
from roofline.errors import RooflineError
from roofline.io.calibration import format_bands, load_calibration, transfer_bands
from roofline.io.profiles import load_target
from roofline.kernels import KernelGroup
from roofline.kernels.gemm import Gemm
from roofline.kernels.moe import ExpertLayer
from roofline.structs import STORED_BYTE, Dtype, arithmetic_dtype
from roofline.timing import WorkingSet, fit_of, keys_of, time_step
from roofline.timing.calibration import Borrowing, format_label, formats_of
from roofline.timing.formats import at_peak
from roofline.timing.moe import MoeParameters
from roofline.timing.quantised_gemm import QuantisedGemmParameters
from roofline.workload import decode, prefill

TARGETS = {name: load_target(name) for name in ("a100-sxm-80gb", "h100-sxm", "h200-sxm", "l40s", "tpu-v6e")}
CALIBRATIONS = {name: load_calibration(target) for name, target in TARGETS.items()}
NARROW = (Dtype.FP8, Dtype.INT8, Dtype.INT4, Dtype.FP4)
SHAPES = {
    "token": st.sampled_from([1.0, 3.0, 16.0, 64.0, 300.0, 4096.0, 40000.0]),
    "hidden": st.sampled_from([2048.0, 4096.0, 7168.0]),
    "width": st.sampled_from([192.0, 768.0, 2048.0, 14336.0]),
    "experts": st.sampled_from([(2.0, 8.0), (8.0, 128.0), (8.0, 256.0)]),
}


def seconds(device, work, calibration=None):
    """Time of one execution in a step."""
    group = KernelGroup(("kernel",), (0,), np.ones((1, 1)), work)
    found = calibration or CALIBRATIONS[device]
    return time_step((group,), TARGETS[device].device, found, WorkingSet(0.0)).times[0]


def layer(weight, token, hidden, width, experts, activation=Dtype.BF16):
    ones = np.ones(1)
    sizes = (token * ones, hidden * ones, width * ones, 2.0 * ones, experts[0] * ones, experts[1] * ones)
    return ExpertLayer(*sizes, experts[1] * ones, 0.0 * ones, weight, activation, Dtype.BF16)


def product(weight, m, n, k, activation=Dtype.BF16):
    ones = np.ones(1)
    return Gemm(m * ones, n * ones, k * ones, ones, 0.0 * ones, weight, activation, Dtype.BF16)


@pytest.mark.parametrize("operand", Dtype)
@pytest.mark.parametrize("stored", Dtype)
def test_a_label_says_its_formats(operand, stored):
    wide = {Dtype.FP16: Dtype.BF16}
    found = formats_of(format_label(operand, stored))
    assert found == (wide.get(operand, operand), wide.get(stored, stored))


def test_labels_of_records_say_their_formats():
    assert formats_of("int4_weight_only") == (Dtype.BF16, Dtype.INT4)
    assert formats_of("int8_weight_only") == (Dtype.BF16, Dtype.INT8)
    assert formats_of("fp8_block") == (Dtype.FP8, Dtype.FP8)


def test_at_twice_the_peak_bytes_per_clock_and_seconds_stay():
    # 0.0075 byte/FLOP of a unit that makes 4096 FLOP per clock are 30.7 byte per clock: of 8192 FLOP, 0.00375 each.
    own = MoeParameters(feed_byte_per_flop=0.0075, store_byte_per_flop=0.002, matrix_fraction=0.6)
    found = at_peak(own, 2.0)
    assert (found.feed_byte_per_flop, found.store_byte_per_flop) == (0.00375, 0.001)
    assert replace(found, feed_byte_per_flop=0.0075, store_byte_per_flop=0.002) == own


@pytest.mark.parametrize(
    ("device", "key", "lender", "kind"),
    [
        ("a100-sxm-80gb", ("moe", "bf16/fp8"), "bf16", Borrowing.STORED),  # Ampere has no fp8: widened
        ("a100-sxm-80gb", ("moe", "int4_weight_only"), "bf16", Borrowing.STORED),
        ("a100-sxm-80gb", ("moe", "fp8"), "bf16", Borrowing.STORED),  # even activations: upcast
        ("a100-sxm-80gb", ("moe", "int8"), "bf16", Borrowing.COMPUTED),
        ("a100-sxm-80gb", ("gemm", "bf16/fp4"), "bf16", Borrowing.STORED),
        ("a100-sxm-80gb", ("decode_attention", "bf16/fp8"), "bf16", Borrowing.STORED),
        ("h100-sxm", ("moe", "int8"), "fp8", Borrowing.COMPUTED),  # the same peak
        ("h100-sxm", ("moe", "bf16/fp4"), "bf16", Borrowing.STORED),  # not of int4's own kernel, which converts
        ("l40s", ("gemm", "fp8"), "bf16", Borrowing.COMPUTED),  # of vLLM, not the int8 of TensorRT-LLM
    ],
)
def test_the_nearest_measured_format_lends(device, key, lender, kind):
    calibration = CALIBRATIONS[device]
    found, own = fit_of(key, calibration), calibration.models[key[0], lender]
    assert key not in calibration.models
    assert found.borrowed_from == lender
    cost = format_bands()[key[0], kind]
    assert found.band.low <= min(own.band.low, cost.low) and found.band.high >= max(own.band.high, cost.high)
    assert found.band.source.endswith(cost.source)
    for name, (low, high) in found.evidence.beyond.items():
        assert name in own.evidence.beyond
        assert low <= found.band.low <= found.band.high <= high


def test_what_was_measured_is_not_borrowed():
    h100 = CALIBRATIONS["h100-sxm"]
    for key, fitted in h100.models.items():
        assert fit_of(key, h100) is fitted
    assert not h100.models["moe", "int4_weight_only"].borrowed_from
    assert fit_of(("norm", "fp8"), h100) is None  # rows of bytes, whatever they mean
    assert fit_of(("moe", "bf16/fp8"), replace(h100, formats=None)) is None


def test_errors_of_another_device_and_of_another_format_add_by_their_squares():
    found = fit_of(("moe", "bf16/fp8"), CALIBRATIONS["h200-sxm"])
    device, own = transfer_bands()["moe"], format_bands()["moe", Borrowing.STORED]
    assert found.transferred_from == "h100-sxm"
    assert np.log(found.band.high) == pytest.approx(np.hypot(np.log(device.high), np.log(own.high)))
    assert np.log(found.band.low) == pytest.approx(-np.hypot(np.log(device.low), np.log(own.low)))


def test_narrow_activations_are_quantised_first():
    # 4096 x 4096 values read in 2 bytes and written in 1, at 80 % of 3.35 TB/s, and a launch of 1.9 us.
    h100 = CALIBRATIONS["h100-sxm"]
    lent = fit_of(("gemm", "fp8"), replace(h100, models={("gemm", "bf16"): h100.models["gemm", "bf16"]}))
    assert isinstance(lent.parameters, QuantisedGemmParameters)
    quantise = lent.parameters.quantise
    assert 3 * 4096.0**2 / (quantise.dram_fraction * 3.35e12) + quantise.launch_s == pytest.approx(20.68e-6, rel=1e-3)
    own = h100.models["gemm", "bf16"].parameters
    assert lent.parameters.product.launch_s == own.launch_s
    assert lent.parameters.product.feed_byte_per_flop == pytest.approx(own.feed_byte_per_flop / 2, rel=1e-3)


@given(**SHAPES, weight=st.sampled_from(NARROW))
def test_narrower_experts_save_at_most_their_bytes_where_products_stay_in_16_bits(
    token, hidden, width, experts, weight
):
    shape = (token, hidden, width, experts)
    wide, narrow = (seconds("a100-sxm-80gb", layer(dtype, *shape)) for dtype in (Dtype.BF16, weight))
    saved = STORED_BYTE[Dtype.BF16] / STORED_BYTE[weight]
    assert wide.total_s / saved <= narrow.total_s * (1 + 1e-9)
    assert narrow.total_s <= wide.total_s * (1 + 1e-9)
    assert narrow.total_s >= narrow.roofline_s


@given(
    m=st.sampled_from([1.0, 4.0, 16.0]),
    n=st.sampled_from([2048.0, 8192.0, 28672.0]),
    k=st.sampled_from([4096.0, 14336.0]),
    weight=st.sampled_from([Dtype.FP8, Dtype.FP4]),
    device=st.sampled_from(["a100-sxm-80gb", "tpu-v6e"]),
)
def test_narrower_weights_never_slow_a_product_that_waits_for_them(m, n, k, weight, device):
    wide, narrow = (seconds(device, product(dtype, m, n, k)) for dtype in (Dtype.BF16, weight))
    assert narrow.total_s <= wide.total_s * (1 + 1e-9)
    assert wide.total_s <= narrow.total_s * STORED_BYTE[Dtype.BF16] / STORED_BYTE[weight] * (1 + 1e-9)


def test_a_device_with_a_second_peak_gains_at_most_its_ratio():
    # int8 on A100: twice the FLOP/s and half the bytes of bf16.
    for token in (1.0, 64.0, 4096.0):
        shape = (token, 4096.0, 14336.0, (2.0, 8.0))
        wide = seconds("a100-sxm-80gb", layer(Dtype.BF16, *shape)).total_s
        narrow = seconds("a100-sxm-80gb", layer(Dtype.INT8, *shape, activation=Dtype.INT8)).total_s
        assert wide / 2 <= narrow * (1 + 1e-9) and narrow < wide


def test_bf16_to_fp8_on_hopper_is_known_within_a_fifth():
    # Where both formats were measured, borrowing costs a few per cent: benchmarks/formats.py.
    measured = CALIBRATIONS["h100-sxm"]
    kept = {key: fit for key, fit in measured.models.items() if key != ("moe", "fp8")}
    lending = replace(measured, models=kept)
    assert fit_of(("moe", "fp8"), lending).borrowed_from == "bf16"
    for token in (1.0, 16.0, 256.0, 4096.0):
        work = layer(Dtype.FP8, token, 4096.0, 1536.0, (8.0, 128.0), Dtype.FP8)
        own, lent = (seconds("h100-sxm", work, found).total_s for found in (measured, lending))
        assert lent == pytest.approx(own, rel=0.2)


def test_a_prediction_says_what_it_borrowed():
    said = [
        note
        for note in predict("mixtral-8x7b", "a100-sxm-80gb:2", batch=1, input=512, weights="int4").assumptions
        if "was not measured" in note
    ]
    assert len(said) == 1 and "moe in int4_weight_only" in said[0] and "bf16" in said[0]
    wide = predict("mixtral-8x7b", "a100-sxm-80gb:2", batch=1, input=512).assumptions
    assert not any("was not measured" in note for note in wide)


def test_a_format_that_a_device_cannot_compute_in_is_refused():
    device = replace(TARGETS["a100-sxm-80gb"].device, upcast={})
    calibration = CALIBRATIONS["a100-sxm-80gb"]
    calibration = replace(calibration, formats=replace(calibration.formats, device=device))
    assert fit_of(("moe", "fp4"), calibration) is None
    group = KernelGroup(("experts",), (0,), np.ones((1, 1)), layer(Dtype.FP4, 1.0, 64.0, 64.0, (2.0, 8.0), Dtype.FP4))
    with pytest.raises(RooflineError, match="cannot compute in fp4"):
        time_step((group,), device, calibration, WorkingSet(0.0))


@pytest.mark.parametrize("device", TARGETS)
@pytest.mark.parametrize("weight", Dtype)
@pytest.mark.parametrize("activation", Dtype)
def test_a_product_is_no_faster_than_the_wider_of_its_formats(device, weight, activation):
    # Also where the activations are the narrower ones: W16A8 is computed in 16 bits. 8192 rows: bound by arithmetic.
    on = TARGETS[device].device
    try:
        peak = on.matrix_flop_per_s[on.arithmetic(arithmetic_dtype(activation, weight))]
        time = seconds(device, product(weight, 8192.0, 8192.0, 8192.0, activation))
    except RooflineError:
        return  # the device computes in neither
    assert time.total_s >= time.roofline_s >= 2.0 * 8192.0**3 / peak * (1.0 - 1e-12)


@pytest.mark.parametrize("device", [*TARGETS, "rtx-pro-6000"])
@pytest.mark.parametrize("model", ["llama-3.1-8b", "gpt-oss-120b", "deepseek-v3"])
@pytest.mark.parametrize("kv", [Dtype.BF16, Dtype.FP8])
def test_a_deployment_has_every_fit_that_its_steps_need_at_hand(device, model, kv):
    case = case_of(model, device, kv=kv, weights="fp8")
    where = case.deployment
    steps = (
        where.prefill_step((prefill(2.0, 100.0),)),
        where.decode_step(3.0, 200.0),
        where.prefill_step((prefill(2.0, 100.0), decode(3.0, 200.0))),
    )
    needed = {key for step in steps for group in step.groups for key in keys_of(group.work)}
    assert needed <= where.calibration.looked_up.keys()
    assert all(where.calibration.looked_up[key] == fit_of(key, case.calibration) for key in needed)
