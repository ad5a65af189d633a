import numpy as np
import pytest

from roofline.serving.solve import root_between


def test_zeros_of_straight_and_curved_functions_are_found_at_once():
    slope = np.array([1.0, 3.0, 10.0])
    found = root_between(lambda x: 2.0 - slope * x, np.zeros(3), np.full(3, 5.0))
    assert found == pytest.approx(2.0 / slope)
    curved = root_between(lambda x: slope / (1.0 + x) - x, np.zeros(3), np.full(3, 50.0))
    assert curved == pytest.approx((np.sqrt(1.0 + 4.0 * slope) - 1.0) / 2.0, rel=1e-3)


def test_where_there_is_no_zero_between_the_nearer_end_is_given():
    found = root_between(lambda x: np.array([1.0, -1.0]) + 0.0 * x, np.zeros(2), np.ones(2))
    assert found.tolist() == [1.0, 0.0]
