"""Laws that every prediction obeys, on every device structure."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import roofline
from roofline.capacity import capacity, largest_true
from roofline.deployment import decode_context, decode_times, deployment, pipeline_s, prefill_times
from roofline.footprint import footprint
from roofline.io.calibration import uncalibrated
from roofline.prediction import predict
from roofline.structs import Dtype
from roofline.sweep import decode_grid
from roofline.workload import AttentionKind, Parallelism, Precision
from tests.builders import DENSE, LATENT, MIXTURE, SLIDING, STRUCTURES, device, model, scenario

UNCALIBRATED = uncalibrated()
layers = st.sampled_from([DENSE, SLIDING, MIXTURE, LATENT])
structures = st.sampled_from(STRUCTURES)
attentions = st.sampled_from(list(AttentionKind))
batches = st.integers(1, 300)
lengths = st.integers(1, 2000)


def times(of, on, asked):
    where = deployment(of, on, UNCALIBRATED, asked)
    steps = prefill_times(where, asked), decode_times(where, asked)
    return [float(seconds) for _, seconds in steps], [step for step, _ in steps]


@given(layers, structures, attentions, batches, lengths)
def test_no_kernel_beats_the_bare_roofline(layer, structure, attention, batch, length):
    asked = scenario(batch=float(batch), input_token=float(length), attention=attention)
    _, steps = times(model(layer), device(structure), asked)
    for step in steps:
        for time in step.times:
            assert (time.total_s >= time.roofline_s * (1 - 1e-12)).all()


@given(layers, structures, batches, lengths, st.floats(1.0, 10.0), st.integers(0, 3))
def test_a_better_device_never_hurts(layer, structure, batch, length, factor, which):
    asked, on = scenario(batch=float(batch), input_token=float(length)), device(structure)
    dram = on.dram
    assert dram.bandwidth_byte_per_s is not None
    better = [
        replace(on, matrix_flop_per_s={k: v * factor for k, v in on.matrix_flop_per_s.items()}),
        replace(on, vector_flop_per_s=on.vector_flop_per_s * factor),
        replace(on, dram=replace(dram, bandwidth_byte_per_s=dram.bandwidth_byte_per_s * factor)),
        replace(on, efficiency=replace(on.efficiency, kernel_overhead_s=on.efficiency.kernel_overhead_s / factor)),
    ][which]
    slow, fast = times(model(layer), on, asked)[0], times(model(layer), better, asked)[0]
    assert all(b <= a * (1 + 1e-12) for a, b in zip(slow, fast, strict=True))


@given(layers, structures, batches, lengths, st.sampled_from([Dtype.FP8, Dtype.INT8, Dtype.INT4]))
def test_fewer_bytes_never_hurt(layer, structure, batch, length, narrow):
    asked, of, on = scenario(batch=float(batch), input_token=float(length)), model(layer), device(structure)
    wide = times(of, on, asked)[0]
    small = times(of, on, replace(asked, precision=Precision(weights=narrow, experts=narrow)))[0]
    assert all(b <= a * (1 + 1e-12) for a, b in zip(wide, small, strict=True))


def test_int4_weights_gain_no_flop():
    # W4A16 computes in 16 bits: compute seconds stay, memory seconds fall.
    asked = scenario()
    wide = predict(model(), device(), UNCALIBRATED, asked).prefill.kernels
    narrow = predict(
        model(), device(), UNCALIBRATED, replace(asked, precision=Precision(weights=Dtype.INT4))
    ).prefill.kernels
    for a, b in zip(wide, narrow, strict=True):
        assert a.compute_s == b.compute_s
        assert (b.memory_s < a.memory_s) == (a.kind == "gemm" and a.name != "lm_head")


def test_upcast_dtype_gains_no_flop():
    # The device upcasts fp8 to bf16: W8A8 costs as much arithmetic as bf16.
    fp8 = Precision(weights=Dtype.FP8, activations=Dtype.FP8)
    wide, narrow = (predict(model(), device(), UNCALIBRATED, scenario(precision=p)).prefill for p in (Precision(), fp8))
    assert [k.compute_s for k in wide.kernels] == [k.compute_s for k in narrow.kernels]


@given(
    layers, structures, attentions, st.lists(batches, min_size=1, max_size=4), st.lists(lengths, min_size=1, max_size=4)
)
def test_vector_equals_scalar(layer, structure, attention, batch, length):
    of, on, asked = model(layer), device(structure), scenario(attention=attention, output_token=1.0)
    grid = decode_grid(of, on, UNCALIBRATED, asked, np.array(batch, float), np.array(length, float))
    for i, b in enumerate(batch):
        for j, n in enumerate(length):
            one = replace(asked, batch=float(b), input_token=float(n))
            assert grid[i, j] == pytest.approx(
                float(decode_times(deployment(of, on, UNCALIBRATED, one), one)[1]), rel=1e-12
            )


@given(layers, batches, lengths)
def test_more_work_never_takes_less_time(layer, batch, length):
    of, on = model(layer), device()
    small = scenario(batch=float(batch), input_token=float(length))
    for large in (replace(small, batch=batch + 1.0), replace(small, input_token=length + 1.0)):
        before, after = times(of, on, small)[0], times(of, on, large)[0]
        assert all(b >= a * (1 - 1e-12) for a, b in zip(before, after, strict=True))


@given(layers, batches, lengths, st.sampled_from([1, 2, 4]))
def test_largest_batch_and_context_are_the_edge(layer, batch, length, tp):
    asked = scenario(batch=float(batch), input_token=float(length), parallelism=Parallelism(tp=tp))
    of, on = model(layer), device(dram=replace(device().dram, capacity_byte=60e6))
    found = capacity(of, on, asked)
    for value in (found.max_batch, found.max_batch + 1):
        fits = value == 0 or footprint(of, on, replace(asked, batch=float(value))).free_byte >= 0
        assert fits == (value == found.max_batch)
    assert found.fits == (batch <= found.max_batch)


@given(st.integers(0, 10**7), st.integers(0, 10**7))
def test_largest_true_finds_the_edge(edge, limit):
    assert largest_true(lambda x: x <= edge, limit) == min(edge, limit)


def test_request_time_is_prefill_and_the_other_tokens():
    prediction = predict(model(), device(), UNCALIBRATED, scenario(output_token=11.0))
    assert prediction.tpot_s is not None
    assert prediction.e2e_s == pytest.approx(prediction.ttft_s + 10 * prediction.tpot_s)


def test_decode_context_by_hand():
    # 100 in, 5 out: decode steps have 100, 101, 102, 103 cached tokens; their mean is 101.5.
    assert decode_context(scenario(input_token=100.0, output_token=5.0)) == 101.5
    assert decode_context(scenario(input_token=100.0, output_token=1.0)) == 100.0


def test_pipeline_by_hand():
    # Stages of 2, 3 and 1 s, three micro-batches: the last leaves after 6 + 2·3; a token comes round every 9 s.
    latency, period = pipeline_s(np.array([2.0, 3.0, 1.0]), 3.0)
    assert (latency, period) == (12.0, 9.0)
    assert pipeline_s(np.array([2.0, 3.0, 1.0]), 1.0) == (6.0, 6.0)


@given(layers, st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 4]), st.sampled_from([1, 2]))
def test_weights_of_all_devices_hold_the_model(layer, tp, pp, dp):
    of = model(*(layer,) * 4)
    spread = Parallelism(tp=tp, pp=pp, dp=dp)
    one = footprint(of, device(), scenario())
    part = footprint(of, device(), scenario(parallelism=spread))
    assert part.weight_byte * tp * pp >= one.weight_byte * (1 - 1e-12)
    assert part.weight_byte <= one.weight_byte


def test_phase_figures_are_the_sums_of_their_kernels():
    prediction = predict(model(MIXTURE, SLIDING), device(), UNCALIBRATED, scenario(parallelism=Parallelism(tp=2)))
    for phase in (prediction.prefill, prediction.decode):
        assert phase is not None
        assert phase.total_s == pytest.approx(sum(k.count * k.total_s for k in phase.kernels))
        assert phase.roofline_s == pytest.approx(sum(k.count * k.roofline_s for k in phase.kernels))
        assert sum(phase.bound_share.values()) == pytest.approx(1.0)
        assert 0 < phase.mfu < 1 and 0 < phase.mbu < 1


def test_flip_is_exactly_where_the_bound_changes():
    prediction = predict(model(max_context=1e6), device(), UNCALIBRATED, scenario())
    flips = {flip.quantity: flip for flip in prediction.flips}
    assert flips, "this small model must flip from overhead to something else as the batch grows"
    for quantity, flip in flips.items():
        field = {"batch": "batch", "input": "input_token"}[quantity]
        before = predict(model(max_context=1e6), device(), UNCALIBRATED, scenario(**{field: float(flip.value - 1)}))
        after = predict(model(max_context=1e6), device(), UNCALIBRATED, scenario(**{field: float(flip.value)}))
        assert before.decode and after.decode
        assert before.decode.bound != after.decode.bound == flip.bound


def test_mfu_is_of_the_fastest_format_that_a_step_computes_in():
    # V100 makes bf16 products in fp32, at an eighth of the rate of its fp16 attention, which is most of this prefill.
    found = roofline.predict("llama-3.2-1b", "v100-sxm2-32gb", batch=2, input=16_553, weights="bf16")
    peaks = found.case.device.matrix_flop_per_s
    assert peaks[Dtype.FP32] < peaks[Dtype.FP16] / 7
    flop = sum(kernel.count * kernel.matrix_flop for kernel in found.prefill.kernels)
    assert found.prefill.mfu == pytest.approx(flop / (found.prefill.total_s * peaks[Dtype.FP16]))
