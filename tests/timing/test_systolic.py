"""Systolic arrays: hand-derived times, laws, and the errors reached on TPU v6e rows that were not fitted."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofline.calibrate.fit import fit
from roofline.calibrate.models import parameters_time
from roofline.io.datasets import read
from roofline.io.profiles import load_device
from roofline.io.records import Family, Precision, Records
from roofline.structs import NO_WINDOW, Dtype
from roofline.timing.chip import Chip
from roofline.timing.loop import BenchmarkLoop
from roofline.timing.systolic import (
    SystolicAttentionParameters,
    SystolicGatherParameters,
    SystolicGemmParameters,
    systolic_decode_time,
    systolic_gather_time,
    systolic_gemm_time,
    systolic_prefill_time,
)

V6E = Chip(4.0, 1.75e9, 918e12 / (4 * 1.75e9), 1638e9, 128.0 * 2**20, 1024.0)
GEMM = SystolicGemmParameters()
GATHER = SystolicGatherParameters()
ATTENTION = SystolicAttentionParameters()
QUERY_BYTE, CACHE_BYTE = 2 * 32 * 128 * 2.0, 2 * 8 * 128 * 2.0
"""Llama-3.1-8B in bf16: queries and outputs, keys and values of one token."""
PAIR_FLOP = 4 * 32 * 128.0
"""Its scores and values of one query and one key, all heads."""

counts = st.floats(1.0, 1e5)


def test_weights_of_one_token_stream_from_dram():
    """Far from the array's peak: (W + A + C) / bandwidth, and half a pass over A."""
    byte = 2.0 * (4096 * 14336 + 4096 + 14336)
    expected = (byte + 0.5 * 2.0 * 4096) / (GEMM.dram_fraction * 1638e9)
    assert systolic_gemm_time(1.0, 14336.0, 4096.0, 2.0, V6E, GEMM).total_s == pytest.approx(expected)


def test_a_square_product_is_bound_by_the_array():
    free = replace(GEMM, input_passes=0.0, load_row=1.0)
    time = systolic_gemm_time(16384.0, 16384.0, 16384.0, 2.0, V6E, free)
    assert time.total_s == pytest.approx(2 * 16384.0**3 / (GEMM.matrix_fraction * 918e12), rel=1e-6)


def test_weights_on_the_chip_are_loaded_at_the_pace_of_the_array():
    """A product whose weights attention had time to bring: 8 rows take the time of 128, DRAM moves A and C alone."""
    warm = BenchmarkLoop(operand_copies=1.0)
    quiet = replace(GEMM, input_passes=0.0)
    time = systolic_gemm_time(8.0, 4096.0, 4096.0, 2.0, V6E, quiet, loop=warm)
    assert time.total_s == pytest.approx(2 * np.hypot(8, 128) * 4096**2 / (GEMM.matrix_fraction * 918e12), rel=1e-6)
    assert time.memory_s == pytest.approx(2 * 2 * 8 * 4096 / (GEMM.dram_fraction * 1638e9))
    assert time.roofline_s == pytest.approx(2 * 8 * 4096**2 / 918e12)
    many = systolic_gemm_time(8.0, 4096.0, 4096.0, 2.0, V6E, quiet, loop=BenchmarkLoop(operand_copies=32.0))
    assert many.memory_s == systolic_gemm_time(8.0, 4096.0, 4096.0, 2.0, V6E, quiet).memory_s


def test_records_with_narrow_weights_stream_fewer_bytes():
    """As predictions do: one row, 4096 x 4096 weights of one byte each."""
    size = {"m": np.ones(1), "n": np.full(1, 4096.0), "k": np.full(1, 4096.0), "copies": np.ones(1)}
    narrow = Precision("int8_weight_only", Dtype.BF16, Dtype.INT8, Dtype.BF16)
    line = np.ones(1)
    records = Records(
        Family.GEMM, "tpu-v6e", "jax", "", "gate_proj", narrow, BenchmarkLoop(), size, line, line, "a.csv", "0"
    )
    time = parameters_time(records, load_device("tpu-v6e"), GEMM)
    assert time.roofline_s == pytest.approx((4096**2 + 2 * 2 * 4096) / 1638e9)


@pytest.mark.parametrize(
    ("row", "padded"), [(1, 8), (8, 8), (9, 16), (65, 128), (256, 256), (257, 512), (600, 768), (2048, 2048)]
)
def test_gathers_are_padded(row: int, padded: int):
    """Powers of two up to a block of 256 rows, then blocks: the steps of the measured times."""
    expected = GATHER.launch_s + row * 16384 / (GATHER.dram_fraction * 1638e9)
    expected += (padded - row) * 16384 / (GATHER.padding_fraction * 1638e9)
    assert systolic_gather_time(float(row), 8192.0, 8192.0, V6E, GATHER).total_s == pytest.approx(expected)


@given(counts, st.floats(1.0, 1e5))
def test_gathers_never_beat_the_roofline(row: float, byte: float):
    best = SystolicGatherParameters(1e-7, 1.0, 1.0)
    time = systolic_gather_time(row, byte, byte, V6E, best)
    assert time.total_s >= time.roofline_s == row * 2 * byte / 1638e9


def test_decode_by_hand():
    """Four sequences of 1000 cached tokens (small batch): a fixed cost each, and their keys."""
    expected = ATTENTION.launch_s + 4 * ATTENTION.sequence_s
    expected += 4000 * CACHE_BYTE / (ATTENTION.decode_fraction * 1638e9)
    assert systolic_decode_time(
        4.0, 1000.0, QUERY_BYTE, CACHE_BYTE, V6E, ATTENTION, pair_flop=PAIR_FLOP
    ).total_s == pytest.approx(expected)


def test_prefill_by_hand():
    """64 tokens on 512: two blocks of 32 queries, each streams 512 + share · 64 + block_token keys."""
    keys = 512 + ATTENTION.causal_share * 64 + ATTENTION.block_token
    expected = ATTENTION.prefill_launch_s + 64 * QUERY_BYTE / (ATTENTION.query_fraction * 1638e9)
    expected += 2 * keys * CACHE_BYTE / (ATTENTION.prefill_fraction * 1638e9)
    time = systolic_prefill_time(1.0, 64.0, 512.0, QUERY_BYTE, CACHE_BYTE, V6E, ATTENTION, pair_flop=PAIR_FLOP)
    assert time.total_s == pytest.approx(expected)


def test_a_window_hides_what_a_block_cannot_see():
    """Blocks of 32 queries see at most 1023 + 32 keys of a window of 1024; a decoded token 1023 cached ones."""
    given = (QUERY_BYTE, CACHE_BYTE, V6E, ATTENTION)
    slope = CACHE_BYTE / (ATTENTION.prefill_fraction * 1638e9)
    full, seen = (
        systolic_prefill_time(1.0, 64.0, 9000.0, *given, pair_flop=PAIR_FLOP, window=window)
        for window in (NO_WINDOW, 1024.0)
    )
    hidden = 9000 + ATTENTION.causal_share * 64 - 1055
    assert full.total_s - seen.total_s == pytest.approx(2 * hidden * slope)
    assert seen.roofline_s == pytest.approx((64 * QUERY_BYTE + (1023 + 64) * CACHE_BYTE) / 1638e9)
    near = systolic_decode_time(4.0, 1023.0, *given, pair_flop=PAIR_FLOP)
    assert systolic_decode_time(4.0, 9000.0, *given, pair_flop=PAIR_FLOP, window=1024.0) == near


def test_attention_of_one_kv_head_is_bound_by_the_array():
    """71 heads share one KV head (Falcon-7B): few bytes, and FLOP that the array needs at its peak at least."""
    pairs = 8192 * 8193 / 2
    time = systolic_prefill_time(
        1.0, 8192.0, 0.0, 1.0, 1.0, V6E, SystolicAttentionParameters(), pair_flop=4 * 71 * 64.0
    )
    assert time.total_s == time.roofline_s == pytest.approx(pairs * 4 * 71 * 64 / 918e12)


@given(counts, counts, counts)
def test_products_never_beat_the_roofline_and_grow(m: float, n: float, k: float):
    best = SystolicGemmParameters(1.0, 1.0, 1e-3)
    time = systolic_gemm_time(m, n, k, 2.0, V6E, best)
    assert time.total_s >= time.roofline_s
    assert (
        systolic_gemm_time(2 * m, n, k, 2.0, V6E, GEMM).total_s >= systolic_gemm_time(m, n, k, 2.0, V6E, GEMM).total_s
    )


@given(st.floats(1.0, 512.0), st.floats(0.0, 1e5), st.floats(1.0, 1e4))
def test_attention_never_beats_the_roofline(sequences: float, context: float, new_token: float):
    decode = systolic_decode_time(sequences, context, QUERY_BYTE, CACHE_BYTE, V6E, ATTENTION, pair_flop=PAIR_FLOP)
    prefill = systolic_prefill_time(
        sequences, new_token, context, QUERY_BYTE, CACHE_BYTE, V6E, ATTENTION, pair_flop=PAIR_FLOP
    )
    assert decode.total_s >= decode.roofline_s and prefill.total_s >= prefill.roofline_s


@given(st.lists(st.tuples(counts, counts, counts), min_size=1, max_size=6))
def test_vector_equals_scalar(cases: list[tuple[float, float, float]]):
    m, n, k = np.array(cases).T
    together = systolic_gemm_time(m, n, k, 2.0, V6E, GEMM).total_s
    assert together.tolist() == [systolic_gemm_time(*case, 2.0, V6E, GEMM).total_s for case in cases]
    given = (QUERY_BYTE, CACHE_BYTE, V6E, ATTENTION)
    together = systolic_decode_time(m, n, *given, pair_flop=PAIR_FLOP).total_s
    assert together.tolist() == [systolic_decode_time(a, b, *given, pair_flop=PAIR_FLOP).total_s for a, b, _ in cases]
    together = systolic_gather_time(m, n, n, V6E, GATHER).total_s
    assert together.tolist() == [systolic_gather_time(a, b, b, V6E, GATHER).total_s for a, b, _ in cases]


# --- Against measurements: fitted on a random half (seed 0), errors on the other half ---


@pytest.fixture(scope="module")
def tpu(data_folder: Path) -> tuple[Records, ...]:
    return read(data_folder / "llmservingsim" / "profiler" / "v0")[0]


def halves(size: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.random.default_rng(0).permutation(size)
    return order[: size // 2], order[size // 2 :]


def test_layers_on_unseen_rows(tpu: tuple[Records, ...]):
    """Gate, up, down projection and LM head with one set of four parameters: 3.9 / 5.3 %."""
    chosen = [g for g in tpu if g.kernel in ("gate_proj", "up_proj", "down_proj", "lm_head")]
    m, n, k = (np.concatenate([g.dims[name] for g in chosen]) for name in "mnk")
    times = np.concatenate([g.measured_s for g in chosen])
    seen, unseen = halves(times.size)
    found = fit(lambda p: systolic_gemm_time(m[seen], n[seen], k[seen], 2.0, V6E, p).total_s, times[seen], GEMM)
    time = systolic_gemm_time(m[unseen], n[unseen], k[unseen], 2.0, V6E, found.parameters)
    error = np.abs(time.total_s / times[unseen] - 1.0)
    assert np.median(error) < 0.040 and np.mean(error) < 0.055
    assert np.all(time.roofline_s < times[unseen])


def test_embedding_on_unseen_rows(tpu: tuple[Records, ...]):
    """Three numbers: 6.2 / 9.8 % (19.6 / 23.6 without padding); 5.6 / 6.5 % for the 88 % of the rows that are padded to
    the next block and not to the one after it.
    """
    (found,) = [g for g in tpu if g.kernel == "embedding"]
    row, reads, writes = (found.dims[name] for name in ("row", "read_byte", "write_byte"))
    seen, unseen = halves(found.size)

    def predict(p: SystolicGatherParameters, some: np.ndarray) -> np.ndarray:
        return systolic_gather_time(row[some], reads[some], writes[some], V6E, p).total_s

    fitted = fit(lambda p: predict(p, seen), found.measured_s[seen], GATHER).parameters
    error = np.abs(predict(fitted, unseen) / found.measured_s[unseen] - 1.0)
    assert np.median(error) < 0.065 and np.mean(error) < 0.102


def test_attention_on_unseen_rows(tpu: tuple[Records, ...]):
    """One set of eleven parameters: prefill 1.7 / 2.4 %, decode 1.2 / 1.8 %."""
    (prefill,) = [g for g in tpu if g.family is Family.PREFILL_ATTENTION]
    (decode,) = [g for g in tpu if g.family is Family.DECODE_ATTENTION]
    chunks, steps = halves(prefill.size), halves(decode.size)

    def predict(p: SystolicAttentionParameters, half: int) -> tuple[np.ndarray, np.ndarray]:
        some, more = prefill.take(chunks[half]), decode.take(steps[half])
        first = systolic_prefill_time(
            *(some.dims[name] for name in ("sequences", "new_token", "context")),
            QUERY_BYTE,
            CACHE_BYTE,
            V6E,
            p,
            pair_flop=PAIR_FLOP,
        )
        second = systolic_decode_time(
            more.dims["sequences"], more.dims["context"], QUERY_BYTE, CACHE_BYTE, V6E, p, pair_flop=PAIR_FLOP
        )
        return first.total_s / some.measured_s, second.total_s / more.measured_s

    ones = np.ones(chunks[0].size + steps[0].size)
    found = fit(lambda p: np.concatenate(predict(p, 0)), ones, ATTENTION).parameters
    for ratio, median, mean in zip(predict(found, 1), (0.018, 0.013), (0.025, 0.019), strict=True):
        assert np.median(np.abs(ratio - 1.0)) < median and np.mean(np.abs(ratio - 1.0)) < mean
