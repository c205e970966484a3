"""Intervals of means over few values, against a table."""

import math

import pytest

from stages.study.intervals import mean, student_t


def test_intervals_are_students() -> None:
    found = mean([1.0, 2.0, 3.0])
    assert found.value == 2.0 and found.low == pytest.approx(2 - 4.303 / math.sqrt(3), abs=1e-3)
    assert mean([1.0]).low is None
    # From a table of Student's t at 97.5 %.
    assert [round(student_t(df), 2) for df in (1, 2, 9, 10, 20, 30)] == [12.71, 4.30, 2.26, 2.23, 2.09, 2.04]
