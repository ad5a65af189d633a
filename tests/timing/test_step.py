"""Kernels of a model's step timed by a calibration: the right fit, the right shapes, and the loop of a model."""

from dataclasses import replace

import numpy as np
import pytest

from roofline.deployment import deployment
from roofline.io.calibration import load_calibration, uncalibrated
from roofline.io.profiles import load_target
from roofline.kernels.attention import AttentionShape, FusedAttention, WholeLatentAttention
from roofline.kernels.collective import Collective, CollectiveKind
from roofline.kernels.gemm import Gemm
from roofline.kernels.moe import ExpertLayer
from roofline.kernels.pointwise import Pointwise, PointwiseKind
from roofline.structs import NO_WINDOW, Dtype
from roofline.timing.attention_common import second_per_byte
from roofline.timing.calibrated import calibrated_time
from roofline.timing.chip import chip_of
from roofline.timing.decode_attention import DecodeAttentionParameters, decode_attention_time
from roofline.timing.gemm import gemm_time
from roofline.timing.latent_attention import latent_attention_time
from roofline.timing.loop import MODEL_STEP, BenchmarkLoop
from roofline.timing.moe import moe_time
from roofline.timing.nccl import RingParameters
from roofline.timing.pointwise import PointwiseParameters, pointwise_time
from roofline.timing.prefill_attention import prefill_attention_time
from roofline.timing.routing import UniformRouting
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


COLD, WARM = BenchmarkLoop(np.inf), BenchmarkLoop(1.0)
CHIP = chip_of(H100.device, Dtype.BF16)


def one(value):
    return np.array([float(value)])


def attention_of(sequences, new, context):
    return AttentionShape(
        one(sequences), one(new), one(context), one(8), one(2), one(128), one(128), one(NO_WINDOW), one(512),
        Dtype.BF16, Dtype.BF16, True,
    )  # fmt: skip


def gemm_in(loop):
    return gemm_time(16.0, 4096.0, 2048.0, chip=CHIP, parameters=fit("gemm"), loop=loop)


def prefill_in(loop):
    parameters = replace(fit("prefill_attention"), writes_cache=False)
    heads = (8.0, 2.0, 128.0, NO_WINDOW)
    return prefill_attention_time(16.0, 16.0, 1000.0, *heads, chip=CHIP, parameters=parameters, loop=loop)


def decode_in(loop):
    heads = (8.0, 2.0, 128.0, NO_WINDOW)
    return decode_attention_time(16.0, 1000.0, *heads, chip=CHIP, parameters=fit("decode_attention"), loop=loop)


def latent_in(loop):
    sizes = (16.0, 1.0, 1000.0, 16.0, 512.0, 64.0, 128.0, 128.0)
    return latent_attention_time(*sizes, chip=CHIP, parameters=fit("latent_decode"), loop=loop)


def experts_in(loop):
    return moe_time(
        4.0, 1024.0, 512.0, 2.0, 8.0, ranks=1.0, chip=CHIP, parameters=fit("moe"), routing=UniformRouting(), loop=loop
    )


def fit(family):
    return CALIBRATION.models[family, "bf16"].parameters


LATENTS = WholeLatentAttention(
    one(16), one(1), one(1000), one(16), one(512), one(64), one(128), one(128), Dtype.BF16, Dtype.BF16, Dtype.BF16, True
)
EXPERTS = ExpertLayer(
    one(4), one(1024), one(512), one(2), one(2), one(8), one(8), one(0), Dtype.BF16, Dtype.BF16, Dtype.BF16
)
GEMM = Gemm(one(16), one(4096), one(2048), one(1), one(0), Dtype.BF16, Dtype.BF16, Dtype.BF16)


@pytest.mark.parametrize(
    ("work", "in_loop", "family"),
    [
        (GEMM, gemm_in, "gemm"),
        (FusedAttention(attention_of(16, 16, 1000), decoding=False), prefill_in, "prefill_attention"),
        (FusedAttention(attention_of(16, 1, 1000), decoding=True), decode_in, "decode_attention"),
        (LATENTS, latent_in, "latent_decode"),
        (EXPERTS, experts_in, "moe"),
    ],
)
def test_a_steps_weights_and_cache_come_from_dram_whatever_the_records_loop_kept(work, in_loop, family):
    # Every operand here fits the cache of 50 MB: a loop over one copy finds it there, a step of a model does not.
    step = calibrated_time(work, H100.device, [CALIBRATION.models[family, "bf16"]])
    assert step.total_s == in_loop(COLD).total_s
    assert step.memory_s >= in_loop(WARM).memory_s
    assert step.roofline_s > in_loop(WARM).roofline_s


def test_what_would_fit_the_cache_comes_no_faster_from_dram():
    # 5 MB of keys and values, 1 MB besides, 40 % of 50 MiB usable: (6 / 20.97)^3 more than all of it fits.
    fits = 1 / (1 + (6e6 / (0.4 * 50 * 2**20)) ** 3)
    rate = 132 * CHIP.clock_hz
    dram_s = 1 / (0.8 * 3350e9)
    for byte_per_clock in (30.0, 8.0):  # a cache faster and, as some fits have it, slower than DRAM
        parameters = DecodeAttentionParameters(
            dram_fraction=0.8, cache_fraction=0.4, cache_byte_per_clock=byte_per_clock
        )
        cache_s = 1 / (byte_per_clock * rate)
        warm, cold = (second_per_byte(5e6, 1e6, copies, parameters, CHIP) for copies in (1.0, np.inf))
        assert warm == pytest.approx(fits * cache_s + (1 - fits) * dram_s, rel=1e-9)
        assert cold == pytest.approx(fits * max(cache_s, dram_s) + (1 - fits) * dram_s, rel=1e-9)


def test_a_steps_pointwise_kernels_are_never_faster_than_dram():
    # 8 MB in and out: in a loop both stay in the cache. A fast cache makes the fitted time fall below DRAM's.
    quick = PointwiseParameters(launch_s=3e-7, unit_byte_per_clock=200.0, row_clock=0.1, cache_fraction=3.0)
    fitted = replace(CALIBRATION.models["norm", "bf16"], parameters=quick)
    row, byte = 1024.0, 8192.0
    nothing = one(0)
    work = Pointwise(one(row), nothing, one(byte), one(byte), nothing, nothing, one(1), (PointwiseKind.NORM,))
    floor_s = 2 * row * byte / H100.device.dram.bandwidth_byte_per_s
    assert pointwise_time(row, byte, byte, CHIP, quick, WARM).total_s < floor_s
    assert calibrated_time(work, H100.device, [fitted]).total_s >= floor_s


def all_reduce(calibration, rows, group=8.0, link=H100.device.intra_node):
    device = replace(H100.device, intra_node=link)
    work = Collective(CollectiveKind.ALL_REDUCE, one(rows), one(2 * 8192), one(group))
    return calibrated_time(work, device, [calibration.models["all_reduce", "bf16"]]).total_s


def test_small_all_reduces_are_the_engines_own_and_others_nccls():
    direct, link = fit("all_reduce"), H100.device.intra_node
    nccl = replace(CALIBRATION, models={("all_reduce", "bf16"): replace(
        CALIBRATION.models["all_reduce", "bf16"], parameters=direct.beyond)})  # fmt: skip
    assert direct.limit_byte == 8 * 2**20
    assert all_reduce(CALIBRATION, 32.0) < 0.8 * all_reduce(nccl, 32.0)  # decode: 512 KiB
    assert all_reduce(CALIBRATION, 512.0) < 0.8 * all_reduce(nccl, 512.0)  # 8 MiB: symmetric memory (50.7 to 79.2 us)
    assert all_reduce(CALIBRATION, 4096.0) == all_reduce(nccl, 4096.0)  # prefill: from 64 MiB on
    wide = replace(link, domain_size=72.0)
    assert all_reduce(CALIBRATION, 32.0, 16.0, wide) == all_reduce(nccl, 32.0, 16.0, wide)  # more than eight devices
    assert all_reduce(CALIBRATION, 32.0, 16.0) == all_reduce(nccl, 32.0, 16.0)  # two nodes of eight
    asked = load_calibration(H100, "nccl").models["all_reduce", "bf16"]
    assert isinstance(asked.parameters, RingParameters) and asked.evidence.backend == "nccl"


def test_no_host_paces_a_step():
    assert (MODEL_STEP.operand_copies, MODEL_STEP.launch_floor_s) == (np.inf, 0.0)
