"""Rules against what drawn webs plant: above their floors, and below them once a threshold is moved."""

import json
import socket
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from benchmarks import planted
from benchmarks.planted_floors import FLOORS, MARGIN, PAGE, fallen, page
from filters.base import Filter, Mask
from filters.bits import reasons_of
from filters.gibberish import Gibberish
from filters.policies import caption_quality
from filters.stops import moved
from filters.text import Captions
from filters.text.letter_pairs import likelihood
from filters.verdicts import give
from stages.planted import Counts, added, counts, judge_rules
from stages.sources.web_site import STRICT_DIRT, WEB_SOURCES, SiteSpec, plan_site

ROWS = dict.fromkeys(WEB_SOURCES, 1200)
RULES = caption_quality("laion_en").filters


@pytest.fixture(scope="module")
def web() -> dict[str, pa.Table]:
    """Return the captions of one web by source, and what was planted in them."""
    truth = plan_site(SiteSpec(seed=1, rows=ROWS))
    return {source: truth.filter(pc.equal(truth["source"], source)) for source in ROWS}


def judged(web: dict[str, pa.Table], rules: tuple[Filter, ...] = RULES) -> dict[str, Counts]:
    tables = []
    for truth in web.values():
        captions = truth["caption"].combine_chunks()
        codes = captions.dictionary_encode().indices.to_numpy()
        columns = {"caption": captions, "caption_frequency": np.bincount(codes)[codes].astype(np.float32)}
        reasons = give(rules, columns, len(captions)).reasons
        rows = [str(row).encode() for row in range(len(captions))]
        dirt = dict(zip(rows, map(set, truth["dirt"].to_pylist()), strict=True))
        seen = {row: set(reasons_of(int(mask))) for row, mask in zip(rows, reasons, strict=True)}
        tables.append(judge_rules(dirt, seen, [rule.reason for rule in rules]))
    return added(tables)


def test_the_caption_rules_are_above_their_floors_on_a_web(web: dict[str, pa.Table]) -> None:
    found = judged(web)
    assert fallen(found) == []
    assert all(found[rule]["planted"] > 10 for rule in STRICT_DIRT)


class OnlyLikely(Gibberish):
    """Gibberish that has forgotten mojibake, hexadecimal and words that nobody can speak."""

    def passes(self, captions: Captions) -> Mask:
        return likelihood(captions) >= np.float32(self.min_likelihood)


def broken(rule: Filter) -> tuple[Filter, ...]:
    """Return the rule with its threshold moved as far as stops go; further where planted dirt is plainer."""
    if isinstance(rule, Gibberish):
        return (OnlyLikely(),)
    ends = (99,) if rule.reason == "source_code" else (rule.stops[0], rule.stops[-1])
    return tuple(moved(rule, end) for end in ends)


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.reason in STRICT_DIRT], ids=lambda rule: rule.reason)
def test_a_broken_rule_falls_below_a_floor(web: dict[str, pa.Table], rule: Filter) -> None:
    sentences = [sentence for each in broken(rule) for sentence in fallen(judged(web, (each,)))]
    assert sentences and all(rule.reason in sentence for sentence in sentences)


def test_a_fall_is_told_with_its_numbers() -> None:
    table = {"gibberish": counts(planted=10, hits=8, right=8, found=8), "own": counts(0, 0, 0, 0)}
    assert fallen(table) == ["recall of gibberish is 0.8000 (8 of 10), its floor 0.97 and a margin of 0"]
    assert len(fallen({"own": counts(planted=0, hits=2, right=1, found=0)})) == 1


def test_the_published_webs_are_above_the_floors_by_the_margin_and_the_page_shows_them() -> None:
    result = json.loads(planted.RESULTS.read_text())
    assert list(result["seeds"]) == [str(seed) for seed in planted.SEEDS]
    for table in result["seeds"].values():
        assert fallen(table, MARGIN - 1e-9) == []
        assert set(FLOORS) <= set(table)
    assert PAGE.read_text() == page(result)


def test_a_web_is_not_served_any_longer_once_work_on_it_failed() -> None:
    with pytest.raises(ZeroDivisionError), planted.drawn_web(0, dict.fromkeys(WEB_SOURCES, 20)) as address:
        place = (urlsplit(address).hostname, urlsplit(address).port)
        socket.create_connection(place, timeout=5).close()
        raise ZeroDivisionError
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(place, timeout=5)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", planted.SEEDS)
def test_all_rules_are_above_their_floors_on_downloaded_webs(seed: int) -> None:
    assert fallen(planted.measure(seed)) == []
