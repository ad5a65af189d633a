"""Error statistics by hand, the law of coverage, and doublings worked out on paper."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofline.validate.statistics import (
    LEAST_IN_BIN,
    SIZE_BINS,
    by_group,
    by_regime,
    by_size,
    doublings,
    error_statistics,
    overall_agreement,
    rows_of,
)

from .made import paired


def test_errors_by_hand():
    pair = paired(
        [1.0, 2.0, 4.0, 10.0],
        [1.1, 1.8, 4.0, 15.0],  # errors +10 %, -10 %, 0, +50 %
        low_s=[0.9, 1.5, 4.1, 11.0],
        high_s=[1.2, 1.9, 5.0, 20.0],  # the first is inside; the second above, the others below their bands
        roofline_s=[0.5, 1.5, 1.0, 9.0],  # errors 50 %, 25 %, 75 %, 10 %
    )
    found = error_statistics(rows_of([pair]))
    assert found.n == 4
    assert found.median_ape == pytest.approx(0.1)
    assert found.mape == pytest.approx((0.1 + 0.1 + 0.0 + 0.5) / 4)
    assert found.p90_ape == pytest.approx(0.1 + 0.7 * 0.4)  # position 2.7 of 0, 0.1, 0.1, 0.5
    assert found.bias == pytest.approx(0.05)
    assert found.total_bias == pytest.approx(21.9 / 17.0 - 1.0)
    assert found.coverage == 0.25
    assert found.roofline_median_ape == pytest.approx(0.375)


def test_band_ends_count_as_inside():
    assert (
        error_statistics(rows_of([paired([1.0, 2.0], [1.5, 1.5], low_s=[1.0, 1.0], high_s=[2.0, 2.0])])).coverage == 1
    )


@given(st.integers(0, 2**32 - 1))
def test_a_band_of_the_10_and_90_percent_quantiles_covers_80_percent(seed: int):
    generator = np.random.default_rng(seed)
    ratio = np.exp(0.2 * generator.standard_normal(4000))
    low, high = np.quantile(ratio[:2000], [0.1, 0.9])
    predicted = np.exp(generator.standard_normal(2000))
    pair = paired(predicted * ratio[2000:], predicted, low_s=low * predicted, high_s=high * predicted)
    assert 0.75 < error_statistics(rows_of([pair])).coverage < 0.85


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=40), st.floats(0.1, 10.0))
def test_errors_do_not_depend_on_the_unit_or_the_order(times: list[float], factor: float):
    measured, predicted = np.array(times), np.array(times)[::-1]
    plain = error_statistics(rows_of([paired(measured, predicted)]))
    other = error_statistics(rows_of([paired(factor * measured[::-1], factor * predicted[::-1])]))
    for name in ("median_ape", "mape", "p90_ape", "bias", "total_bias", "roofline_median_ape"):
        assert getattr(other, name) == pytest.approx(getattr(plain, name), rel=1e-9, abs=1e-9)


def test_rows_faster_than_physics_judge_nothing():
    pair = paired([1.0, 1e-9, 1.0], [1.1, 1.0, 1.1], excluded=[False, True, False])
    assert error_statistics(rows_of([pair])).n == 2
    assert error_statistics(rows_of([pair])).mape == pytest.approx(0.1)


def test_groups_and_regimes_part_the_rows():
    first = paired([1.0, 1.0, 1.0], [1.1, 1.2, 1.3], regime=["compute", "memory", "memory"])
    second = paired([1.0], [1.4], regime=["overhead"])
    groups = by_group([first, second])
    assert list(groups) == [("a100-sxm-80gb", "gemm", "bf16")]
    regimes = by_regime(rows_of(groups["a100-sxm-80gb", "gemm", "bf16"]))
    assert {name: (found.n, round(found.mape, 9)) for name, found in regimes.items()} == {
        "compute": (1, 0.1),
        "memory": (2, 0.25),
        "overhead": (1, 0.4),
    }


@pytest.mark.parametrize(("rows", "parts"), [(1, 1), (9, 1), (20, 2), (3 * LEAST_IN_BIN + 1, 3), (1000, SIZE_BINS)])
def test_size_bins_hold_every_row_once_from_short_to_long(rows: int, parts: int):
    times = np.random.default_rng(0).permutation(np.geomspace(1e-6, 1.0, rows))
    found = by_size(rows_of([paired(times, times)]))
    assert len(found) == parts
    assert sum(part.errors.n for part in found) == rows
    assert all(part.low_s <= part.median_s <= part.high_s for part in found)
    assert all(a.high_s < b.low_s for a, b in pairwise(found))


def dims(**columns: list[float]) -> dict[str, np.ndarray]:
    return {name: np.array(values, dtype=float) for name, values in columns.items()}


def test_doublings_by_hand():
    # m doubles between rows 0-1 and 1-2, n between rows 0-3; row 4 has no partner (m three times as large).
    shapes = dims(m=[1, 2, 4, 1, 3], n=[8, 8, 8, 16, 8], k=[5, 5, 5, 5, 5], copies=[1, 1, 1, 1, 1])
    measured = [1.0, 1.1, 2.2, 1.9, 1.0]  # m: stays, follows; n: follows
    predicted = [1.0, 1.6, 3.0, 1.3, 1.0]  # m: follows, follows; n: stays
    found = {doubling.dimension: doubling for doubling in doublings([paired(measured, predicted, dims=shapes)])}
    assert set(found) == {"m", "n"}
    assert (found["m"].pairs, found["m"].agreement) == (2, 0.5)
    assert (found["n"].pairs, found["n"].agreement) == (1, 0.0)
    assert overall_agreement(found.values()) == pytest.approx(1 / 3)


def test_time_that_grows_by_less_than_the_square_root_of_two_stays():
    shapes = dims(m=[1, 2], n=[8, 8], k=[5, 5], copies=[1, 1])
    for measured, agrees in ((1.41, 1.0), (1.42, 0.0)):
        (found,) = doublings([paired([1.0, measured], [1.0, 1.0], dims=shapes)])
        assert found.agreement == agrees


def test_doublings_leave_out_rows_faster_than_physics_zeros_and_other_loops():
    shapes = dims(m=[1, 2], n=[8, 8], k=[5, 5], copies=[0, 0])
    assert doublings([paired([1.0, 2.0], [1.0, 2.0], dims=shapes, excluded=[False, True])]) == ()
    apart = [paired([1.0], [1.0], dims={name: values[i : i + 1] for name, values in shapes.items()}) for i in (0, 1)]
    assert doublings(apart) == ()
    assert overall_agreement([]) is None
