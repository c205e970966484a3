"""Intervals that promise no more than their samples know."""

import numpy as np
import pytest

from stages.evaluation_metrics import interval, measure, ratio_measure
from stages.evaluations.composed import Number, mean_number


@pytest.mark.parametrize(("value", "count"), [(0.5, 1), (0.5, 4), (1.0, 3), (0.0, 3)])
def test_equal_samples_are_no_certainty(value: float, count: int) -> None:
    alike = 0.025 ** (1 / count)
    wanted = pytest.approx((alike * value, alike * value + 1 - alike))
    values = np.full(count, value)
    number = mean_number("x", values).measure("b", "en")
    rows = [measure("b", "en", "x", values), ratio_measure("b", "en", "x", values, np.ones(count)), number]
    assert all((row.value, row.n) == (value, count) for row in rows)
    assert all((row.low, row.high) == wanted for row in rows)


def test_samples_of_which_no_resample_has_all_that_is_needed_have_the_widest_interval() -> None:
    parts = np.ones((1, 1))
    row = Number("x", parts, lambda means: np.where(np.ndim(means) > 1, np.nan, means[..., 0])).measure("b", "en")
    assert (row.low, row.high) == pytest.approx((0.025, 1.0))


def test_what_may_pass_one_is_bounded_by_the_most_that_it_can_be() -> None:
    low, high = interval([4.0, 4.0], most=10.0)
    assert (low, high) == pytest.approx((4 * 0.025**0.5, 4 * 0.025**0.5 + 10 * (1 - 0.025**0.5)))
    assert interval([0.2, 0.8] * 50)[1] < 0.6  # where samples differ, they say themselves how sure they are
