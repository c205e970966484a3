"""What the page concludes: targets and their intervals, alarms, languages, proposals, rules, and how rows add up."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_pages import judged

from filters.bits import BITS
from filters.cube import Cube
from filters.funnel import PAPER, Funnel, Histogram
from filters.policies import Policy, caption_quality, clean
from filters.stops import moved, stops_of
from filters.verdicts import give
from stages.filter_report import summary
from stages.report import paper as paper_module
from stages.report import rules
from stages.report.applying import Applying
from stages.report.hosts import ranked
from stages.report.languages import is_alarm, tone, unfair
from stages.report.languages import table as language_table
from stages.report.paper import State, is_pilot, rounding, target
from stages.report.rows import SourceRows
from stages.report.statistics import ratio_interval, wilson
from stages.report.svg import histogram
from stages.report.text import with_unit
from stages.report.verdict import judge
from stages.report.what_if import MOST_CELLS, best_step, payload, tunable

MILLION = 1_000_000


def source(name: str, kept: int, judged_rows: int, policy: Policy | None = None, **more: Any) -> SourceRows:
    policy = policy or caption_quality(name)
    dropped = 1 << BITS[policy.filters[0].reason] if policy.filters else 1
    funnel = Funnel(masks={0: kept, dropped: judged_rows - kept})
    listed = more.pop("listed", judged_rows)
    return SourceRows(name, policy, funnel, listed, more.pop("decodable", judged_rows), **more)


def test_wilson_agrees_with_the_textbook_and_covers_the_edges() -> None:
    low, high = wilson(11, 120)
    assert (round(low, 3), round(high, 3)) == (0.052, 0.157)
    assert wilson(0, 0) == (0.0, 1.0) and wilson(0, 10)[0] == 0.0 and wilson(10, 10)[1] == pytest.approx(1)


@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 400), st.integers(1, 400))
def test_a_ratio_lies_in_its_interval(hits: int, rows: int, all_hits: int, all_rows: int) -> None:
    if hits <= rows and all_hits <= all_rows:
        low, high = ratio_interval(hits, rows, all_hits, all_rows)
        assert low <= hits / rows / (all_hits / all_rows) <= high * (1 + 1e-9)
    assert ratio_interval(0, rows, all_hits, all_rows) == (0.0, math.inf)


def test_rounded_digits_allow_what_they_allow() -> None:
    low, high = rounding("laion_en", 2, 1)
    assert (round(low, 4), round(high, 4)) == (0.0465, 0.0473)
    assert rounding("sbu", 1, 0)[0] == pytest.approx(0.95 / 1.05) and rounding("sbu", 1, 0)[1] == 1.0
    assert set(paper_module.PRINTED) == set(PAPER)


@pytest.mark.parametrize(
    ("share", "state"), [(0.0469, State.OK), (0.0503, State.OFF), (0.0435, State.OFF), (0.0500, State.OK)]
)
def test_a_census_is_on_target_within_the_band(share: float, state: State) -> None:
    rows = 2_000 * MILLION
    found = target(source("laion_en", int(share * rows), rows, listed=2_300 * MILLION, decodable=rows))
    assert found is not None and found.state is state and found.interval is None


@pytest.mark.parametrize(("rows", "state"), [(100, State.UNSURE), (200_000, State.OK)])
def test_a_pilot_says_only_what_its_interval_allows(rows: int, state: State) -> None:
    rows_of = source("coyo", int(0.374 * rows), rows)
    found = target(rows_of)
    assert is_pilot(rows_of) and found is not None and found.interval is not None and found.state is state


def test_clean_is_held_against_a_bound_and_link_rot_is_no_fault_of_it() -> None:
    rot = source("coyo", 390, 400, clean(), listed=1000, decodable=400, outcomes={"fetched": 400, "gone": 600})
    found = target(rot)
    assert found is not None and found.distance is None and found.state is State.OK
    verdict = judge([rot])
    assert verdict.state == "ready with 1 warning"
    assert "60.0 points were never fetched, the clean rules took 1.0" in verdict.alarms[0].sentence
    strict = target(source("coyo", 200, 400, clean(), listed=400, decodable=400))
    assert strict is not None and strict.state is State.OFF


def test_exempt_sources_keep_exactly_all() -> None:
    rows = SourceRows("cc3m", caption_quality("cc3m"), Funnel(masks={0: 1000}), 1000, 1000)
    found = target(rows)
    assert found is not None and found.state is State.OK
    lost = SourceRows(
        "cc3m", caption_quality("laion_en"), Funnel(masks={0: 999, 1 << BITS["gibberish"]: 1}), 1000, 1000
    )
    verdict = judge([lost])
    assert verdict.state == "hold" and "exactly 100 %" in verdict.alarms[0].sentence


def test_the_worst_alarm_makes_the_title_and_nothing_is_ready_without_rows() -> None:
    off = source("coyo", 900, 1000)
    on = source("laion_multi", 5348, 100_000)
    verdict = judge([off, on])
    assert (verdict.state, verdict.title) == ("hold", "1 of 2 sources is off target")
    assert "COYO keeps 90.0 % of clean rows; the paper keeps 37.4 %" in verdict.alarms[0].sentence
    assert judge([source("own", 50, 100)]).title == "50.0 % of rows judged are kept"
    assert "Nothing was fetched" in judge([source("own", 0, 0)]).next_move
    # What is drawn by us need not resemble the paper's sources.
    assert judge([off, on], drawn=True).state == "ready"


def test_signals_that_were_not_computed_are_a_warning() -> None:
    policy = clean()
    rows = SourceRows("own", policy, Funnel(masks={0: 100}, unknown={"aesthetic": 6, "unsafe": 5}), 100, 100)
    assert [each.sentence for each in judge([rows]).alarms] == [
        "aesthetic was not computed for 6.0 % of own (6 rows)."
    ]


@pytest.mark.parametrize(
    ("hits", "rows", "alarm"),
    [(8, 40, True), (7, 35, False), (30, 500, True), (8, 133, False), (20, 500, False)],
)
def test_a_language_is_an_alarm_above_three_times_with_hits_and_an_interval(
    hits: int, rows: int, alarm: bool
) -> None:
    assert is_alarm(hits, rows, 1600, 100_000) is alarm


def test_unfair_rules_are_found_and_small_languages_carry_no_alarm() -> None:
    bit = 1 << BITS["digit_share"]
    languages = {"en": {0: 9_900, bit: 100}, "zh": {0: 80, bit: 20}, "xx": {bit: 40}, "unknown": {0: 10, bit: 90}}
    funnel = Funnel(masks={0: 9_990, bit: 250})
    rows = SourceRows("own", caption_quality("laion_en"), funnel, 10_240, 10_240, languages=languages)
    assert [(each.language, each.rule) for each in unfair(rows)] == [("zh", "digit_share")]
    verdict = judge([rows])
    assert verdict.state == "hold" and "digit_share drops captions in zh" in verdict.alarms[0].sentence
    table = language_table(rows)
    assert table is not None
    assert [line["name"] for line in table["lines"]] == ["en", "unknown", "zh", "1 others, pooled"]
    assert [cell["alarm"] for line in table["lines"] for cell in line["cells"]] == [False, False, True, False]
    assert [tone(ratio) for ratio in (0.1, 0.6, 1.0, 1.7, 2.5, 9.0)] == ["down2", "down1", "t0", "up1", "up2", "up3"]


@given(st.dictionaries(st.integers(0, 7), st.integers(1, 50), min_size=1, max_size=8))
def test_alone_first_and_total_are_in_order_and_the_diagonal_is_alone(masks: dict[int, int]) -> None:
    policy = Policy(name="caption_quality", filters=caption_quality("coyo").filters[:3])
    names = [rule.reason for rule in policy.filters]
    real = {sum(1 << BITS[names[bit]] for bit in range(3) if mask >> bit & 1): rows for mask, rows in masks.items()}
    funnel = Funnel(masks=real)
    found = rules.counted(real, names)
    assert all(alone <= first <= total for total, alone, first in found.values())
    assert sum(first for _, _, first in found.values()) == funnel.samples - funnel.kept
    order, lines = rules.matrix(policy, funnel)
    for name, line in zip(order, lines, strict=True):
        (own,) = [cell["percent"] for cell in line["cells"] if cell["alone"]]
        assert own == f"{100 * funnel.alone(name) / funnel.total(name):.0f}"


def test_the_proposed_step_is_what_judging_anew_gives() -> None:
    found = judged(800)
    share = found.funnel.kept / found.funnel.samples
    reason = "length_units"
    rule = next(each for each in found.policy.filters if each.reason == reason)
    stop = stops_of(rule)[found.cube.current[reason] + 2]
    aim = found.cube.kept({reason: found.cube.current[reason] + 2}) / 800
    assert aim < share
    PAPER["drawn"] = (1.0, 1.0, aim)
    try:
        rows = SourceRows("drawn", found.policy, found.funnel, 800, 800, cube=found.cube)
        step = best_step(rows)
        assert step is not None and abs(step.distance) <= 0.07
        changed = next(each for each in found.policy.filters if each.reason == step.rule)
        others = [each for each in found.policy.filters if each.reason != step.rule]
        verdicts = give([*others, moved(changed, step.threshold)], found.columns, 800)
        assert step.share == pytest.approx(float(np.mean(verdicts.reasons == 0)))
        assert stop in stops_of(rule)
    finally:
        del PAPER["drawn"]


def test_a_source_off_target_is_proposed_a_whole_command_and_an_unsure_one_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = judged(800)
    fewer = found.cube.kept({"length_units": found.cube.current["length_units"] + 2}) / 800
    standing = "policy.gibberish.max_share=0.5"
    rows = SourceRows("drawn", found.policy, found.funnel, 800, 800, cube=found.cube)
    monkeypatch.setitem(paper_module.PRINTED, "drawn", ("1e3", "1e3", "1e2"))
    told = {}
    # All rows that there are, and few of many; millions of them are listed in the paper.
    for state, listed, aim in ((State.OFF, 0.001, fewer), (State.UNSURE, 1.0, 0.94 * found.funnel.kept / 800)):
        monkeypatch.setitem(PAPER, "drawn", (listed, 1.0, aim))
        verdict = judge([rows])
        assert [each.state for each in verdict.targets] == [state]
        assert len(verdict.proposals) == (state is State.OFF)
        applying = Applying("tiny", "tiny", (standing,))
        told[state] = summary(
            "drawn", found.policy, found.funnel, 800, 800, cube=found.cube, version="v", applying=applying
        )
    start = f"internvl rerun filter --recipe tiny --source drawn --set {standing} --set policy."
    assert start in told[State.OFF] and " --new-version v-tuned\n" in told[State.OFF]
    assert "internvl rerun" not in told[State.UNSURE]


def test_hosts_that_lose_most_come_first_and_small_ones_are_one_line() -> None:
    counts = {f"h{n}": {"fetched": 100, "gone": n} for n in range(12)} | {"small": {"dns": 3}, "tiny": {"fetched": 2}}
    found = ranked(counts)
    assert [host.name for host in found] == [*(f"h{n}" for n in range(11, 3, -1)), "2 hosts with fewer than 100 rows"]
    assert (found[0].rows, found[0].fetched, found[0].worst, found[0].worst_rows) == (111, 100, "gone", 11)
    assert (found[-1].rows, found[-1].fetched, found[-1].worst) == (5, 2, "dns")


def test_cubes_that_are_too_large_for_one_page_are_left_to_their_own() -> None:
    found = judged(60)
    rules_of, up = found.cube.rules, str.maketrans("01234567", "12345678")
    many = Cube(
        stops=found.cube.stops,
        current=found.cube.current,
        declared=found.cube.declared,
        # No digit is 0, or the row would be no cell.
        cells={"en": {f"{n:0{len(rules_of)}o}".translate(up): 1 for n in range(MOST_CELLS)}},
    )
    large = SourceRows("coyo", found.policy, found.funnel, 60, 60, cube=many)
    small = SourceRows("laion_en", found.policy, found.funnel, 60, 60, cube=found.cube)
    fit, left = tunable([small, large])
    assert ([each.source for each in fit], [each.source for each in left]) == (["laion_en"], ["coyo"])
    told = payload(fit, True, 0.07, "tiny-tuned", {})["sources"][0]
    assert sum(int(rows) for rows in told["groups"][0]["cells"].split()[1::2]) + told["groups"][0]["fixed"] == 60


def test_a_drawn_source_is_never_titled_by_the_papers_share() -> None:
    bit = 1 << BITS["digit_share"]
    languages = {"en": {0: 9_900, bit: 100}, "zh": {0: 80, bit: 20}}
    funnel = Funnel(samples=10_100, kept=9_980, masks={0: 9_980, bit: 120})
    rows = SourceRows("laion_en", caption_quality("laion_en"), funnel, 10_100, 10_100, languages=languages)
    assert judge([rows]).title == "LAION-en is off target"
    assert judge([rows], drawn=True).title == "digit_share hits some languages much harder than others"


@pytest.mark.parametrize(
    ("threshold", "at_least", "whole", "kept", "good"),
    [
        (0, False, True, True, [True, False, False, False]),  # "at most no listed word" keeps what has none
        (2, False, True, True, [True, True, True, False]),
        (2, False, True, False, [True, True, False, False]),
        (2, True, True, True, [False, False, True, True]),
        (2, True, True, False, [False, False, False, True]),
        (1.4, False, False, True, [True, False, False, False]),
        (1.6, True, False, True, [False, False, True, True]),
    ],
)
def test_bars_have_the_colour_of_what_lies_in_them(
    threshold: float, at_least: bool, whole: bool, kept: bool, good: list[bool]
) -> None:
    found = Histogram(low=0, high=4, all=(5, 6, 7, 8), others_keep=(0, 0, 0, 0))
    drawn = str(histogram(found, threshold, at_least, "words", whole, kept))
    classes = [part.split('"')[0] for part in drawn.split('<rect class="')[1:]]
    assert classes == ["kept" if each else "lost" for each in good]


def test_a_rule_that_allows_no_word_is_not_drawn_as_if_it_dropped_all() -> None:
    found = judged(400)
    row = next(row for row in rules.table(found.policy, found.funnel, []) if row["reason"] == "offensive")
    assert '<rect class="kept" x="0.0"' in str(row["histogram"])


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [(1, "units", "1 unit"), (2, "units", "2 units"), (1, "cosine", "1 cosine"), (0, "rows", "0 rows"), (1, "", "1")],
)
def test_one_is_no_plural(value: float, unit: str, words: str) -> None:
    assert with_unit(value, unit) == words
