import numpy as np
import pytest

from roofline.errors import RooflineError
from roofline.serving.lengths import Empirical, Fixed, LogNormal, normal_quantile


@pytest.mark.parametrize(("share", "expected"), [(0.5, 0.0), (0.95, 1.6448536), (0.99, 2.3263479), (0.05, -1.6448536)])
def test_normal_quantiles_are_those_of_the_tables(share, expected):
    assert float(normal_quantile(share)) == pytest.approx(expected, abs=5e-4)


def test_lognormal_lengths_have_their_mean_spread_and_quantiles():
    lengths = LogNormal(500.0, 1.0)
    drawn = lengths.sample(np.random.default_rng(1), 200_000)
    assert drawn.mean() == pytest.approx(500.0, rel=0.02)
    assert drawn.var() / drawn.mean() ** 2 == pytest.approx(1.0, rel=0.06)
    assert float(lengths.quantile(0.95)) == pytest.approx(np.quantile(drawn, 0.95), rel=0.02)
    assert drawn.min() >= 1.0


def test_samples_repeat_with_their_seed():
    lengths = LogNormal(500.0, 0.5)
    first, second = (lengths.sample(np.random.default_rng(7), 10) for _ in range(2))
    assert first.tolist() == second.tolist()


def test_observed_lengths_are_drawn_as_they_are():
    lengths = Empirical(np.array([10.0, 10.0, 40.0]))
    assert lengths.mean == 20.0
    assert lengths.cv2 == pytest.approx(0.5)
    assert set(lengths.sample(np.random.default_rng(0), 50)) == {10.0, 40.0}


def test_fixed_lengths_have_no_spread_and_may_be_arrays():
    lengths = Fixed(np.array([5.0, 50.0]))
    assert lengths.cv2.tolist() == [0.0, 0.0]
    assert lengths.quantile(0.99).tolist() == [5.0, 50.0]


@pytest.mark.parametrize("tokens", [[], [0.0], [5.0, np.nan], [np.inf]])
def test_no_lengths_or_lengths_below_a_token_are_refused(tokens):
    with pytest.raises(RooflineError, match="at least one token"):
        Empirical(np.array(tokens))
