"""Expert layers: routing derived by hand and by sampling, laws, and measured rows that the fit did not see."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofline.calibrate.fit import fit
from roofline.structs import Array, Dtype
from roofline.timing.chip import Chip
from roofline.timing.loop import MODEL_STEP, BenchmarkLoop
from roofline.timing.moe import GroupedLibrary, MoeParameters, moe_time
from roofline.timing.parameter import facts_of
from roofline.timing.routing import (
    BalancedRouting,
    PowerLawRouting,
    Remainder,
    Routing,
    UniformRouting,
    busiest_rank,
    normal_quantile,
)

MIB = 2.0**20
A100 = Chip(108.0, 1.41e9, 312e12 / 108 / 1.41e9, 2039e9, 40 * MIB, 128.0)
H100 = Chip(132.0, 1.83e9, 989.4e12 / 132 / 1.83e9, 3350e9, 50 * MIB, 256.0)
H100_FP8 = replace(H100, flop_per_clock=1978.9e12 / 132 / 1.83e9)
ONE_LAYER_AGAIN = BenchmarkLoop(operand_copies=1.0)

routings = st.sampled_from([UniformRouting(), BalancedRouting(), PowerLawRouting(1.2)])
tokens = st.integers(1, 20_000).map(float)
layouts = st.sampled_from([(8.0, 2.0, 1.0), (128.0, 8.0, 1.0), (128.0, 8.0, 16.0), (256.0, 8.0, 256.0)])


def loads(routing: Routing, token: float, per_token: float, experts: float, ranks: float = 1.0):
    return busiest_rank(routing, *(np.array([value]) for value in (token, per_token, experts, ranks)))


def test_balanced_routing_by_hand() -> None:
    # 1000 tokens, 8 of 128 experts: 62.5 rows each, padded to 64 or to 5 x 16. On 16 ranks: 8 experts, 500 rows.
    whole = loads(BalancedRouting(), 1000.0, 8.0, 128.0)
    assert whole.rows == pytest.approx(8000) and whole.touched_experts == pytest.approx(128)
    assert whole.blocks(64.0) == pytest.approx(128) and whole.blocks(16.0) == pytest.approx(4 * 128)
    rank = loads(BalancedRouting(), 1000.0, 8.0, 128.0, 16.0)
    assert rank.rows == pytest.approx(500) and rank.touched_experts == pytest.approx(8)
    few = loads(BalancedRouting(), 4.0, 8.0, 128.0)
    assert few.touched_experts == pytest.approx(32) and few.blocks(16.0) == pytest.approx(32)


@pytest.mark.parametrize(
    ("token", "per_token", "experts"), [(1, 8, 256), (16, 8, 256), (64, 2, 8), (256, 8, 128), (4096, 8, 64)]
)
def test_uniform_routing_touches_what_probability_says(token: float, per_token: float, experts: float) -> None:
    # experts · (1 - (1 - per_token / experts)^token)
    expected = experts * (1 - (1 - per_token / experts) ** token)
    assert loads(UniformRouting(), token, per_token, experts).touched_experts == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(
    ("token", "per_token", "experts", "ranks"), [(512, 8, 128, 1), (100, 2, 8, 1), (2048, 8, 256, 16)]
)
def test_uniform_routing_against_sampling(token: int, per_token: int, experts: int, ranks: int) -> None:
    generator = np.random.default_rng(1)
    hottest, blocks = [], []
    for _ in range(40):
        picked = np.argsort(generator.random((token, experts)), axis=1)[:, :per_token]
        count = np.bincount(picked.ravel(), minlength=experts).reshape(ranks, -1)
        busiest = count[count.sum(axis=1).argmax()]
        hottest.append(busiest.sum())
        blocks.append(np.ceil(busiest / 16).sum())
    load = loads(UniformRouting(), token, per_token, experts, ranks)
    assert load.rows == pytest.approx(np.mean(hottest), rel=0.02)
    assert load.blocks(16.0) == pytest.approx(np.mean(blocks), rel=0.04)


def test_power_law_loads_the_busiest_rank_as_measured_generators_do() -> None:
    # Hottest over mean rank of aiconfigurator's generator, 1024 tokens and more (sampled here: 256 experts, top 8).
    generator = np.random.default_rng(2)
    token, experts, exponent = 4096, 256, 1.01
    for ranks in (2, 8, 32):
        ratios = []
        for _ in range(200):
            low, high, power = 1.0, 0.8 * token, 1 - exponent
            values = ((high**power - low**power) * generator.random(experts) + low**power) ** (1 / power)
            sums = values.reshape(ranks, -1).sum(axis=1)
            ratios.append(sums.max() / sums.mean())
        load = loads(PowerLawRouting(exponent), token, 8.0, experts, ranks)
        assert load.rows / (token * 8 / ranks) == pytest.approx(np.mean(ratios), rel=0.1)


def test_left_over_rows_may_all_hit_the_first_rank() -> None:
    # One token, 8 of 256 experts, 16 ranks of 16: spread out, half a row each; on the first rank, all 8.
    spread = loads(PowerLawRouting(1.01), 1.0, 8.0, 256.0, 16.0)
    first = loads(PowerLawRouting(1.01, Remainder.FIRST_RANK), 1.0, 8.0, 256.0, 16.0)
    assert first.touched_experts == pytest.approx(8, rel=0.1) and spread.touched_experts < 3


@given(routings, tokens, layouts)
def test_rows_blocks_and_experts_agree(routing: Routing, token: float, layout: tuple[float, float, float]) -> None:
    experts, per_token, ranks = layout
    load = loads(routing, token, per_token, experts, ranks)
    total, local = token * per_token, experts / ranks
    assert total / ranks * (1 - 1e-9) <= load.rows <= total * (1 + 1e-9)
    assert load.touched_experts <= min(local, load.rows) * (1 + 1e-9)
    assert load.touched_experts * (1 - 1e-9) <= load.blocks(64.0) <= load.blocks(16.0) <= load.rows + local
    assert load.blocks(16.0) * 16 >= load.rows * (1 - 1e-9)


def test_normal_quantile() -> None:
    known = {0.5: 0.0, 0.8413: 1.0, 0.9772: 2.0, 0.1587: -1.0}  # Tables of the normal distribution.
    for probability, z in known.items():
        assert normal_quantile(np.array(probability)) == pytest.approx(z, abs=0.02)


SHAPE = {"hidden": 4096.0, "intermediate": 1536.0, "per_token": 8.0, "experts": 128.0}


def test_one_token_reads_its_experts_once() -> None:
    time = moe_time(1.0, **SHAPE, chip=H100, parameters=MoeParameters(), routing=BalancedRouting())
    weights = 8 * 3 * 4096 * 1536 * 2
    assert time.roofline_s == pytest.approx((weights + 2 * 4096 * 2) / 3350e9, rel=1e-9)
    assert weights / (MoeParameters().dram_fraction * 3350e9) < time.memory_s < 1.1 * weights / (0.88 * 3350e9)


def test_uneven_routing_and_odd_rows_cost_time() -> None:
    kwargs = {"chip": H100, "parameters": MoeParameters(), "ranks": 16.0}
    even = moe_time(4096.0, **SHAPE, **kwargs, routing=BalancedRouting()).total_s
    uneven = moe_time(4096.0, **SHAPE, **kwargs, routing=PowerLawRouting(1.2)).total_s
    assert uneven > 1.3 * even
    odd = {**SHAPE, "intermediate": 1537.0}
    assert moe_time(4096.0, **odd, **kwargs, routing=BalancedRouting()).total_s > 1.5 * even


@given(routings, tokens, layouts, st.sampled_from(list(GroupedLibrary)))
def test_never_below_the_roofline(
    routing: Routing, token: float, layout: tuple[float, float, float], library: GroupedLibrary
) -> None:
    experts, per_token, ranks = layout
    ideal = {name: max(min(facts.ideal, facts.high), facts.low) for name, facts in facts_of(MoeParameters).items()}
    time = moe_time(
        token, 4096.0, 1792.0, per_token, experts, ranks=ranks, chip=A100,
        parameters=MoeParameters(**ideal, library=library), routing=routing,
    )  # fmt: skip
    assert np.isfinite(time.total_s) and time.roofline_s <= time.total_s


@given(st.lists(tokens, min_size=1, max_size=5), routings)
def test_an_array_gives_what_its_elements_give(values: list[float], routing: Routing) -> None:
    kwargs = {**SHAPE, "chip": H100, "parameters": MoeParameters(), "routing": routing}
    together = moe_time(np.array(values), **kwargs).total_s
    assert together.tolist() == [float(moe_time(value, **kwargs).total_s) for value in values]


@given(tokens, layouts, routings, st.floats(1.0, 3.0))
def test_more_bandwidth_or_a_warmer_cache_never_hurts(
    token: float, layout: tuple[float, float, float], routing: Routing, factor: float
) -> None:
    experts, per_token, ranks = layout

    def total(chip: Chip, loop: BenchmarkLoop) -> Array:
        return moe_time(
            token, 4096.0, 768.0, per_token, experts, ranks=ranks, chip=chip, parameters=MoeParameters(),
            routing=routing, loop=loop,
        ).total_s  # fmt: skip

    cold = total(A100, MODEL_STEP)
    faster = replace(A100, dram_byte_per_s=factor * A100.dram_byte_per_s)
    assert total(faster, MODEL_STEP) <= cold * (1 + 1e-12)
    assert total(A100, ONE_LAYER_AGAIN) <= cold * (1 + 1e-12)


def test_parameters_are_few() -> None:
    assert len(facts_of(MoeParameters)) <= 12
    for facts in facts_of(MoeParameters).values():
        assert 0 < facts.low <= facts.prior <= facts.high


# Measured rows: fitted on a random half, judged on the other.

COLUMNS = ("num_tokens", "hidden_size", "inter_size", "topk", "num_experts", "moe_tp_size", "moe_ep_size", "latency")
Rows = dict[str, Array]


def halves(data: Path, system: str, dtype: str) -> tuple[Rows, Rows]:
    """A random half of the rows (seed 0) and the other half, as columns; latency in seconds."""
    import pyarrow.parquet as parquet

    folder = data / "aiconfigurator" / "systems" / "data" / system
    table = parquet.read_table(next(folder.glob("*/moe_perf.parquet")), filters=[("moe_dtype", "==", dtype)])
    rows = {name: table[name].to_numpy().astype(float) for name in COLUMNS}
    rows["latency"] /= 1e3
    rows["distribution"] = np.array(table["distribution"].to_pylist())
    order = np.random.default_rng(0).permutation(rows["latency"].size)
    half = order.size // 2
    parts = order[:half], order[half:]
    return tuple({name: column[part] for name, column in rows.items()} for part in parts)  # type: ignore[return-value]


def routing_of(distribution: str, remainder: Remainder) -> Routing:
    if distribution == "balanced":
        return BalancedRouting()
    return PowerLawRouting(float(distribution.removeprefix("power_law_")), remainder)


def predicted(rows: Rows, chip: Chip, parameters: MoeParameters, dtype: Dtype, remainder: Remainder) -> Array:
    total_s = np.empty(rows["latency"].size)
    for distribution in np.unique(rows["distribution"]):
        here = rows["distribution"] == distribution
        token, hidden, inter, per_token, experts, tp, ep, _ = (rows[name][here] for name in COLUMNS)
        total_s[here] = moe_time(
            token, hidden, inter / tp, per_token, experts, ranks=ep, chip=chip, parameters=parameters,
            routing=routing_of(distribution, remainder), activation=dtype, weight=dtype, loop=ONE_LAYER_AGAIN,
        ).total_s  # fmt: skip
    return total_s


@pytest.mark.parametrize(
    ("system", "dtype", "chip", "library", "remainder", "median", "mean"),
    [
        # Reached: 4.1/6.5, 4.1/7.8, 5.9/7.9.
        ("h100_sxm/moe/vllm", Dtype.BF16, H100, GroupedLibrary.TRITON, Remainder.SPREAD, 4.4, 6.8),
        ("h100_sxm/moe/vllm", Dtype.FP8, H100_FP8, GroupedLibrary.TRITON, Remainder.SPREAD, 4.4, 8.2),
        ("a100_sxm/moe/vllm", Dtype.BF16, A100, GroupedLibrary.TRITON_SHIPPED_A100, Remainder.FIRST_RANK, 6.3, 8.4),
    ],
)
def test_rows_that_the_fit_did_not_see(
    data_folder: Path,
    system: str,
    dtype: Dtype,
    chip: Chip,
    library: GroupedLibrary,
    remainder: Remainder,
    median: float,
    mean: float,
) -> None:
    seen, unseen = halves(data_folder, system, "bfloat16" if dtype is Dtype.BF16 else dtype.value)
    some = {name: column[:3000] for name, column in seen.items()}
    free = tuple(facts_of(MoeParameters))
    if library is GroupedLibrary.TRITON:
        free = tuple(name for name in free if name != "untuned_fraction")
    found = fit(
        lambda p: predicted(some, chip, p, dtype, remainder), some["latency"], MoeParameters(library=library), free=free
    )
    error = 100 * np.abs(predicted(unseen, chip, found.parameters, dtype, remainder) / unseen["latency"] - 1)
    assert np.median(error) < median and np.mean(error) < mean, (np.median(error), np.mean(error))


def test_rows_that_outgrow_the_cache_feed_their_tiles_slower() -> None:
    # Two of 8 experts of 896 columns, K of 4096: measured on A100, 130 TFLOP/s at 4,096 tokens, whose 32 MiB fit the
    # cache, and 90 at 65,536. Feed alone: 64 x 64 tiles read (64 + 64) 2 byte x 64 per 2 x 64^3 FLOP, 1/32 byte/FLOP.
    wide = {"hidden": 4096.0, "intermediate": 896.0, "per_token": 2.0, "experts": 8.0}
    fed = MoeParameters(
        launch_s=2e-6, matrix_fraction=1.0, untuned_fraction=1.0, feed_byte_per_flop=1 / 64, store_byte_per_flop=0.1,
        cache_fraction=1.0, cold_feed=0.5, overlap=8.0, library=GroupedLibrary.TRITON_SHIPPED_A100,
    )  # fmt: skip
    token = np.array([2048.0, 65536.0])
    time = moe_time(token, **wide, chip=A100, parameters=fed, routing=BalancedRouting())
    flop = 6 * token * 2 * 4096 * 896
    # Rows of both products fit at 2,048 tokens (16 and 7 MiB): half of the peak. Neither fits at 65,536: a quarter.
    assert flop / time.compute_s / 312e12 == pytest.approx([0.5, 0.25], rel=0.05)
    assert moe_time(token, **wide, chip=A100, parameters=replace(fed, cold_feed=1.0), routing=BalancedRouting()
    ).compute_s[1] == pytest.approx(time.compute_s[1] / 2, rel=0.05)  # fmt: skip


@given(tokens, layouts, routings)
def test_less_overlap_costs_at_most_both_times(
    token: float, layout: tuple[float, float, float], routing: Routing
) -> None:
    experts, per_token, ranks = layout

    def at(overlap: float) -> Array:
        parameters = MoeParameters(overlap=overlap)
        shape = (token, 4096.0, 768.0, per_token, experts)
        return moe_time(*shape, ranks=ranks, chip=A100, parameters=parameters, routing=routing).total_s

    apart, together = at(1.0), at(8.0)
    assert together <= apart * (1 + 1e-12) and apart <= 2 * together * (1 + 1e-12)
