"""Mixed batches of prefill and decode: derived by hand, laws, and measured rows that the fit did not see."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofline.deployment import deployment
from roofline.io.calibration import load_calibration
from roofline.io.models import load_model
from roofline.io.profiles import load_target
from roofline.io.records import Family, Records
from roofline.timing.mixed_attention import MixedAttentionParameters, mixed_attention_time
from roofline.timing.parameter import facts_of
from roofline.timing.time import Time
from roofline.workload import decode, prefill

from ..builders import scenario
from .attention_records import RTX_PRO_6000, percent, records_of, score

LLAMA_8B = (32.0, 8.0, 128.0)
DEFAULT = MixedAttentionParameters()
shapes = st.tuples(st.integers(1, 8192), st.integers(0, 30_000), st.integers(0, 512), st.integers(0, 30_000))


def timed(shape: tuple[float, ...], parameters: MixedAttentionParameters = DEFAULT) -> Time:
    return mixed_attention_time(*map(float, shape), *LLAMA_8B, chip=RTX_PRO_6000, parameters=parameters)


def predict(records: Records, parameters: MixedAttentionParameters) -> Time:
    return mixed_attention_time(**records.dims, chip=RTX_PRO_6000, parameters=parameters, loop=records.loop)


def test_one_decode_is_one_long_tile_by_hand() -> None:
    # One decode of 16384 keys beside 16 tokens: 32 tiles of 128 blocks and 32 short ones on 188 units; the longest tile
    # takes 6000 + 128 · 5000 cycles, the mean load is 32 / 188 of that and of a block of prefill; they combine squared.
    parameters = replace(DEFAULT, balance=2.0)
    long = 6000 + 128 * 5000
    short = 3000 + 64 * 128 * (4 * 128 / RTX_PRO_6000.flop_per_clock / 0.8 + 0.4 / 16)
    mean = 32 / 188 * (long + short)
    compute_s = timed((16, 0, 1, 16383), parameters).compute_s
    assert compute_s == pytest.approx(np.hypot(long, mean) / 2.43e9, rel=1e-3)


def test_far_apart_heads_read_keys_again() -> None:
    # 256 decodes of 16384 keys: 1 GiB per KV head is beyond the cache and 4 query heads run in 4 rounds: read 4 times.
    parameters = replace(DEFAULT, dram_fraction=1.0)
    memory_s = timed((16, 0, 256, 16383), parameters).memory_s
    assert memory_s == pytest.approx(4 * 256 * 16384 * 4096 / 1792e9, rel=0.02)


@given(st.lists(shapes, min_size=1, max_size=5))
def test_vector_equals_scalar_and_never_beats_the_roofline(rows: list[tuple[float, ...]]) -> None:
    columns = [np.asarray(column, float) for column in zip(*rows, strict=True)]
    time = mixed_attention_time(*columns, *LLAMA_8B, chip=RTX_PRO_6000, parameters=DEFAULT)
    assert np.all(time.total_s >= time.roofline_s)
    assert np.all(np.isfinite(time.total_s))
    np.testing.assert_allclose(time.total_s, [float(timed(row).total_s) for row in rows], rtol=1e-12)


@given(shapes, st.integers(1, 200), st.integers(1, 5000))
def test_more_decodes_or_keys_never_take_less_time(shape: tuple[int, ...], decodes: int, keys: int) -> None:
    new_token, context, sequences, decode_context = shape
    base = timed(shape).total_s
    assert timed((new_token, context, sequences + decodes, decode_context)).total_s >= base * (1 - 1e-9)
    assert timed((new_token, context, sequences, decode_context + keys)).total_s >= base * (1 - 1e-9)


def test_at_most_twelve_fitted_parameters() -> None:
    assert len(facts_of(MixedAttentionParameters)) <= 12


def test_measured_rows_not_fitted_and_the_other_tensor_parallel_degree(data_folder: Path) -> None:
    root = data_folder / "llmservingsim/profiler/perf/RTXPRO6000/meta-llama/Llama-3.1-8B/bf16"
    one, two = (records_of(root / degree, Family.MIXED_ATTENTION) for degree in ("tp1", "tp2"))
    result = score(one, predict, DEFAULT)
    assert result.median <= 6.2
    assert result.mean <= 8.2
    assert result.bare > 60.0
    assert result.flagged == 0.0
    other = percent(predict(two, result.parameters).total_s, two)
    assert np.median(other) <= 7.2
    assert np.mean(other) <= 9.6


def test_two_prompts_are_twice_the_tiles_of_one() -> None:
    # Compute of the mean load alone (balance norm 1 adds the longest tile, the same in both): 2 x the blocks of one.
    parameters = replace(DEFAULT, balance=1.0)

    def work_s(prompts: float) -> float:
        time = mixed_attention_time(
            640.0, 128.0, 0.0, 0.0, *LLAMA_8B, prompts=prompts, chip=RTX_PRO_6000, parameters=parameters
        )
        return float(time.compute_s)

    one, two, four = work_s(1.0), work_s(2.0), work_s(4.0)
    assert four - two == pytest.approx(2.0 * (two - one), rel=1e-3)  # clocks fall a little with load


@given(shapes, st.integers(1, 40_000))
def test_a_window_never_costs_more_and_beyond_the_context_nothing_changes(shape: tuple[int, ...], window: int) -> None:
    def windowed_s(size: float) -> float:
        time = mixed_attention_time(*map(float, shape), *LLAMA_8B, window=size, chip=RTX_PRO_6000, parameters=DEFAULT)
        assert time.total_s >= time.roofline_s
        return float(time.total_s)

    assert windowed_s(float(window)) <= timed(shape).total_s * (1 + 1e-9)
    assert windowed_s(70_000.0) == timed(shape).total_s


def test_a_step_of_prompts_and_decodes_is_one_launch_only_where_it_was_measured_so() -> None:
    batch = (prefill(1.0, 512.0), decode(64.0, 1500.0))
    steps = {}
    for name in ("rtx-pro-6000", "h100-sxm"):
        target = load_target(name)
        llama = load_model("llama-3.1-8b").model
        where = deployment(llama, target.device, load_calibration(target), scenario())
        step = where.prefill_step(batch)
        steps[name] = {
            kernel: float(time.total_s[0])
            for group, time in zip(step.groups, step.times, strict=True)
            for kernel in group.names
            if kernel.startswith("attention")
        }
    assert set(steps["h100-sxm"]) >= {"attention[0]", "attention[1]"}
    assert "attention" not in steps["h100-sxm"]
    fitted = load_calibration(load_target("rtx-pro-6000")).models["mixed_attention", "bf16"].parameters
    assert isinstance(fitted, MixedAttentionParameters)
    expected = timed((512, 0, 64, 1500), fitted).total_s
    assert steps["rtx-pro-6000"]["attention"] == pytest.approx(expected, rel=0.01)  # 128 MB of cache, not MiB
    assert "attention[0]" not in steps["rtx-pro-6000"]
