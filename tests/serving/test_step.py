from dataclasses import replace

import numpy as np
import pytest

from roofline.api import load_calibration, load_model, load_target, precision_of
from roofline.deployment import deployment
from roofline.io.engines import load_engine
from roofline.serving.engine import HostCost, KernelScale
from roofline.serving.step import served_model
from roofline.workload import AttentionKind, Parallelism, Scenario, decode, prefill

from .made import ENGINE, served


def real(name="llama-3.1-8b", tp=1, pp=1, engine="vllm"):
    loaded, target = load_model(name), load_target("h100-sxm")
    asked = Scenario(1.0, 1.0, 1.0, precision_of(loaded, target.device), Parallelism(tp, pp), AttentionKind.FUSED)
    parts = (loaded.model, target.device, load_calibration(target), asked)
    return served_model(*parts, load_engine(engine)), deployment(*parts)


BARE = replace(load_engine("vllm"), host=HostCost(), scale=KernelScale())


@pytest.mark.parametrize("tp", [1, 4])
def test_a_decode_step_without_host_and_scales_is_that_of_the_deployment(tp):
    live, where = real(tp=tp)
    live = replace(live, engine=BARE)
    sequence, context = np.array([1.0, 7.0, 64.0]), np.array([10.0, 2000.0, 900.0])
    expected = where.decode_step(sequence, context).stage_s[..., 0]
    assert live.decode_step_s(sequence, context).total_s == pytest.approx(expected, rel=1e-12)


def test_a_step_of_prompts_alone_is_that_of_the_deployment():
    live, where = real()
    live = replace(live, engine=BARE)
    expected = float(where.prefill_step((prefill(2.0, 500.0, 100.0),)).stage_s[..., 0])
    assert float(live.prefill_step_s(500.0, 100.0, 2.0).total_s) == pytest.approx(expected, rel=1e-12)


def test_a_mixed_step_is_the_deployments_where_no_scale_tells_prompts_from_decodes():
    live, where = real()
    live = replace(live, engine=BARE)
    mixed = where.prefill_step((prefill(1.0, 512.0, 0.0), decode(32.0, 1000.0)))
    expected = float(mixed.stage_s[..., 0])
    assert float(live.mixed_step_s(512.0, 0.0, 1.0, 32.0, 1000.0).total_s) == pytest.approx(expected, rel=1e-9)


def test_a_mixed_step_without_prompts_is_a_decode_step_and_parts_add_up():
    live, _ = real(tp=2)
    step, plain = live.mixed_step_s(0.0, 0.0, 0.0, 16.0, 800.0), live.decode_step_s(16.0, 800.0)
    assert float(step.total_s) == pytest.approx(float(plain.total_s), rel=1e-12)
    parts = (plain.gemm_s, plain.attention_s, plain.all_reduce_s, plain.other_s, plain.host_s)
    assert sum(map(float, parts)) == pytest.approx(float(plain.total_s))
    assert float(plain.all_reduce_s) > 0.0


def test_host_time_is_step_layers_and_sequences():
    host = HostCost(step_s=1e-3, layer_s=1e-4, sequence_s=1e-5, prefill_step_s=2e-3, prefill_layer_s=2e-4)
    live = served(replace(ENGINE, host=host))  # four layers
    assert float(live.decode_step_s(10.0, 100.0).host_s) == pytest.approx(1e-3 + 4e-4 + 1e-4)
    assert float(live.mixed_step_s(100.0, 0.0, 1.0, 10.0, 100.0).host_s) == pytest.approx(1.5e-3 + 2e-3 + 8e-4)


def test_scales_multiply_their_family_but_never_beat_the_bare_roofline():
    live, _ = real(tp=4)
    plain = replace(live, engine=BARE)
    halved = replace(live, engine=replace(BARE, scale=KernelScale(decode_all_reduce=0.5)))
    once, half = plain.decode_step_s(8.0, 500.0), halved.decode_step_s(8.0, 500.0)
    assert float(half.all_reduce_s) == pytest.approx(0.5 * float(once.all_reduce_s))
    assert float(half.gemm_s) == float(once.gemm_s)
    tiny = replace(live, engine=replace(BARE, scale=KernelScale(decode_gemm=1e-6)))
    bare = plain.times.body(8.0) + plain.times.head(8.0)
    assert float(tiny.decode_step_s(8.0, 500.0).gemm_s) == pytest.approx(float(bare[..., 0, 0, 1]))


def test_two_stages_share_the_sequences_and_the_slowest_sets_the_pace():
    live, where = real(pp=2)
    live = replace(live, engine=BARE)
    stage_s = where.decode_step(32.0, 700.0).stage_s
    expected = max(float(stage_s.sum()), 2.0 * float(stage_s.max()))
    assert float(live.decode_step_s(64.0, 700.0).total_s) == pytest.approx(expected, rel=1e-9)


def test_a_table_is_close_to_what_it_was_made_of():
    live, _ = real("llama-3.1-70b", tp=4)
    table = live.tabulated(8192.0, 256.0, 16384.0)
    generator = np.random.default_rng(0)
    sequence, context, token = (generator.uniform(low, high, 400) for low, high in ((1, 256), (10, 16000), (1, 8000)))
    decodes = table.decode_step_s(sequence, context).total_s / live.decode_step_s(sequence, context).total_s
    mixed = (
        table.mixed_step_s(token, context, 1.0, sequence, context).total_s
        / live.mixed_step_s(token, context, 1.0, sequence, context).total_s
    )
    assert np.abs(decodes - 1.0).max() < 0.04
    assert np.abs(mixed - 1.0).mean() < 0.02
    whole = np.arange(1.0, 65.0)  # on the grid itself it is exact
    assert table.times.body(whole) == pytest.approx(live.times.body(whole), rel=1e-9)
