"""What is an outage and what is only rot: a pure function of counts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.download_drift import MEMORY, MIN_BASELINE, UNWATCHED, Baseline, Jump, asked, judge, recovered
from stages.outcome import Outcome

ROTTEN = {"fetched": 700, "not_found": 200, "dns": 60, "timeout": 40}


def after(*parts: dict[str, int]) -> Baseline:
    found = Baseline()
    for part in parts:
        found = found.learn(part)
    return found


def test_a_part_like_the_others_is_fine() -> None:
    assert judge(after(ROTTEN, ROTTEN), ROTTEN) is None
    assert judge(after(ROTTEN), {"fetched": 65, "not_found": 25, "dns": 10}) is None


def test_a_resolver_that_fails_is_told_from_what_to_what() -> None:
    jump = judge(after(ROTTEN, ROTTEN), {"fetched": 20, "dns": 970, "not_found": 10})
    assert jump is not None and jump.outcome == "dns" and jump.urls == 1000
    assert jump.before == pytest.approx(0.06, abs=0.002) and jump.now == 0.97
    assert str(jump) == "dns is 97.0 % of 1,000 urls, 6.0 % before"


@pytest.mark.parametrize("outcome", sorted(set(Outcome) - UNWATCHED))
def test_every_outcome_of_the_network_is_watched(outcome: str) -> None:
    jump = judge(after(ROTTEN), {"fetched": 400, outcome: 600})
    assert jump is not None and jump.outcome == outcome


@pytest.mark.parametrize("outcome", sorted(UNWATCHED))
def test_what_the_list_decides_is_no_outage(outcome: str) -> None:
    assert judge(after(ROTTEN), {"fetched": 100, outcome: 900}) is None
    assert judge(Baseline(), {"fetched": 10, outcome: 900}) is None


def test_rows_that_the_list_decides_do_not_thin_an_outage_out() -> None:
    """900 blocked rows beside 100 that were asked for: the share is one of those that were asked for."""
    jump = judge(after(ROTTEN), {"blocked": 900, "dns": 95, "fetched": 5})
    assert jump is not None and jump.now == 0.95 and jump.urls == 100


def test_without_a_baseline_only_being_cut_off_counts() -> None:
    for outcome in ("dns", "connect"):
        jump = judge(Baseline(), {"fetched": 24, outcome: 26})
        assert jump is not None and jump.before is None and "no part before" in str(jump)
        assert judge(Baseline(), {"fetched": 25, outcome: 25}) is None, "half is not more than half"
        assert judge(Baseline(), {"fetched": 1, outcome: 48}) is None, "49 urls are too few"
    assert judge(Baseline(), {"not_found": 500, "fetched": 1}) is None


def test_a_list_that_is_always_cut_off_is_not_paused_for_it() -> None:
    dead = {"dns": 600, "fetched": 400}
    assert judge(after(dead, dead), dead) is None


def test_few_urls_say_little() -> None:
    assert judge(after(ROTTEN), {"dns": 19}) is None
    assert judge(after(ROTTEN), {"dns": 20}) is not None


def test_a_jump_must_be_both_large_and_unlikely() -> None:
    thousands = {"fetched": 99_000, "timeout": 1_000}
    assert judge(after(thousands), {"fetched": 95_000, "timeout": 5_000}) is None, "unlikely, and small"
    assert judge(after(thousands), {"fetched": 85_000, "timeout": 15_000}) is not None
    assert judge(after(ROTTEN), {"fetched": 16, "not_found": 4, "timeout": 4, "dns": 1}) is None, "large, and likely"


def test_the_worst_of_several_jumps_is_named() -> None:
    jump = judge(after(ROTTEN), {"fetched": 100, "timeout": 300, "connect": 600})
    assert jump is not None and jump.outcome == "connect"


def test_getting_better_is_no_jump() -> None:
    assert judge(after(ROTTEN), {"fetched": 1000}) is None


def test_old_parts_fade() -> None:
    baseline = after({"dns": 1000}, *[{"fetched": 1000}] * 60)
    assert baseline.share("dns") < 0.003 and baseline.urls <= 1000 / (1 - MEMORY)
    assert judge(baseline, {"fetched": 500, "dns": 500}) is not None


def test_a_web_that_really_is_so_becomes_the_baseline_at_once() -> None:
    dead = {"dns": 60, "fetched": 2}
    baseline = Baseline.at(dead)
    assert MIN_BASELINE < baseline.urls < 1.1 * MIN_BASELINE and judge(baseline, dead) is None


def test_chance_alone_raises_no_alarm() -> None:
    """A thousand parts of a web that does not change: not one of them is called an outage."""
    draw = np.random.default_rng(7)
    names, shares = list(ROTTEN), np.array(list(ROTTEN.values())) / sum(ROTTEN.values())
    for size in (25, 60, 1000):
        baseline = Baseline()
        for counts in draw.multinomial(size, shares, 400):
            part = dict(zip(names, map(int, counts), strict=True))
            assert judge(baseline, part) is None
            baseline = baseline.learn(part)


def test_an_outage_is_seen_within_one_part() -> None:
    draw = np.random.default_rng(8)
    baseline = after(*[ROTTEN] * 3)
    for size in (30, 100, 1000):
        for _ in range(50):
            failed = int(draw.binomial(size, 0.9))
            assert judge(baseline, {"fetched": size - failed, "dns": failed}) is not None


COUNTS = st.dictionaries(st.sampled_from(sorted(Outcome)), st.integers(0, 5000), max_size=8)


@given(COUNTS, st.lists(COUNTS, max_size=5))
def test_any_counts_are_judged(counts: dict[str, int], parts: list[dict[str, int]]) -> None:
    baseline = after(*parts)
    jump = judge(baseline, counts)
    assert jump == judge(baseline, dict(reversed(counts.items()))), "the order of counts is nothing"
    if jump is not None:
        assert 0 < jump.now <= 1 and jump.outcome not in UNWATCHED and jump.urls == asked(counts)
        assert jump.before is None or 0 < jump.before < jump.now


@pytest.mark.parametrize(
    ("worked", "others", "over"),
    [
        ({"fetched": 8}, {"dns": 8}, True),  # what always failed may go on failing
        ({"fetched": 6, "dns": 2}, {}, True),
        ({"fetched": 5, "dns": 3}, {}, False),
        ({"dns": 8}, {"fetched": 8}, False),
        ({"connect": 8}, {}, False),  # another outage in its place
        ({}, {"dns": 8}, False),
        ({}, {"dns": 4, "fetched": 4}, False),
        ({}, {"dns": 3, "fetched": 5}, True),
    ],
)
def test_a_canary_decides_by_what_worked_before(worked: dict[str, int], others: dict[str, int], over: bool) -> None:
    assert recovered("dns", worked, others) is over


def test_a_jump_is_said_without_a_past_too() -> None:
    assert str(Jump("connect", None, 0.8, 60)) == "connect is 80.0 % of 60 urls, no part before it to compare with"
