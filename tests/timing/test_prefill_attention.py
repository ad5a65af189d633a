"""Prefill attention times: derived by hand, laws, and measured rows that the fit did not see."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofline.io.records import Family, Records
from roofline.structs import NO_WINDOW, Array
from roofline.timing.chip import Chip
from roofline.timing.loop import BenchmarkLoop
from roofline.timing.parameter import facts_of
from roofline.timing.prefill_attention import (
    PrefillAttentionParameters,
    PrefillKernel,
    key_blocks,
    prefill_attention_time,
)
from roofline.timing.time import Time

from .attention_records import A100, H100, H100_FP8, Predict, fitted, halves, percent, records_of, score

IDEAL = PrefillAttentionParameters(
    cache_byte_per_clock=np.inf,
    launch_s=5e-6,
    matrix_fraction=1.0,
    softmax_exposed=0.1,
    tile_cycle=2000.0,
    overlap=1.0,
    kernel=PrefillKernel.FLASH_ATTENTION_2,
)
FAST_DRAM = replace(A100, dram_byte_per_s=1e20)

kernels = st.sampled_from(list(PrefillKernel))
shapes = st.tuples(
    st.integers(1, 256), st.integers(1, 20_000), st.integers(0, 20_000), st.sampled_from((1, 2, 4, 8)),
    st.integers(1, 16), st.sampled_from((64, 96, 128, 256)), st.sampled_from((1.0, 128.0, 4096.0, NO_WINDOW)),
)  # fmt: skip


def timed(shape: tuple[float, ...], chip: Chip = H100, parameters: PrefillAttentionParameters = IDEAL) -> Time:
    sequences, new_token, context, kv_heads, group, head_dim, window = map(float, shape)
    return prefill_attention_time(
        sequences, new_token, context, kv_heads * group, kv_heads, head_dim, window, chip=chip, parameters=parameters
    )


def predict(chip: Chip, query_byte: float = 2.0, kv_byte: float = 2.0) -> Predict:
    def time(records: Records, parameters: PrefillAttentionParameters) -> Time:
        return prefill_attention_time(
            **records.dims, query_byte=query_byte, kv_byte=kv_byte, chip=chip, parameters=parameters, loop=records.loop
        )

    return time


def test_one_tile_by_hand() -> None:
    # 64 queries on 64 keys, d = 128: one tile of 64 x 128 scores on one of 108 units. Products: 4·128 FLOP a score at
    # 2048.8 FLOP per clock; softmax: a tenth of an exponential (16 a clock) and 10 FLOP (128 a clock) a score. Start-up
    # is halved by the two tiles that a unit holds. Mean load (0.7 of a wave and 0.3 of a 108th) and longest tile add
    # up: FlashAttention-2 starts the longest tiles last. Below 5 ms: not throttled to speak of.
    flop_per_clock = 312e12 / 108 / 1.41e9
    cycle = 2000 / 2 + 64 * 128 * (4 * 128 / flop_per_clock + 0.1 * (1 / 16 + 10 / 128))
    expected = 5e-6 + (1 + 0.7 + 0.3 / 108) * cycle / 1.41e9
    time = timed((1, 64, 0, 1, 1, 128, NO_WINDOW), FAST_DRAM)
    assert time.total_s == pytest.approx(expected, rel=1e-6)


def test_memory_adds_where_nothing_overlaps() -> None:
    fast, slow = (timed((1, 64, 0, 1, 1, 128, NO_WINDOW), chip).total_s for chip in (FAST_DRAM, A100))
    byte = 64 * 128 * 2 * 4  # queries, outputs, keys, values
    assert slow - fast == pytest.approx(byte / (IDEAL.dram_fraction * 2039e9), rel=1e-3)


@pytest.mark.parametrize(
    "step,column,window", [(64, 128, NO_WINDOW), (192, 128, NO_WINDOW), (128, 128, 128), (96, 128, 128)]
)
def test_key_blocks_against_counting(step: float, column: float, window: float) -> None:
    new_token, context = step * 24.0, 0.0
    counted = []
    for first in np.arange(0, new_token, step):
        first_key = max(first - window + 1, 0)
        counted.append(np.floor((first + step - 1) / column) - np.floor(first_key / column) + 1)
    one = np.ones(1)
    grid = float(np.gcd(int(step), int(column)))
    blocks = key_blocks(new_token * one, context * one, window * one, step * one, grid * one, column * one)
    assert blocks.mean[0] == pytest.approx(np.mean(counted), rel=0.04)
    assert blocks.longest[0] == pytest.approx(np.max(counted), abs=0.51)


@pytest.mark.parametrize("context", [0.0, 37.0])
@pytest.mark.parametrize("window", [1.0, 64.0, 65.0, 200.0, NO_WINDOW])
def test_tiles_from_which_a_window_hides_keys_are_counted(window: float, context: float) -> None:
    # A tile is windowed where its first query, at position p, sees only its last `window` of p + 1 keys. Without a
    # window none is, whatever the length: also not the tile of a single query (1, 65, 129, ... tokens).
    new_token, step = np.arange(1.0, 400.0), 64.0
    counted = [
        np.mean([context + first + 1 > window for first in np.arange(0.0, tokens, step)]) for tokens in new_token
    ]
    every = np.ones(new_token.size)
    blocks = key_blocks(new_token, context * every, window * every, step * every, 64.0 * every, 128.0 * every)
    assert blocks.windowed == pytest.approx(counted)


def test_a_window_makes_time_linear_in_length() -> None:
    short, long = (float(timed((1, s, 0, 8, 4, 128, 128.0)).compute_s) for s in (8192, 16384))
    full_short, full_long = (float(timed((1, s, 0, 8, 4, 128, NO_WINDOW)).compute_s) for s in (8192, 16384))
    assert long / short == pytest.approx(2.0, rel=0.05)
    assert full_long / full_short > 3.5


def test_a_prefix_costs_its_keys() -> None:
    # A chunk of 1024 on 15360 computes the last 1024 rows of a causal square of 16384: 2·16384·1024 - 1024² of its
    # area. Where load is well balanced, the longest tile (nearly the same in both) adds nothing of its own.
    balanced = replace(IDEAL, kernel=PrefillKernel.FLASH_ATTENTION_2_LONGEST_FIRST)
    whole, chunk = (
        float(timed((1, *rows, 8, 4, 128, NO_WINDOW), parameters=balanced).compute_s)
        for rows in ((16384, 0), (1024, 15360))
    )
    assert chunk / whole == pytest.approx((2 * 16384 * 1024 - 1024**2) / 16384**2, rel=0.1)


def test_groups_of_warps_that_take_turns_hide_half_of_the_softmax() -> None:
    # 128 x 128 scores, one tile of FlashAttention-3 on H100: softmax a sixteenth and 10/256 of a clock a score.
    parameters = replace(IDEAL, softmax_exposed=1.0, kernel=PrefillKernel.FLASH_ATTENTION_3)
    serial, hidden = (
        float(timed((1, 128, 0, 8, 1, 128, NO_WINDOW), parameters=replace(parameters, softmax_exposed=x)).compute_s)
        for x in (1.0, 1e-9)
    )
    # One tile for each of 8 heads: mean load and longest tile of equal length, joined by the norm of 8.
    waves = 0.7 + 0.3 * 8 / 132
    softmax_s = 0.5 * 128 * 128 * (1 / 16 + 10 / 256) / 1.83e9 * (waves**8 + 1) ** (1 / 8)
    assert serial - hidden == pytest.approx(softmax_s, rel=1e-3)


def test_short_tiles_start_faster_and_windows_have_tiles_of_their_own() -> None:
    parameters = replace(IDEAL, tile_cycle=1e6, kernel=PrefillKernel.FLASH_ATTENTION_3)
    short, full = (
        float(timed((1, rows, 0, 132, 1, 128, NO_WINDOW), parameters=parameters).compute_s) for rows in (64, 65)
    )
    assert short / full == pytest.approx(0.65, rel=0.01)
    narrow = replace(IDEAL, window_cycle=1.0, kernel=PrefillKernel.FLASH_ATTENTION_3_FP8)
    # 128 queries see 255 keys: 255/64 and half a block at each end are under five of 64 keys, where 160 takes more.
    windowed, causal = (
        float(timed((64, 4096, 0, 8, 2, 128, window), parameters=narrow).compute_s) for window in (128.0, 4096.0)
    )
    assert windowed < 0.15 * causal


def test_no_mask_costs_about_twice_a_causal_mask() -> None:
    common = {"heads": 32.0, "kv_heads": 8.0, "head_dim": 128.0, "window": NO_WINDOW, "chip": H100, "parameters": IDEAL}
    masked, whole = (prefill_attention_time(1.0, 16384.0, 0.0, causal=causal, **common) for causal in (True, False))
    assert whole.compute_s / masked.compute_s == pytest.approx(2.0, rel=0.05)
    assert whole.roofline_s / masked.roofline_s == pytest.approx(2.0, rel=1e-3)


@given(st.lists(shapes, min_size=1, max_size=6), kernels)
def test_vector_equals_scalar_and_never_beats_the_roofline(
    rows: list[tuple[float, ...]], kernel: PrefillKernel
) -> None:
    parameters = PrefillAttentionParameters(kernel=kernel)
    columns = [np.asarray(column, float) for column in zip(*rows, strict=True)]
    sequences, new_token, context, kv_heads, group, head_dim, window = columns
    time = prefill_attention_time(
        sequences, new_token, context, kv_heads * group, kv_heads, head_dim, window, chip=H100, parameters=parameters
    )
    assert np.all(time.total_s >= time.roofline_s)
    assert np.all(np.isfinite(time.total_s))
    single = [float(timed(row, parameters=parameters).total_s) for row in rows]
    np.testing.assert_allclose(time.total_s, single, rtol=1e-12)


@given(shapes, kernels, st.floats(1.0, 4.0))
def test_more_bandwidth_or_a_faster_clock_never_hurts(
    shape: tuple[float, ...], kernel: PrefillKernel, factor: float
) -> None:
    parameters = PrefillAttentionParameters(kernel=kernel)
    base = timed(shape, H100, parameters).total_s
    for better in (
        replace(H100, dram_byte_per_s=H100.dram_byte_per_s * factor), replace(H100, clock_hz=H100.clock_hz * factor)
    ):  # fmt: skip
        assert timed(shape, better, parameters).total_s <= base * (1 + 1e-9)


@given(shapes, kernels, st.integers(2, 4))
def test_more_sequences_never_take_less_time(shape: tuple[float, ...], kernel: PrefillKernel, factor: int) -> None:
    parameters = PrefillAttentionParameters(kernel=kernel)
    more = (shape[0] * factor, *shape[1:])
    assert timed(more, H100, parameters).total_s >= timed(shape, H100, parameters).total_s * (1 - 1e-9)


def test_a_warm_loop_reads_from_cache_and_a_model_step_does_not() -> None:
    # 32 MiB of keys and values against a few KiB of queries: one copy stays in a 50 MiB cache, many copies do not.
    shape = (1.0, 16.0, 8192.0, 8.0, 8.0, 128.0, NO_WINDOW)
    cold, many, warm = (
        prefill_attention_time(*shape, chip=H100, parameters=IDEAL, loop=BenchmarkLoop(copies))
        for copies in (np.inf, 100.0, 1.0)
    )
    assert cold.memory_s == pytest.approx(many.memory_s, rel=1e-3)
    assert warm.roofline_s < cold.roofline_s


def test_the_host_sets_a_floor_in_an_eager_loop() -> None:
    loop = BenchmarkLoop(launch_floor_s=1e-3)
    time = prefill_attention_time(1.0, 16.0, 0.0, 8.0, 8.0, 128.0, NO_WINDOW, chip=H100, parameters=IDEAL, loop=loop)
    assert time.total_s == 1e-3


def test_at_most_twelve_fitted_parameters_with_priors_inside_their_bounds() -> None:
    facts = facts_of(PrefillAttentionParameters)
    assert len(facts) <= 12
    assert all(fact.low <= fact.prior <= fact.high for fact in facts.values())


VLLM_14, VLLM_19 = "attention/vllm/0.14.0", "attention/vllm/0.19.0"
TENSORRT_A, TENSORRT_H = "attention/trtllm/1.0.0", "attention/trtllm/1.3.0rc10"
MEASURED = [
    ("a100_sxm", VLLM_14, A100, 2.0, 2.0, PrefillKernel.FLASH_ATTENTION_2, True, 2.3, 3.4),
    ("a100_sxm", TENSORRT_A, A100, 2.0, 2.0, PrefillKernel.TENSORRT_AMPERE, False, 1.9, 2.9),
    ("h100_sxm", VLLM_14, H100, 2.0, 2.0, PrefillKernel.FLASH_ATTENTION_3, True, 4.5, 6.5),
    ("h100_sxm", VLLM_14, H100, 2.0, 1.0, PrefillKernel.FLASH_ATTENTION_3_IN_ORDER, True, 4.0, 6.6),
    ("h100_sxm", VLLM_19, H100, 2.0, 2.0, PrefillKernel.FLASH_ATTENTION_3, False, 4.2, 5.6),
    ("h100_sxm", VLLM_19, H100, 2.0, 1.0, PrefillKernel.FLASH_ATTENTION_3_FP8, False, 4.4, 6.0),
    ("h100_sxm", TENSORRT_H, H100, 2.0, 2.0, PrefillKernel.TENSORRT_HOPPER, False, 4.5, 6.7),
    ("h100_sxm", TENSORRT_H, H100, 2.0, 1.0, PrefillKernel.TENSORRT_HOPPER_FP8, False, 4.7, 6.7),
    ("h100_sxm", TENSORRT_H, H100_FP8, 1.0, 1.0, PrefillKernel.TENSORRT_HOPPER_FP8, False, 4.5, 6.2),
]


@pytest.mark.parametrize("device,path,chip,query_byte,kv_byte,kernel,writes,median,mean", MEASURED)
def test_measured_rows_not_fitted(
    data_folder: Path, device: str, path: str, chip: Chip, query_byte: float, kv_byte: float, kernel: PrefillKernel,
    writes: bool, median: float, mean: float,
) -> None:  # fmt: skip
    folder = data_folder / "aiconfigurator/systems/data" / device / path
    records = records_of(folder, Family.PREFILL_ATTENTION, kv_byte, query_byte)
    prior = PrefillAttentionParameters(kernel=kernel, writes_cache=writes)
    result = score(records, predict(chip, query_byte, kv_byte), prior)
    assert result.median <= median
    assert result.mean <= mean
    assert result.bare > 60.0
    assert result.flagged == 0.0


def test_thirty_rows_carry_a_calibration_from_a100_to_h100(data_folder: Path) -> None:
    root = data_folder / "aiconfigurator/systems/data"
    a100, h100 = (records_of(root / f"{name}_sxm" / VLLM_14, Family.PREFILL_ATTENTION) for name in ("a100", "h100"))
    source = fitted(
        a100, predict(A100), PrefillAttentionParameters(kernel=PrefillKernel.FLASH_ATTENTION_2, writes_cache=True)
    )
    carried = replace(source, kernel=PrefillKernel.FLASH_ATTENTION_3, tile_cycle=2.0 * source.tile_cycle)
    known, unseen, _ = halves(h100, predict(H100), carried)
    as_is = float(np.median(percent(predict(H100)(unseen, carried).total_s, unseen)))
    errors: list[Array] = [
        percent(predict(H100)(unseen, fitted(known.take(rows), predict(H100), carried)).total_s, unseen)
        for rows in np.random.default_rng(0).permutation(known.size)[:90].reshape(3, 30)
    ]
    assert as_is <= 13.0
    assert np.mean([np.median(error) for error in errors]) <= 6.0
