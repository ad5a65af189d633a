"""Kernels on a processor: times derived by hand, and laws."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofline.kernels.moe import touched_experts
from roofline.structs import NO_WINDOW
from roofline.timing.cpu import (
    CpuAttentionParameters,
    CpuGemmParameters,
    CpuRowParameters,
    Processor,
    cpu_attention_time,
    cpu_gemm_time,
    cpu_row_time,
)
from roofline.timing.cpu_step import expert_products
from roofline.timing.loop import MODEL_STEP, BenchmarkLoop
from roofline.timing.parameter import facts_of

CPU = Processor(flop_per_s=200e9, dram_byte_per_s=40e9, cache_byte_per_s=160e9, cache_byte=32e6, near_byte=1e6)
GEMM, ROWS, FUSED = CpuGemmParameters(), CpuRowParameters(), CpuAttentionParameters()
sizes = st.integers(1, 4096).map(float)


def gemm(m, n, k, copies=1.0, parameters=GEMM, loop=MODEL_STEP):
    bytes_ = {"weight_byte": 4.0, "value_byte": 4.0}
    return cpu_gemm_time(m, n, k, copies, **bytes_, processor=CPU, parameters=parameters, loop=loop)


def rows(row, read, write, weight=0.0, parameters=ROWS):
    return cpu_row_time(row, read, write, weight, processor=CPU, parameters=parameters)


def attention(*dims, parameters=FUSED, causal=True):
    return cpu_attention_time(*dims, kv_byte=4.0, processor=CPU, parameters=parameters, causal=causal)


def test_one_row_streams_its_weights_from_dram():
    """4096 x 4096 in fp32 is 64 MiB: over 60 % of 40 GB/s, and as it arrives over 50 % of the cache's 160 GB/s;
    columns of 4096 values cost 300 more."""
    byte, values = 4.0 * 4096**2, 4.0 * 2 * 4096
    streamed = byte * (1.0 + 300.0 / 4096.0)
    memory_s = ((streamed / (0.6 * 40e9)) ** 4 + ((streamed + values) / (0.5 * 160e9)) ** 4) ** 0.25
    time = gemm(1.0, 4096.0, 4096.0)
    assert time.memory_s == pytest.approx(memory_s, rel=1e-6)
    assert time.total_s == pytest.approx(memory_s + 2.5e-6, rel=1e-3)  # nothing is packed


def test_large_product_reaches_its_fraction_of_the_peak():
    flop = 2.0 * 4096**3
    assert gemm(4096.0, 4096.0, 4096.0).total_s == pytest.approx(flop / (0.8 * 200e9), rel=0.05)


def test_two_rows_are_packed_and_one_is_not():
    """Where packing outlasts all else, it is the time: 500 FLOP per byte, 2048 / (2048 + 1e5) more for its width."""
    costly, width = replace(GEMM, pack_flop_per_byte=500.0), 1.0 + 2048.0 / (2048.0 + 1e5)
    assert gemm(1.0, 2048.0, 2048.0).total_s == pytest.approx(gemm(1.0, 2048.0, 2048.0, parameters=costly).total_s)
    packed_s = 500.0 * 4.0 * 2048**2 * width / 200e9
    assert gemm(2.0, 2048.0, 2048.0, parameters=costly).total_s == pytest.approx(packed_s, rel=0.02)


def test_wide_weights_are_packed_at_half_the_rate():
    costly = replace(GEMM, pack_flop_per_byte=500.0, wide_column=2.0**20)
    narrow, wide = (gemm(2.0, n, 2048.0, parameters=costly).total_s for n in (2.0**11, 2.0**31))
    assert wide / narrow == pytest.approx(2.0 * 2.0**20, rel=0.02)


def test_few_rows_one_by_one_read_the_weights_again():
    """Up to `single_rows`, m rows take m matrix-vector products where the weights exceed the core's own cache."""
    three = replace(GEMM, single_rows=3.0)
    once = gemm(1.0, 4096.0, 4096.0, parameters=three).total_s
    for m in (2.0, 3.0):
        assert gemm(m, 4096.0, 4096.0, parameters=three).total_s == pytest.approx(m * once, rel=1e-3)
    packed = gemm(4.0, 4096.0, 4096.0, parameters=three).total_s
    assert packed == pytest.approx(gemm(4.0, 4096.0, 4096.0).total_s)


def test_small_matrix_vector_products_have_one_core_s_bandwidth():
    """256 x 256 is below 460800 values, 4096 x 4096 above."""
    half = replace(GEMM, one_core_share=0.5, call_s=1e-8, product_s=1e-9)
    all_cores = replace(half, one_core_share=1.0)
    small, large = ([gemm(1.0, n, n, parameters=each).total_s for each in (half, all_cores)] for n in (256.0, 4096.0))
    assert np.divide(*small) == pytest.approx(2.0, rel=0.03)
    assert np.divide(*large) == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize("half_row", [1.0, 40.0])
@pytest.mark.parametrize("pack", [0.1, 20.0, 100.0])
def test_the_bound_turns_where_floor_and_slope_meet(half_row, pack):
    """Floor: the time of two rows; slope: that of many, a row. Within one doubling, whatever the floor is made of."""
    parameters = replace(GEMM, half_row=half_row, pack_flop_per_byte=pack)
    m = np.concatenate([np.arange(2.0, 2000.0), [1e6]])
    time = gemm(m, 2048.0, 2048.0, parameters=parameters)
    balance = time.total_s[0] * m[-1] / time.total_s[-1]
    turned = m[np.argmax(time.bound_index == 0)]
    assert abs(np.log2(turned / balance)) < 1.0


def test_small_products_are_not_packed():
    costly = replace(GEMM, pack_flop_per_byte=500.0)
    assert gemm(4.0, 16.0, 16.0, parameters=costly).total_s == pytest.approx(gemm(4.0, 16.0, 16.0).total_s, rel=1e-3)


def test_products_below_a_size_have_one_core():
    """128^3 FMA at 80 % of 200 GFLOP/s, rounded up; half of that rate below 2^22 FMA."""
    fast = {"pack_flop_per_byte": 0.1, "call_s": 1e-8, "product_s": 1e-9, "one_core_share": 1.0, "cache_fraction": 1.0}
    every = replace(GEMM, **fast)
    one = replace(every, one_core_fma=2.0**22, one_core_rate=0.5)
    times = [gemm(128.0, 128.0, 128.0, parameters=each, loop=BenchmarkLoop(1.0)).compute_s for each in (every, one)]
    assert times[0] == pytest.approx(2.0 * 128.0 * 132.0 * 132.0 / (0.8 * 200e9))
    assert times[1] == pytest.approx(2.0 * times[0])
    large = [gemm(256.0, 256.0, 256.0, parameters=each).total_s for each in (every, one)]
    assert large[0] == large[1]


def test_results_of_many_values_are_packed_however_small_the_product():
    """32 x 40 x 16: 20480 FMA. Packing 2560 bytes at 500 FLOP a byte takes 6.4 us of 200 GFLOP/s; a product of 1280
    values pays them, and 2.5 us, where the library packs from 1200 on."""
    costly = replace(GEMM, pack_flop_per_byte=500.0, small_fma=1e6, one_core_rate=1.0)
    free, packed = (
        gemm(32.0, 40.0, 16.0, parameters=replace(costly, unpacked_value=limit)).total_s for limit in (1300.0, 1200.0)
    )
    assert free < 500.0 * 2560 / 200e9 + 2.5e-6 < packed


def test_experts_with_one_row_and_with_several():
    """Two tokens, one of two experts each: an expert has exactly one row with probability 1/2, two with 1/4."""
    assert expert_products(2.0, 1.0, 2.0, 2.0, 8.0, 16.0) == ((1.0, 8.0, 16.0, 1.0), (2.0, 8.0, 16.0, 0.5))
    assert expert_products(1.0, 2.0, 8.0, 8.0, 8.0, 16.0)[0] == (1.0, 8.0, 16.0, 2.0)
    assert expert_products(1.0, 2.0, 8.0, 8.0, 8.0, 16.0)[1][3] == 0.0


@given(st.integers(1, 500).map(float), st.integers(1, 8).map(float), st.integers(8, 128).map(float), st.integers(1, 8))
def test_experts_rows_are_those_that_are_routed_to_them(token, per_token, experts, parts):
    local = experts / parts
    alone, others = expert_products(token, per_token, experts, local, 8.0, 16.0)
    assert alone[0] * alone[3] + others[0] * others[3] == pytest.approx(token * per_token / parts)
    assert alone[3] + others[3] == pytest.approx(touched_experts(token, per_token, experts, local))


def test_weights_that_take_turns_within_the_cache_are_not_read_from_dram():
    """1 MB: two copies fit. On the way from DRAM the cache's time is the smaller part of a norm (see cpu_gemm_time)."""
    alike = replace(GEMM, one_core_share=1.0)
    warm, cold = (gemm(1.0, 512.0, 512.0, parameters=alike, loop=loop) for loop in (BenchmarkLoop(2.0), MODEL_STEP))
    streamed = 4.0 * 512**2 * (1.0 + 300.0 / 512.0)
    assert warm.memory_s == pytest.approx((streamed + 4.0 * 2 * 512) / (0.5 * 160e9), rel=1e-3)
    assert cold.memory_s**4 - warm.memory_s**4 == pytest.approx((streamed / (0.6 * 40e9)) ** 4, rel=1e-3)
    assert warm.roofline_s == pytest.approx(2.0 * 512**2 / 200e9)  # no byte must come from DRAM
    assert cold.roofline_s == pytest.approx(4.0 * 512**2 / 40e9)


def test_memory_bound_turns_compute_bound_with_rows():
    found = gemm(np.array([1.0, 2.0, 64.0, 512.0]), 2048.0, 2048.0)
    assert found.bound_index.tolist() == [1, 1, 0, 0]


def test_a_row_kernel_by_hand():
    """Ten rows of 1 KB read and written: 5 FLOP per byte of either at 200 GFLOP/s, 20 ns a row, and the call."""
    expected = 2e-6 + 10 * (20e-9 + (1000.0 + 1000.0) * 5.0 / 200e9)
    assert rows(10.0, 1000.0, 1000.0).total_s == pytest.approx(expected, rel=1e-6)


def test_a_kernel_that_is_divided_among_the_cores():
    """Of 1000 bytes a row, written: 20 rows have one core's half of the rate, 200 have all of it and pay 3 us."""
    torch = replace(ROWS, grain_byte=1e5, grain_row=1.0, second_call=0.5, second_vector=0.4)
    each_s = 20e-9 + (1000.0 + 1000.0) * 5.0 / 200e9
    assert rows(20.0, 1000.0, 1000.0, parameters=torch).total_s == pytest.approx(2e-6 + 20 * each_s / 0.5, rel=1e-4)
    assert rows(200.0, 1000.0, 1000.0, parameters=torch).total_s == pytest.approx(5e-6 + 200 * each_s, rel=1e-4)
    one, two = (rows(row, 1000.0, 1000.0, 2000.0, parameters=torch) for row in (1.0, 2.0))  # a layer norm's rows
    assert (one.overhead_s, two.overhead_s) == (pytest.approx(1e-6), pytest.approx(4e-6))
    assert one.compute_s == pytest.approx(two.compute_s)


def test_rows_beyond_all_caches_come_from_dram():
    byte = 1e9
    memory_s = byte / (0.3 * 160e9) + byte / (0.4 * 40e9)
    assert rows(1e5, 5e3, 5e3).memory_s == pytest.approx(memory_s, rel=1e-6)
    assert rows(1e5, 5e3, 5e3).roofline_s == pytest.approx((byte - 32e6) / 40e9)


def test_a_layer_norm_takes_more_passes_than_an_rms_norm():
    one, two = (rows(64.0, 4096.0, 4096.0, vectors * 4096.0) for vectors in (1.0, 2.0))
    assert two.compute_s / one.compute_s == two.overhead_s / one.overhead_s == pytest.approx(1.2)


def test_fused_decode_by_hand():
    """8 sequences, 1000 keys, 4 heads of 64: every pair 4·64 FLOP over its fraction and a softmax, keys from DRAM."""
    parameters = replace(FUSED, half_row=0.01)
    pairs, byte = 8 * 4 * 1000.0, 2.0 * 8 * 1000 * 4 * 64 * 4
    compute_s = pairs * (4 * 64 * 1.01 / 0.4 + 100.0) / 200e9
    expected = compute_s + byte / (0.4 * 40e9) + 2e-6 + 1e-6 * 8 * 4
    time = attention(8.0, 1.0, 999.0, 4.0, 4.0, 64.0, NO_WINDOW, parameters=parameters)
    assert time.total_s == pytest.approx(expected)


def test_masked_pairs_cost_their_share():
    full = attention(1.0, 512.0, 0.0, 8.0, 8.0, 64.0, NO_WINDOW, causal=False).compute_s
    causal = attention(1.0, 512.0, 0.0, 8.0, 8.0, 64.0, NO_WINDOW).compute_s
    seen = 513.0 / 1024.0
    assert causal / full == pytest.approx(seen + 0.5 * (1.0 - seen))


def test_shared_keys_are_copied_for_every_query_head():
    grouped = attention(1.0, 1.0, 999.0, 8.0, 2.0, 64.0, NO_WINDOW).compute_s
    own = attention(1.0, 1.0, 999.0, 8.0, 8.0, 64.0, NO_WINDOW).compute_s
    copied = 2.0 * 1000 * 2 * 64 * 4 * 4.0
    assert grouped - own == pytest.approx(copied / (0.1 * 160e9))


@given(m=sizes, n=sizes, k=sizes, copies=st.integers(1, 64).map(float), loop=st.sampled_from([1.0, 8.0, np.inf]))
def test_products_are_never_below_the_roofline_and_grow(m, n, k, copies, loop):
    """With one core as fast as all: where a library takes up further ones, a larger product may be the faster one."""
    low = CpuGemmParameters(**{name: facts.low for name, facts in facts_of(type(GEMM)).items()})
    alike = {"one_core_share": 1.0, "one_core_rate": 1.0}
    for parameters in (replace(GEMM, **alike), replace(low, **alike)):
        time = gemm(m, n, k, copies, parameters, BenchmarkLoop(loop))
        assert time.total_s >= time.roofline_s > 0.0
        for larger in ((2 * m, n, k, copies), (m, 2 * n, k, copies), (m, n, 2 * k, copies), (m, n, k, 2 * copies)):
            assert gemm(*larger, parameters, BenchmarkLoop(loop)).total_s >= time.total_s * (1 - 1e-12)


@given(row=sizes, read=sizes, write=sizes)
def test_row_kernels_are_never_below_the_roofline_and_grow(row, read, write):
    time = rows(row, read, write)
    assert time.total_s >= time.roofline_s
    assert rows(2 * row, read, write).total_s >= time.total_s
    assert rows(row, 2 * read, write).total_s >= time.total_s


@given(sizes, sizes, sizes, st.sampled_from([1.0, 8.0]), st.sampled_from([64.0, NO_WINDOW]))
def test_fused_attention_is_never_below_the_roofline_and_grows(sequences, new, context, heads, window):
    time = attention(sequences, new, context, heads, heads, 64.0, window)
    assert time.total_s >= time.roofline_s > 0.0
    assert attention(sequences, new, 2 * context, heads, heads, 64.0, window).total_s >= time.total_s * (1 - 1e-12)
    assert attention(2 * sequences, new, context, heads, heads, 64.0, window).total_s > time.total_s


@pytest.mark.parametrize("function", [gemm, rows, lambda a, b, c: attention(a, b, c, 8.0, 2.0, 64.0, 128.0)])
def test_vectors_equal_scalars(function):
    draw = np.random.default_rng(0).integers(1, 3000, (3, 20)).astype(float)
    together = function(*draw).total_s
    assert together.tolist() == [float(function(*column).total_s) for column in draw.T]
