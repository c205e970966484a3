"""How many stops a row passes is what the rule itself says at each of them, also where captions are strange."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.base import CaptionFilter
from filters.catalogue import FILTERS
from filters.digits import judge_with_cube
from filters.keyword_stuffing import KeywordStuffing
from filters.policies import caption_quality
from filters.stops import movable, moved, passed, stops_of
from filters.text.captions import Batch

REAL = Path(__file__).parents[3] / "shared" / "data" / "web-alt-text.parquet"
RULES = movable([each() for each in FILTERS.values() if issubclass(each, CaptionFilter)])
PIECES = (
    "LAW/BBA", " / ", "/", ", ", ",", " | ", "1,400", "2017", "http://a.example/b,c", "www.b.example/,", "and ",
    "red ", "KIDS", "running", "the ", "#sale ", "老人", "、", "。", "-", ".", "...", "(", " ",
)  # fmt: skip


def contradicted(captions: list[str]) -> list[tuple[str, float, str]]:
    """Return each rule, stop and caption where digits and rule disagree."""
    batch = Batch({"caption": pa.array(captions, pa.string())}, len(captions))
    found = []
    for rule in RULES:
        stops = stops_of(rule)
        digits = passed(rule, stops, batch)
        for number, stop in enumerate(stops):
            wrong = (digits > number) != moved(rule, stop).keep(batch)
            found += [(rule.reason, stop, captions[row]) for row in np.flatnonzero(wrong)]
    return found


@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=20).map("".join), min_size=1, max_size=8))
@settings(max_examples=30, deadline=None)
def test_digits_are_what_rules_say_at_every_stop(captions: list[str]) -> None:
    assert contradicted(captions) == []


def test_a_slash_inside_a_word_is_no_separator_at_any_stop() -> None:
    # Six separators, three of which separate nothing: a measure of six would contradict the rule at 4, 5 and 6.
    caption = "LAW/BBA / CLASS 12 KIDS / CLAT/BBA / BTECH"
    assert contradicted([caption]) == []
    for least, kept in ((3, False), (4, True), (6, True)):
        rule = KeywordStuffing(min_separators=least)
        assert rule.keep({"caption": pa.array([caption])}).tolist() == [kept]
    assert KeywordStuffing().measure({"caption": pa.array([caption, "a, b, c", "1,400 and/or, 2"])}).tolist() == [
        3,
        2,
        1,
    ]


def test_a_measure_that_contradicts_its_rule_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KeywordStuffing, "measured", lambda rule, captions: captions.length.astype(np.float32))
    assert {rule for rule, _, _ in contradicted(["LAW/BBA / CLASS 12 KIDS / CLAT/BBA / BTECH"])} == {
        "keyword_stuffing"
    }


@pytest.mark.skipif(not REAL.exists(), reason=f"the real captions are not at {REAL}")
def test_all_real_captions_are_judged_with_their_cube() -> None:
    captions = pq.read_table(REAL, columns=["caption"])["caption"].combine_chunks()
    ones = np.ones(len(captions), dtype=np.float32)
    rules = caption_quality("laion_en").filters
    reasons, funnel, cube = judge_with_cube(rules, {"caption": captions, "caption_frequency": ones}, len(captions))
    assert cube.samples() == len(captions) and cube.kept() == funnel.kept == int((reasons == 0).sum()) > 0
