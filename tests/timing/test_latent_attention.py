"""Latent attention times: derived by hand, laws, and measured rows that the fit did not see."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofline.io.records import Family, Records
from roofline.timing.chip import Chip
from roofline.timing.latent_attention import LatentAttentionParameters, LatentKernel, latent_attention_time
from roofline.timing.loop import BenchmarkLoop
from roofline.timing.parameter import facts_of
from roofline.timing.time import Time

from .attention_records import A100, H100, Predict, records_of, score

DEEPSEEK = (512.0, 64.0, 128.0, 128.0)
kernels = st.sampled_from(list(LatentKernel))
shapes = st.tuples(st.integers(1, 1024), st.integers(1, 4096), st.integers(0, 131_072), st.sampled_from((1, 16, 128)))


def timed(shape: tuple[float, ...], chip: Chip, parameters: LatentAttentionParameters) -> Time:
    return latent_attention_time(*map(float, shape), *DEEPSEEK, chip=chip, parameters=parameters)


def predict(chip: Chip, kv_byte: float) -> Predict:
    def time(records: Records, parameters: LatentAttentionParameters) -> Time:
        return latent_attention_time(
            **records.dims, kv_byte=kv_byte, chip=chip, parameters=parameters, loop=records.loop
        )

    return time


def test_decode_reads_each_latent_once() -> None:
    # 1024 sequences x 8192 latents of 576 values in bf16 and one head: bound by DRAM.
    parameters = LatentAttentionParameters(dram_fraction=0.9, launch_s=1e-6, feed_byte_per_clock=500.0)
    time = timed((1024, 1, 8191, 1), H100, parameters)
    assert time.roofline_s == pytest.approx(1024 * 8192 * 576 * 2 / 3350e9, rel=1e-3)
    assert time.total_s == pytest.approx(time.roofline_s / 0.9, rel=0.02)


def test_the_roofline_takes_the_cheaper_form() -> None:
    # Long prefill: expanded, 2·(192 + 128) FLOP a pair and 2·512·256 a key and head beat 2·(576 + 512) a pair.
    time = timed((1, 32768, 0, 128), H100, LatentAttentionParameters())
    pairs = 32768 * 32769 / 2
    flop = 128 * (640 * pairs + 2 * 512 * 256 * 32768)
    assert time.roofline_s == pytest.approx(flop / 989.4e12, rel=1e-6)


def test_short_calls_run_absorbed_and_long_ones_expanded() -> None:
    parameters = LatentAttentionParameters(expanded_passes=20.0, kernel=LatentKernel.FLASH_ATTENTION_3)
    absorbed, expanded = (timed((64, new, 0, 128), H100, parameters).memory_s for new in (512, 513))
    assert expanded > 2 * absorbed


def test_one_head_per_device_leaves_the_matrix_unit_only_where_declared() -> None:
    slow = LatentAttentionParameters(vector_slowdown=10.0, kernel=LatentKernel.TRITON)
    quick = replace(slow, vector_slowdown=1.0)
    assert timed((64, 1, 16383, 1), A100, slow).compute_s > 5 * timed((64, 1, 16383, 1), A100, quick).compute_s
    assert timed((64, 1, 16383, 2), A100, slow).compute_s == timed((64, 1, 16383, 2), A100, quick).compute_s


@given(st.lists(shapes, min_size=1, max_size=5), kernels)
def test_vector_equals_scalar_and_never_beats_the_roofline(rows: list[tuple[float, ...]], kernel: LatentKernel) -> None:
    parameters = LatentAttentionParameters(kernel=kernel)
    columns = [np.asarray(column, float) for column in zip(*rows, strict=True)]
    time = latent_attention_time(*columns, *DEEPSEEK, chip=H100, parameters=parameters)
    assert np.all(time.total_s >= time.roofline_s)
    single = [float(timed(row, H100, parameters).total_s) for row in rows]
    np.testing.assert_allclose(time.total_s, single, rtol=1e-12)


@given(shapes, kernels, st.floats(1.0, 4.0))
def test_more_bandwidth_or_a_faster_clock_never_hurts(
    shape: tuple[float, ...], kernel: LatentKernel, factor: float
) -> None:
    parameters = LatentAttentionParameters(kernel=kernel)
    base = timed(shape, H100, parameters).total_s
    for better in (
        replace(H100, dram_byte_per_s=H100.dram_byte_per_s * factor), replace(H100, clock_hz=H100.clock_hz * factor)
    ):  # fmt: skip
        assert timed(shape, better, parameters).total_s <= base * (1 + 1e-9)


def test_at_most_twelve_fitted_parameters() -> None:
    assert len(facts_of(LatentAttentionParameters)) <= 12


MEASURED = [
    ("a100_sxm", A100, Family.LATENT_PREFILL, 2.0, LatentKernel.TRITON, 4.0, 9.0),
    ("a100_sxm", A100, Family.LATENT_DECODE, 2.0, LatentKernel.TRITON, 5.0, 12.0),
    ("h100_sxm", H100, Family.LATENT_PREFILL, 2.0, LatentKernel.FLASH_ATTENTION_3, 6.0, 10.5),
    ("h100_sxm", H100, Family.LATENT_DECODE, 2.0, LatentKernel.FLASH_ATTENTION_3, 6.0, 11.5),
    ("h100_sxm", H100, Family.LATENT_PREFILL, 1.0, LatentKernel.FLASH_MLA, 7.0, 11.5),
    ("h100_sxm", H100, Family.LATENT_DECODE, 1.0, LatentKernel.FLASH_MLA, 6.0, 10.5),
]


@pytest.mark.parametrize("device,chip,family,kv_byte,kernel,median,mean", MEASURED)
def test_measured_rows_not_fitted(
    data_folder: Path, device: str, chip: Chip, family: Family, kv_byte: float, kernel: LatentKernel,
    median: float, mean: float,
) -> None:  # fmt: skip
    folder = data_folder / "aiconfigurator/systems/data" / device / "mla/vllm/0.14.0"
    records = records_of(folder, family, kv_byte)
    result = score(eager(records), predict(chip, kv_byte), LatentAttentionParameters(kernel=kernel))
    assert result.median <= median
    assert result.mean <= mean
    assert result.flagged == 0.0


def eager(records: Records) -> Records:
    """`records` with the host's launch floor: the median time of the quarter with the least work."""
    dims = records.dims
    work = dims["sequences"] * dims["new_token"] * (dims["context"] + dims["new_token"]) * dims["heads"]
    floor = float(np.median(records.measured_s[work <= np.quantile(work, 0.25)]))
    return replace(records, loop=BenchmarkLoop(operand_copies=1.0, launch_floor_s=floor))
