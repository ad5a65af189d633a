"""Kernels over rows: hand-derived times, laws, and the errors reached on measured rows that were not fitted."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofline.calibrate.fit import fit
from roofline.io.datasets import read
from roofline.io.records import Family, Records
from roofline.timing.chip import Chip
from roofline.timing.loop import BenchmarkLoop
from roofline.timing.parameter import facts_of
from roofline.timing.pointwise import PointwiseParameters, pointwise_time

A100 = Chip(108.0, 1.41e9, 312e12 / (108 * 1.41e9), 2039e9, 40.0 * 2**20, 128.0)
PRO_6000 = Chip(188.0, 2.43e9, 467e12 / (188 * 2.43e9), 1792e9, 128.0 * 2**20, 256.0)
PRIOR = PointwiseParameters()
REDUCING = PointwiseParameters(reduces=1.0)

REDUCTIONS = (Family.NORM, Family.SAMPLING, Family.SOFTMAX)

rows = st.floats(1.0, 1e6)
widths = st.floats(2.0, 1e5)


def test_one_row_by_hand():
    """One row fits every cache: launch, and one unit's time of the row; hypot of 1/108 wave and one resident row."""
    clock = PRIOR.row_clock + 16384.0 / PRIOR.unit_byte_per_clock
    expected = PRIOR.launch_s + np.hypot(1 / 108, 1.0) * clock / 1.41e9
    assert pointwise_time(1.0, 8192.0, 8192.0, A100, PRIOR).total_s == pytest.approx(expected, rel=1e-6)
    assert pointwise_time(1.0, 8192.0, 8192.0, A100, REDUCING).total_s == pytest.approx(expected, rel=1e-6)


@given(rows, st.floats(1e4, 1e5), st.sampled_from([0.0, 1.0]))
def test_moving_long_rows_is_memory_time(row: float, width: float, reduces: float):
    """Rows of 10 kB or more: bytes through the caches or from DRAM outlast the fixed clocks of a row."""
    time = pointwise_time(row, width, width, A100, replace(PRIOR, reduces=reduces))
    assert time.memory_s > time.compute_s
    assert max(time.compute_s, time.memory_s) + time.overhead_s <= time.total_s * (1 + 1e-12)


def test_a_gigabyte_streams_from_dram():
    """Reading and writing overlap, so that DRAM alone counts; a reduction waits in between, and pays for both."""
    quick = replace(PRIOR, unit_byte_per_clock=200.0, row_clock=0.1)
    dram_s, units_s = 2.0**30 / (PRIOR.dram_fraction * 2039e9), 65536 / 108 * 0.1 / 1.41e9
    time = pointwise_time(65536.0, 8192.0, 8192.0, A100, quick)
    assert time.total_s == pytest.approx(PRIOR.launch_s + dram_s, rel=0.01)
    assert time.roofline_s == pytest.approx((2.0**30 - 40 * 2**20) / 2039e9)
    slower = replace(quick, reduces=1.0, row_clock=1000.0)
    assert pointwise_time(65536.0, 8192.0, 8192.0, A100, slower).total_s == pytest.approx(
        PRIOR.launch_s + dram_s + 1e4 * units_s, rel=0.01
    )


def test_a_byte_missed_is_never_faster_than_one_kept():
    """Units that move 1 byte per clock (152 GB/s in all) are the limit, wherever the bytes come from."""
    slow = replace(REDUCING, unit_byte_per_clock=1.0, row_clock=0.1, dram_fraction=1.0)
    expected = pytest.approx(2.0**30 / (108 * 1.41e9), rel=1e-3)
    assert pointwise_time(65536.0, 8192.0, 8192.0, A100, slow).memory_s == expected
    assert pointwise_time(65536.0, 8192.0, 8192.0, A100, replace(slow, reduces=0.0)).memory_s == expected


def test_a_long_row_is_read_three_times():
    """512 rows of 64 kB, one per unit at a time: 7 MB in flight stay in cache, the first pass (67 MB) does not."""
    softmax = replace(REDUCING, passes=3.0, held_byte=2048.0, row_clock=0.1)
    given = (512.0, 65536.0, 65536.0, A100)
    further_s = pointwise_time(*given, softmax).memory_s - pointwise_time(*given, replace(softmax, passes=1.0)).memory_s
    waves = np.hypot(512 / 108, 1.0)
    assert further_s == pytest.approx(waves * 2 * 65536 / (PRIOR.unit_byte_per_clock * 1.41e9), rel=0.01)
    short = (8192.0, 2048.0, 2048.0, A100)  # stays in registers
    assert pointwise_time(*short, softmax).total_s == pointwise_time(*short, replace(softmax, passes=1.0)).total_s


def test_kernels_that_cut_rows_do_not_care_about_them():
    """A flat array of 2^20 values and 1024 rows of 1024: the same blocks of 1024 values."""
    cut = replace(PRIOR, block_byte=2048.0)
    flat = pointwise_time(1.0, 2.0**21, 2.0**21, A100, cut).total_s
    assert flat == pointwise_time(1024.0, 2048.0, 2048.0, A100, cut).total_s
    assert flat < pointwise_time(1.0, 2.0**21, 2.0**21, A100, PRIOR).total_s


def test_what_is_old_comes_from_dram():
    """4 MB in and out of a cache of 40 MB: in it, unless 400 MB of weights lie between; half where half is that old."""
    given = (512.0, 8192.0, 8192.0, A100, replace(REDUCING, cache_fraction=1.0))
    here, half, gone = (
        pointwise_time(*given, BenchmarkLoop(aged_byte=4e8, aged_share=share)).memory_s for share in (0.0, 0.5, 1.0)
    )
    kept_s = np.hypot(512 / 108, 1.0) / (PRIOR.unit_byte_per_clock * 1.41e9)
    missed_s = 512 / (PRIOR.dram_fraction * 2039e9)
    assert gone - here == pytest.approx(8192 * (missed_s - kept_s), rel=1e-4)
    assert half == pytest.approx((here + gone) / 2)
    near = BenchmarkLoop(aged_byte=1e7, aged_share=1.0)
    assert pointwise_time(*given, near).memory_s == pytest.approx(here, rel=1e-4)


def test_an_input_written_beside_streaming_weights_is_half_as_old_as_they_are_large():
    """Of 200 MB of weights and 8 MB of its own, half lies between writing and reading: as with 104 MB of its own."""
    parameters = replace(PRIOR, cache_fraction=1.0)
    loop = BenchmarkLoop(streamed_byte=2e8)
    streamed = pointwise_time(512.0, 8192.0, 8192.0, A100, parameters, loop).memory_s
    share = 1.0 / (1.0 + (40 * 2**20 / ((2e8 + 512 * 16384) / 2)) ** 6)
    units_s = np.hypot(512 / 108, 1.0) * 16384 / (PRIOR.unit_byte_per_clock * 1.41e9)
    dram_s = share * 512 * 16384 / (PRIOR.dram_fraction * 2039e9)
    assert streamed == pytest.approx((units_s**6 + dram_s**6) ** (1 / 6), rel=0.02)
    assert streamed > pointwise_time(512.0, 8192.0, 8192.0, A100, parameters).memory_s


def test_eager_launches_have_a_floor():
    assert pointwise_time(1.0, 2.0, 2.0, A100, PRIOR, BenchmarkLoop(launch_floor_s=5e-5)).total_s == 5e-5


@given(rows, widths, widths)
def test_never_below_the_roofline(row: float, read_byte: float, write_byte: float):
    best = PointwiseParameters(
        *(facts.low if facts.ideal < facts.prior else facts.high for facts in facts_of(PointwiseParameters).values())
    )
    time = pointwise_time(row, read_byte, write_byte, A100, best)
    assert time.total_s >= time.roofline_s


@given(rows, widths, widths, st.floats(1.0, 3.0))
def test_more_rows_and_less_bandwidth_never_help(row: float, read_byte: float, write_byte: float, factor: float):
    base = pointwise_time(row, read_byte, write_byte, A100, PRIOR).total_s
    assert pointwise_time(row * factor, read_byte, write_byte, A100, PRIOR).total_s >= base * (1 - 1e-12)
    slow = replace(A100, dram_byte_per_s=2039e9 / factor)
    assert pointwise_time(row, read_byte, write_byte, slow, PRIOR).total_s >= base * (1 - 1e-12)


@given(st.lists(st.tuples(rows, widths, widths), min_size=1, max_size=8), st.sampled_from([PRIOR, REDUCING]))
def test_vector_equals_scalar(cases: list[tuple[float, float, float]], parameters: PointwiseParameters):
    together = pointwise_time(*np.array(cases).T, A100, parameters).total_s
    assert together.tolist() == [pointwise_time(*case, A100, parameters).total_s for case in cases]


# --- Against measurements: fitted on a random half (seed 0), errors on the other half ---


@pytest.fixture(scope="module")
def vidur(data_folder: Path) -> tuple[Records, ...]:
    return read(data_folder / "vidur")[0]


def errors(groups: list[Records], chip: Chip) -> np.ndarray:
    """Errors on the half that was not fitted."""
    row, reads, writes = (np.concatenate([g.dims[name] for g in groups]) for name in ("row", "read_byte", "write_byte"))
    ages = (
        np.concatenate([np.broadcast_to(getattr(g.loop, name), g.size) for g in groups])
        for name in ("streamed_byte", "aged_byte", "aged_share")
    )
    loop = BenchmarkLoop(np.inf, 0.0, *ages)
    times = np.concatenate([g.measured_s for g in groups])
    order = np.random.default_rng(0).permutation(times.size)

    def predict(parameters: PointwiseParameters, some: np.ndarray) -> np.ndarray:
        own = loop.take(some, times.size)
        return pointwise_time(row[some], reads[some], writes[some], chip, parameters, own).total_s

    seen, unseen = order[: times.size // 2], order[times.size // 2 :]
    found = fit(lambda p: predict(p, seen), times[seen], REDUCING if groups[0].family in REDUCTIONS else PRIOR)
    return np.abs(predict(found.parameters, unseen) / times[unseen] - 1.0)


@pytest.mark.parametrize(
    ("kernel", "median", "mean"),
    [
        ("emb", 0.037, 0.049),
        ("input_layernorm", 0.050, 0.067),
        ("post_attention_layernorm", 0.046, 0.059),
        ("attn_rope", 0.043, 0.065),
        ("mlp_act", 0.031, 0.046),
        ("add", 0.044, 0.057),
    ],
)
def test_a100_layers_on_unseen_rows(vidur: tuple[Records, ...], kernel: str, median: float, mean: float):
    """Llama-2 7B and 70B, tensor parallelism 1 to 8; times are whole microseconds. The figures are those reached."""
    error = errors([group for group in vidur if group.kernel == kernel], A100)
    assert np.median(error) < median + 0.004 and np.mean(error) < mean + 0.004


@pytest.mark.parametrize(
    ("kernel", "median", "mean"),
    [
        ("act_fn", 0.045, 0.108),
        ("embedding", 0.028, 0.086),
        ("final_layernorm", 0.023, 0.032),
        ("layernorm final_layernorm", 0.046, 0.061),
        ("rotary_emb", 0.030, 0.041),
        ("sampler", 0.021, 0.029),
    ],
)
def test_rtx_pro_6000_layers_on_unseen_rows(data_folder: Path, kernel: str, median: float, mean: float):
    """The figures reached; norms as a calibration fits them, together. The activation's mean misses its target (8 %):
    what gate_up_proj leaves in the cache jumps with its kernel, the activation's time by 75 % from 1792 to 1808 tokens.
    """
    groups = read(data_folder / "llmservingsim" / "profiler" / "perf")[0]
    error = errors([g for g in groups if g.kernel in kernel.split() and g.family is not Family.GEMM], PRO_6000)
    assert np.median(error) < median + 0.005 and np.mean(error) < mean + 0.006
