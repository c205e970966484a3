"""What is within noise, and which variant the rules take."""

import math

import pytest
from study_rows import row

from stages.study.intervals import mean, student_t
from stages.study.summary import apart, judge, within_noise


def test_intervals_are_students() -> None:
    found = mean([1.0, 2.0, 3.0])
    assert found.value == 2.0 and found.low == pytest.approx(2 - 4.303 / math.sqrt(3), abs=1e-3)
    assert mean([1.0]).low is None
    # From a table of Student's t at 97.5 %.
    assert [round(student_t(df), 2) for df in (1, 2, 9, 10, 20, 30)] == [12.71, 4.30, 2.26, 2.23, 2.09, 2.04]


def test_what_overlaps_with_the_best_is_noise_and_what_does_not_is_named() -> None:
    best, near, far = row(2, (0.50, 0.51, 0.52)), row(4, (0.49, 0.50, 0.515)), row(6, (0.30, 0.31, 0.32))
    rows = [far, near, best]
    assert within_noise(rows) == [best, near]
    assert apart(rows) == [(near, far), (best, far)]
    told = " ".join(judge(rows).noise)
    assert "Of 3 pairs of variants the intervals over 3 seeds tell 2 apart" in told
    assert f"Within noise of the most accurate, {best.variant.name}: {near.variant.name}." in told
    alone = " ".join(judge([best, far]).noise)
    assert "above every other variant by more than noise" in alone


def test_the_calm_one_is_taken_before_the_fast_one_and_the_fast_one_before_the_accurate_one() -> None:
    accurate = row(2, (0.50, 0.51, 0.52), speed=100)
    fast, calm = row(3, (0.49, 0.50, 0.51), speed=900), row(4, (0.49, 0.50, 0.515), speed=500)
    faster_and_worse = row(6, (0.30, 0.31, 0.32), speed=9000, diverged=(None, None))
    rows = [accurate, fast, calm, faster_and_worse]
    assert judge(rows).chosen is fast, "all diverged once"
    calmer = row(4, (0.49, 0.50, 0.515), speed=500, diverged=(None, None))
    verdict = judge([accurate, fast, calmer, faster_and_worse])
    assert verdict.chosen is calmer
    assert "3 of 4 variants could be the most accurate" in verdict.reason
    assert f"1 of these diverged least ({calmer.variant.name}: 0 of 5 trainings each)" in verdict.reason


def test_one_seed_says_that_it_tells_nothing() -> None:
    rows = [row(2, (0.9,)), row(4, (0.3,))]
    assert len(within_noise(rows)) == 2 and not apart(rows)
    assert judge(rows).noise == (
        "With one seed there is no interval: any difference may be noise. Give three seeds or more.",
    )


def test_what_is_not_above_guessing_is_said() -> None:
    guessing = row(6, (0.24, 0.25, 0.27))
    assert any("Not told from guessing: d6_h8_r4" in line for line in judge([row(2), guessing]).noise)
    assert not any("guessing" in line for line in judge([row(2), row(4)]).noise)
