"""What is within noise, and which variant the rules take."""

from study_rows import row

from stages.study.verdict import apart, compared_by, judge, within_noise


def test_what_is_not_told_apart_from_the_best_is_noise_and_what_is_is_named() -> None:
    best, near, far = row(2, (0.50, 0.51, 0.52)), row(4, (0.49, 0.51, 0.515)), row(6, (0.30, 0.31, 0.325))
    rows = [far, near, best]
    compared = compared_by("choose", rows)
    assert within_noise(rows, compared) == [best, near]
    assert apart(rows, compared) == [(near, far), (best, far)]
    verdict = judge(rows)
    assert verdict.near == (best, near)
    told = " ".join(verdict.noise)
    assert f"more than {100 * (compared.threshold or 0):.1f} points apart: 2 of 3 pairs do" in told
    assert "Told apart: d6_h8_r4 below d4_h8_r4, d2_h8_r4." in told
    assert f"Within noise of the most accurate, {best.variant.name}: {near.variant.name}." in told
    assert "By retrieval, which decides nothing here, d2_h8_r4 is highest; within noise of it: d4_h8_r4" in told
    alone = " ".join(judge([best, far]).noise)
    assert "above every other variant by more than noise" in alone


def test_what_else_is_uncertain_is_said() -> None:
    verdict = judge([row(2), row(4, speed=960), row(6, speed=500)])
    told = " ".join(verdict.noise)
    assert "As fast as d2_h8_r4 within what the timings scatter: d4_h8_r4." in told
    assert "Each raised learning rate was tried with 3 seeds: even that a variant always held" in told
    assert "At a raised rate d2_h8_r4, d4_h8_r4, d6_h8_r4 had a lower loss" in told
    assert "320,000 to 320,000 parameters: whole heads make the largest 0% larger" in told
    calm = " ".join(judge([row(2, failed=()), row(6, speed=500, failed=())]).noise)
    assert "As fast" not in calm and "raised" not in calm


def test_the_calm_one_is_taken_before_the_fast_one_and_the_fast_one_before_the_accurate_one() -> None:
    accurate = row(2, (0.50, 0.51, 0.52), speed=100)
    fast, calm = row(3, (0.49, 0.515, 0.51), speed=900), row(4, (0.495, 0.50, 0.53), speed=500)
    faster_and_worse = row(6, (0.30, 0.31, 0.32), speed=9000, failed=(0, 0))
    assert judge([accurate, fast, calm, faster_and_worse]).chosen is fast, "all failed once"
    shaky = row(3, (0.49, 0.515, 0.51), speed=900, failed=(0, 2))
    assert judge([accurate, shaky, calm, faster_and_worse]).chosen is shaky, "one failure more is none"
    shaky = row(3, (0.49, 0.515, 0.51), speed=900, failed=(0, 3))
    verdict = judge([accurate, shaky, calm, faster_and_worse])
    assert verdict.chosen is calm
    assert "3 of 4 variants could be the most accurate" in verdict.reason
    assert f"2 of these failed least often ({accurate.variant.name}, {calm.variant.name}: 1 of 9 trainings each)" in (
        verdict.reason
    )


def test_one_seed_says_that_it_tells_nothing() -> None:
    rows = [row(2, (0.9,)), row(4, (0.3,))]
    compared = compared_by("choose", rows)
    assert len(within_noise(rows, compared)) == 2 and not apart(rows, compared)
    told = judge(rows).noise
    assert told[0] == "With one seed there is no interval: any difference may be noise. Give three seeds or more."
    assert not any("told apart" in line or "Within noise" in line for line in told)


def test_what_is_not_above_guessing_is_said() -> None:
    guessing = row(6, (0.24, 0.25, 0.27))
    assert any("Not told from guessing: d6_h8_r4" in line for line in judge([row(2), guessing]).noise)
    assert not any("guessing" in line for line in judge([row(2), row(4)]).noise)
