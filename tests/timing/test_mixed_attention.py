"""Mixed batches of prefill and decode: derived by hand, laws, and measured rows that the fit did not see."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofline.io.records import Family, Records
from roofline.timing.mixed_attention import MixedAttentionParameters, mixed_attention_time
from roofline.timing.parameter import facts_of
from roofline.timing.time import Time

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
