"""Kernels of a model's step timed by a calibration: the right fit, the right shapes, and the loop of a model."""

import numpy as np
import pytest

from roofline.deployment import deployment
from roofline.io.calibration import load_calibration, uncalibrated
from roofline.io.profiles import load_target
from roofline.structs import Dtype
from roofline.timing.chip import chip_of
from roofline.timing.latent_attention import latent_attention_time
from roofline.workload import AttentionKind, Parallelism, Precision, Scenario, decode, prefill
from tests.builders import LATENT, model

H100 = load_target("h100-sxm")
CALIBRATION = load_calibration(H100)


def scenario(attention=AttentionKind.FUSED, kv=Dtype.BF16, tp=1):
    return Scenario(
        batch=8, input_token=64, output_token=2, precision=Precision(kv=kv),
        parallelism=Parallelism(tp=tp), attention=attention,
    )  # fmt: skip


def kernels(step):
    """Total seconds and work of each kernel by name."""
    return {
        name: (np.broadcast_to(time.total_s, (len(group.names),))[i], group.work)
        for group, time in zip(step.groups, step.times, strict=True)
        for i, name in enumerate(group.names)
    }


def latent_step(calibration, asked, batch):
    where = deployment(model(LATENT, LATENT), H100.device, calibration, asked)
    return kernels(where.prefill_step(batch))


@pytest.mark.parametrize("kv", [Dtype.BF16, Dtype.FP8])
def test_latent_attention_in_a_step_is_timed_by_its_fit(kv):
    found = latent_step(CALIBRATION, scenario(kv=kv, tp=2), (prefill(3.0, 640.0, 32.0), decode(8.0, 1000.0)))
    label = "bf16" if kv is Dtype.BF16 else "bf16/fp8"
    for name, key, sizes in (
        ("attention[0]", "latent_prefill", (3, 640, 32)),
        ("attention[1]", "latent_decode", (8, 1, 1000)),
    ):
        time = latent_attention_time(
            *map(float, sizes), 4.0, 32.0, 8.0, 16.0, 16.0,
            kv_byte=2.0 if kv is Dtype.BF16 else 1.0,
            chip=chip_of(H100.device, Dtype.BF16),
            parameters=CALIBRATION.models[key, label].parameters,
        )  # fmt: skip
        assert found[name][0] == time.total_s


def test_latent_attention_runs_product_by_product_where_it_was_not_measured_whole():
    batch = (decode(8.0, 1000.0),)
    assert "attention" in latent_step(CALIBRATION, scenario(), batch)
    assert "kv_b_proj" not in latent_step(CALIBRATION, scenario(), batch)
    assert "kv_b_proj" in latent_step(uncalibrated(), scenario(), batch)
    assert "kv_b_proj" in latent_step(CALIBRATION, scenario(AttentionKind.UNFUSED), batch)
    where = deployment(model(LATENT), H100.device, uncalibrated(), scenario())
    assert {"q_absorb", "v_absorb"} <= kernels(where.decode_step(8.0, 1000.0)).keys()
