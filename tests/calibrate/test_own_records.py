"""Calibration from the project's own records of a processor: known parameters are found, and bad files are named."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from roofline.calibrate.judge import interval
from roofline.calibrate.models import parameters_time
from roofline.calibrate.rows import Rows, grouped, split
from roofline.calibrate.run import calibrate
from roofline.device import Cpu, Device, Efficiency, MemoryLevel
from roofline.errors import RooflineError
from roofline.io.datasets import own, read
from roofline.io.records import Family, Precision, Records
from roofline.kernels import cost_of
from roofline.kernels.attention import AttentionShape, UnfusedAttention, UnfusedStep
from roofline.structs import NO_WINDOW, Dtype
from roofline.timing.calibrated import calibrated_time
from roofline.timing.calibration import keys_of
from roofline.timing.cpu import CpuGemmParameters, CpuRowParameters, cpu_row_time, processor_of
from roofline.timing.cpu_step import rows_of
from roofline.timing.loop import BenchmarkLoop

HOST = Device(
    name="host",
    title="two cores",
    structure=Cpu(),
    unit_count=2.0,
    clock_hz=3e9,
    matrix_flop_per_s={Dtype.FP32: 200e9},
    vector_flop_per_s=200e9,
    upcast={},
    on_chip=MemoryLevel(1e6, 300e9),
    last_level_cache=MemoryLevel(32e6, 160e9),
    dram=MemoryLevel(16e9, 40e9),
    reserve_fraction=0.1,
    intra_node=None,
    inter_node=None,
    power_w=10.0,
    idle_power_w=None,
    price_usd_per_hour=None,
    efficiency=Efficiency(0.8, 0.1, 0.8, 1.0, 1e-6),
    digest="",
)
TRUE = CpuGemmParameters(call_s=3e-6, matrix_fraction=0.6, half_row=8.0, pack_flop_per_byte=30.0, dram_fraction=0.5)


def records(dims: dict[str, np.ndarray], kernel: str, family: Family = Family.GEMM) -> Records:
    size = next(iter(dims.values())).size
    precision = Precision("fp32", Dtype.FP32, Dtype.FP32, Dtype.FP32)
    return Records(
        family, "host", "numpy", "2", kernel, precision, BenchmarkLoop(), dims, np.ones(size),
        np.arange(1.0, size + 1.0), "run.json", "0" * 64,
    )  # fmt: skip


def timed(found: Records, parameters: object, noise: float = 0.0) -> Records:
    factor = np.exp(noise * np.random.default_rng(1).standard_normal(found.size))
    return replace(found, measured_s=parameters_time(found, HOST, parameters).total_s * factor)


def products(kernel: str = "up_proj", size: int = 120, seed: int = 0) -> Records:
    draw = np.random.default_rng(seed)
    m, n, k = (np.round(np.exp(draw.uniform(np.log(low), np.log(2000.0), size))) for low in (1.0, 64.0, 64.0))
    m[::4] = 1.0
    return records({"m": m, "n": n, "k": k, "copies": np.ones(size)}, kernel)


def fitted(*groups: Records):
    fits, skipped = calibrate(groups, HOST, date="2026-11-23")
    assert not skipped
    return fits


def test_known_parameters_are_found():
    found = fitted(timed(products(), TRUE, noise=0.02))["gemm", "fp32"]
    assert isinstance(found.parameters, CpuGemmParameters)
    assert found.parameters.matrix_fraction == pytest.approx(0.6, rel=0.05)
    fresh = timed(products(seed=7), TRUE)
    error = parameters_time(fresh, HOST, found.parameters).total_s / fresh.measured_s - 1.0
    assert np.median(np.abs(error)) < 0.02
    assert {"dram_fraction", "cache_fraction"} & set(found.evidence.undetermined)  # cold weights pass through both
    assert found.evidence.median_ape < 0.03


def test_what_rows_cannot_determine_is_said():
    """All products are far too large for their call to matter."""
    draw = np.random.default_rng(0).integers(1000, 3000, (3, 60)).astype(float)
    large = records(dict(zip("mnk", draw, strict=True)) | {"copies": np.ones(60)}, "up_proj")
    assert "call_s" in fitted(timed(large, TRUE))["gemm", "fp32"].evidence.undetermined


def test_one_shape_of_two_steps_is_fitted_or_judged_but_not_both():
    groups = grouped([timed(products("q_proj"), TRUE), timed(products("k_proj"), TRUE)], None)["gemm", "fp32"]
    parts = split(groups, HOST, fit_fraction=0.5, seed=0)

    def shapes(rows):
        chosen = Rows(groups).take(np.sort(rows)).groups
        return {tuple(row) for group in chosen for row in np.stack(list(group.dims.values()), axis=1).tolist()}

    assert not shapes(parts.fitted) & shapes(parts.unseen)
    assert parts.fitted.size + parts.unseen.size == 240


def test_fewer_records_than_parameters():
    fits, skipped = calibrate([timed(products(size=6), TRUE)], HOST, date="2026-11-23")
    assert not fits and "cannot determine 12 parameters" in skipped[0].reason


def test_times_faster_than_physics_are_never_fitted():
    honest = timed(products(), TRUE)
    spoiled = replace(honest, measured_s=np.where(np.arange(120) < 10, 1e-9, honest.measured_s))
    assert fitted(spoiled)["gemm", "fp32"].evidence.excluded_rows == 10


def test_experts_start_from_the_products_of_their_library():
    tokens = np.array([1.0, 4.0, 8.0, 16.0, 40.0, 60.0, 90.0, 130.0, 200.0, 300.0])
    fixed = {"hidden": 256.0, "width": 128.0, "experts": 8.0, "per_token": 2.0, "tensor_parallel": 1.0}
    fixed |= {"expert_parallel": 1.0, "routing_exponent": 0.0}
    dims = {"token": tokens, **{name: np.full(10, value) for name, value in fixed.items()}}
    experts = records(dims, "experts_down", Family.MOE)
    fits = fitted(timed(products(), TRUE), timed(experts, TRUE))
    own_fit, base = fits["expert_gemm", "fp32"].parameters, fits["gemm", "fp32"].parameters
    assert own_fit.matrix_fraction == base.matrix_fraction
    assert fits["expert_gemm", "fp32"].evidence.median_ape < 0.05


@pytest.mark.parametrize("step", list(UnfusedStep))
def test_a_step_of_a_model_takes_as_long_as_its_record(step):
    """Two sequences of 24 tokens behind 40, 8 heads on 2 KV heads of 64, as the executors record them."""
    one = np.ones(1)
    shape = AttentionShape(
        2.0 * one, 24.0 * one, 40.0 * one, 8.0 * one, 2.0 * one, 64.0 * one, 64.0 * one, NO_WINDOW * one,
        256.0 * one, Dtype.FP32, Dtype.FP32, True,
    )  # fmt: skip
    work = UnfusedAttention(shape, step)
    recorded = {
        UnfusedStep.SCORES: {"m": 96.0, "n": 64.0, "k": 64.0, "copies": 4.0},
        UnfusedStep.VALUES: {"m": 96.0, "n": 64.0, "k": 64.0, "copies": 4.0},
        UnfusedStep.SCALE_MASK: {"row": 384.0, "read_byte": 256.0, "write_byte": 256.0},
        UnfusedStep.SOFTMAX: {"row": 384.0, "read_byte": 256.0, "write_byte": 256.0},
        UnfusedStep.HEAD_CONCAT: {"row": 384.0, "read_byte": 256.0, "write_byte": 256.0},
    }[step]
    product = "m" in recorded
    parameters = TRUE if product else CpuRowParameters()
    found = records(
        {name: np.array([value]) for name, value in recorded.items()},
        str(step),
        Family.GEMM if product else Family.SOFTMAX,
    )
    model = replace(fitted(timed(products(), TRUE))["gemm", "fp32"], parameters=parameters)
    expected_s = parameters_time(found, HOST, parameters).total_s
    assert calibrated_time(work, HOST, [model]).total_s == pytest.approx(expected_s)
    assert len(keys_of(work)) == 1


def test_heads_of_one_token_cost_a_call_and_no_bytes():
    one = np.ones(1)
    found = [
        rows_of(UnfusedAttention(AttentionShape(
            2.0 * one, new * one, 40.0 * one, 8.0 * one, 2.0 * one, 64.0 * one, 64.0 * one, NO_WINDOW * one,
            256.0 * one, Dtype.FP32, Dtype.FP32, True,
        ), UnfusedStep.HEAD_CONCAT))[0].item()
        for new in (1.0, 24.0)
    ]  # fmt: skip
    assert found == [0.0, 2.0 * 8 * 24]


def test_a_layer_norm_is_another_kernel_than_an_rms_norm():
    """Two vectors of parameters: passes and call are so many times those of the same rows with one."""
    for factor in (0.4, 1.5):
        times = [
            cpu_row_time(
                10.0, 4096.0, 4096.0, vectors * 4096.0,
                processor=processor_of(HOST, Dtype.FP32),
                parameters=CpuRowParameters(second_vector=factor, second_call=factor),
            ).total_s
            for vectors in (1.0, 2.0)
        ]  # fmt: skip
        compute = times[0] * factor
        assert times[1] == pytest.approx(compute, rel=0.05)


def test_a_band_of_few_shapes_spans_them_all():
    """Twelve shapes, each in four steps of a layer, one shape far off: rank 0.9 * 13 - 1 = 10.7 of 11 is among its
    four rows; taken for 48 shapes, rank 0.9 * 49 - 1 = 43.1 of 47 would be below them.
    """
    ratio = np.repeat([1.0 + 0.01 * shape for shape in range(11)] + [2.0], 4)
    assert interval(ratio, 12) == (1.0, 2.0)
    assert interval(ratio, 48)[1] < 1.3


def test_absorbed_latents_are_read_by_both_products():
    """One latent of 576 values is key; its first 512 are value: 3 sequences of 100 keys in bf16."""
    one = np.ones(1)
    shape = AttentionShape(
        3.0 * one, one, 99.0 * one, 16.0 * one, one, 576.0 * one, 512.0 * one, NO_WINDOW * one, 576.0 * one,
        Dtype.BF16, Dtype.BF16, True,
    )  # fmt: skip
    products = (UnfusedStep.SCORES, UnfusedStep.VALUES)
    read_byte = [cost_of(UnfusedAttention(shape, step)).kv_read_byte for step in products]
    assert np.ravel(read_byte).tolist() == [3 * 100 * 576 * 2.0, 3 * 100 * 512 * 2.0]


def measurement(**changes) -> own.Measurement:
    base = own.Measurement(
        "gemm", "up_proj", "numpy", Dtype.FP32, Dtype.FP32, Dtype.FP32,
        {"m": 1.0, "n": 64.0, "k": 64.0, "copies": 1.0}, None, 0.0, (2e-6,) * 5, 2e-6, 2e-6, 2e-6,
    )  # fmt: skip
    return replace(base, **changes)


def environment(machine: str = "m1") -> own.Environment:
    when = "2026-11-23T00:00:00+00:00"
    return own.Environment(machine, "host", "CPU", 2, {}, {"numpy": "2"}, "openblas", None, 0.1, 1, (0,), when)


def write(path: Path, *found: own.Measurement, machine: str = "m1") -> Path:
    own.write(path, own.RecordFile(own.SCHEMA, environment(machine), found))
    return path


def test_truncated_file(tmp_path):
    path = write(tmp_path / "run.json", measurement())
    path.write_text(path.read_text()[:-40])
    with pytest.raises(RooflineError, match="cut off"):
        read(path)


def test_another_schema(tmp_path):
    path = write(tmp_path / "run.json", measurement())
    path.write_text(path.read_text().replace(own.SCHEMA, "roofline.records/99"))
    with pytest.raises(RooflineError, match="has schema"):
        read(path)


def test_wrong_type_of_a_value(tmp_path):
    path = write(tmp_path / "run.json", measurement())
    content = json.loads(path.read_text())
    content["records"][0]["samples_s"] = "soon"
    path.write_text(json.dumps(content))
    with pytest.raises(RooflineError, match="samples_s"):
        read(path)


def test_two_machines(tmp_path):
    write(tmp_path / "a.json", measurement())
    write(tmp_path / "b.json", measurement(), machine="m2")
    with pytest.raises(RooflineError, match="two machines"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"samples_s": (0.0,) * 5, "median_s": 0.0}, "zero, negative"),
        ({"samples_s": (-1e-6,) * 5, "median_s": -1e-6}, "negative"),
        ({"family": "gem"}, "unknown family"),
        ({"step": "up_prj"}, "unknown step 'up_prj'; did you mean 'up_proj'"),
        ({"dims": {"m": 1.0}}, "needs the dimensions"),
    ],
)
def test_unusable_records_are_refused_and_the_others_kept(tmp_path, changes, reason):
    found, refused = read(write(tmp_path / "run.json", measurement(), measurement(**changes)))
    assert sum(group.size for group in found) == 1
    assert reason in refused[0].reason
