"""Rules against what drawn webs plant: above their floors, and below them once a threshold is moved."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from benchmarks import planted
from benchmarks.planted_floors import FLOORS, MARGIN, PAGE, fallen, page
from filters.base import Filter
from filters.bits import reasons_of
from filters.policies import caption_quality
from filters.stops import moved
from filters.verdicts import give
from stages.planted import Counts, added, counts, judge_rules
from stages.sources.web_site import STRICT_DIRT, WEB_SOURCES, SiteSpec, plan_site

ROWS = dict.fromkeys(WEB_SOURCES, 1200)
# Planted noise and code are so plain that no stop misses them.
FARTHER = {"gibberish": 0.0, "source_code": 99}
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


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.reason in STRICT_DIRT], ids=lambda rule: rule.reason)
def test_a_moved_threshold_falls_below_a_floor(web: dict[str, pa.Table], rule: Filter) -> None:
    ends = (FARTHER[rule.reason],) if rule.reason in FARTHER else (rule.stops[0], rule.stops[-1])
    sentences = [sentence for stop in ends for sentence in fallen(judged(web, (moved(rule, stop),)))]
    assert sentences and all(rule.reason in sentence for sentence in sentences)


def test_a_fall_is_told_with_its_numbers() -> None:
    table = {"gibberish": counts(planted=10, hits=8, right=8, found=8), "own": counts(0, 0, 0, 0)}
    assert fallen(table) == ["recall of gibberish is 0.8000 (8 of 10), its floor 0.97 and a margin of 0"]
    assert len(fallen({"own": counts(planted=0, hits=2, right=1, found=0)})) == 1


def test_the_published_webs_are_above_the_floors_by_the_margin_and_the_page_shows_them() -> None:
    result = json.loads(planted.RESULTS.read_text())
    assert len(result["seeds"]) == 3
    for table in result["seeds"].values():
        assert fallen(table, MARGIN - 1e-9) == []
        assert set(FLOORS) <= set(table)
    assert PAGE.read_text() == page(result)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", planted.SEEDS)
def test_all_rules_are_above_their_floors_on_downloaded_webs(seed: int) -> None:
    assert fallen(planted.measure(seed)) == []
