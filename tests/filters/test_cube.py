"""What the cube says is kept is what the filters keep, at every combination of stops; parts add up to the whole."""

import json
import time
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from random_rows import ALL, rows, some

from filters import cells as cells_of_cubes
from filters import cube as cubes
from filters.base import Filter
from filters.bits import BITS
from filters.catalogue import FILTERS
from filters.cells import Cells, Counted, coarsenings
from filters.cube import Cube, cube_of, total
from filters.digits import judge_with_cube
from filters.funnel import _EDGES, judge
from filters.policies import caption_quality, clean
from filters.stops import MOST_STOPS, current_of, movable, moved, stops_of

STRICT, LIGHT = caption_quality("laion_en").filters, clean().filters
ROWS = 400


def some_settings(cube: Cube, rng: np.random.Generator) -> dict[str, int]:
    rules = [rule for rule in cube.rules if rng.random() < 0.4]
    return {rule: int(rng.integers(len(cube.stops[rule]))) for rule in rules}


@pytest.mark.parametrize("filters", [STRICT, LIGHT, ALL], ids=["strict", "light", "all"])
def test_any_combination_of_stops_is_what_the_filters_keep(filters: tuple[Filter, ...]) -> None:
    columns = rows(0, ROWS)
    _, funnel, cube = judge_with_cube(filters, columns, ROWS)
    assert cube.samples() == ROWS and cube.kept() == funnel.kept
    assert cube.kept_by_group() == {name: kept for name, (_, kept) in funnel.languages.items()}
    languages = np.array([name or "unknown" for name in columns["language"].to_pylist()])
    keeps = {rule.reason: [moved(rule, stop).keep(columns) for stop in stops_of(rule)] for rule in movable(filters)}
    fixed = np.ones(ROWS, dtype=bool)
    for rule in filters:
        if rule.reason not in keeps:
            fixed &= rule.keep(columns)
    rng, seen = np.random.default_rng(1), set()
    for _ in range(300):
        settings = some_settings(cube, rng)
        kept = fixed.copy()
        for rule in cube.rules:
            kept &= keeps[rule][settings.get(rule, cube.current[rule])]
        assert cube.kept(settings) == kept.sum()
        by_group = cube.kept_by_group(settings)
        assert by_group == {name: int(kept[languages == name].sum()) for name in by_group}
        seen.add(int(kept.sum()))
    assert len(seen) > 3  # the settings made a difference


@pytest.mark.parametrize("most", [30_000, 150, 7])
def test_cubes_of_parts_add_up_to_that_of_the_whole_in_any_order(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cubes, "CELLS", most)
    columns = rows(2, ROWS)
    _, _, whole = judge_with_cube(LIGHT, columns, ROWS)
    bounds = [0, 0, 40, 230, 231, ROWS]
    pieces = [judge_with_cube(LIGHT, some(columns, np.arange(a, b)), b - a)[2] for a, b in pairwise(bounds)]
    a, b, c, d, e = pieces
    monkeypatch.setattr(cells_of_cubes, "ADDED_AT_ONCE", 2)
    assert total(pieces) == total(reversed(pieces)) == whole == (e + (b + a)) + (d + c) + Cube()
    assert whole.samples() == ROWS
    assert sum(map(len, whole.cells.values())) <= most
    assert bool(whole.dropped_stops) == (most < 30_000)
    assert Cube.model_validate_json(json.dumps(whole.model_dump(mode="json"), sort_keys=True)) == whole


def test_stops_are_given_up_and_rows_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = rows(3, ROWS)
    _, funnel, whole = judge_with_cube(STRICT, columns, ROWS)
    monkeypatch.setattr(cubes, "CELLS", 40)
    _, _, small = judge_with_cube(STRICT, columns, ROWS)
    assert small.dropped_stops and small.declared == whole.declared
    assert small.samples() == ROWS and small.kept() == funnel.kept
    rng = np.random.default_rng(0)
    for _ in range(100):
        settings = some_settings(small, rng)
        same = {rule: whole.stops[rule].index(small.stops[rule][at]) for rule, at in settings.items()}
        assert small.kept(settings) == whole.kept(same)
    assert all(small.stops[rule][small.current[rule]] == whole.thresholds[rule] for rule in small.rules)


def test_languages_become_one_source_without_losing_a_row() -> None:
    _, _, cube = judge_with_cube(LIGHT, rows(4, ROWS), ROWS)
    source = cube.regrouped("laion_en")
    assert source.groups == ["laion_en"] and source.samples() == ROWS
    settings = some_settings(cube, np.random.default_rng(5))
    assert source.kept(settings) == cube.kept(settings)
    other = judge_with_cube(LIGHT, rows(6, ROWS), ROWS)[2].regrouped("coyo")
    both = source + other
    assert both.groups == ["coyo", "laion_en"]
    assert both.kept_by_group(settings) == {"laion_en": source.kept(settings), "coyo": other.kept(settings)}


def test_a_cube_does_not_depend_on_the_order_of_rows_or_rules() -> None:
    columns, order = rows(7, ROWS), np.random.default_rng(0).permutation(ROWS)
    reasons, funnel, cube = judge_with_cube(ALL, columns, ROWS)
    shuffled = judge_with_cube(tuple(reversed(ALL)), some(columns, order), ROWS)
    assert (shuffled[0] == reasons[order]).all() and shuffled[1:] == (funnel, cube)
    plain, same = judge(ALL, columns, ROWS)
    assert (plain == reasons).all() and same == funnel


def test_cubes_of_other_thresholds_are_not_added() -> None:
    columns = rows(8, 20)
    one = judge_with_cube(clean().filters, columns, 20)[2]
    with pytest.raises(ValueError, match="different rules or thresholds"):
        one + judge_with_cube(clean(min_similarity=0.3).filters, columns, 20)[2]
    with pytest.raises(ValueError, match="different rules or thresholds"):
        one + judge_with_cube(STRICT, columns, 20)[2]


def test_stops_that_are_not_there_are_refused() -> None:
    cube = judge_with_cube(LIGHT, rows(9, 20), 20)[2]
    for settings in ({"aspect": 99}, {"aspect": -1}, {"sparkle": 0}):
        with pytest.raises(ValueError, match="no stop"):
            cube.kept(settings)
    assert cube.stop("aspect", 5) == cube.current["aspect"] and cube.stop("aspect", 5.5) is None
    assert cube.stop("sparkle", 5) is None


def test_no_rows_and_no_rules() -> None:
    empty = judge_with_cube(LIGHT, {}, 0)[2]
    assert empty.samples() == empty.kept() == 0 and empty.stops
    exempt = judge_with_cube((), rows(10, 30), 30)[2]
    assert exempt.kept() == exempt.samples() == 30 and (exempt + exempt).kept() == 60


@pytest.mark.parametrize("reason", FILTERS)
def test_stops_are_few_ordered_and_within_the_histogram(reason: str) -> None:
    rule = FILTERS[reason]()
    assert bool(rule.stops) == bool(rule.threshold)
    if not rule.stops:
        return
    assert len(rule.stops) < MOST_STOPS
    assert list(rule.stops) == sorted(set(rule.stops), reverse=rule.stops[0] > rule.stops[-1])
    stops = stops_of(moved(rule, rule.stops[1]))
    assert len(stops) <= MOST_STOPS and set(rule.stops) <= set(stops)
    assert current_of(rule) in stops_of(rule)
    if reason in _EDGES:
        low, high = _EDGES[reason]
        assert all(low <= stop <= high for stop in rule.stops)
    for stop in rule.stops:
        type(rule).model_validate({rule.threshold: stop})  # what is offered can be applied


def test_too_many_stops_lose_the_farthest() -> None:
    class Many(type(ALL[0])):  # type: ignore[misc]
        stops = tuple(float(n) / 100 for n in range(40))

    assert stops_of(Many(min_similarity=0.05)) == tuple(float(n) / 100 for n in range(15))
    assert 0.39 in stops_of(Many(min_similarity=0.39)) and len(stops_of(Many(min_similarity=0.2))) == MOST_STOPS


def test_a_filter_whose_stops_contradict_it_is_named() -> None:
    class Contrary(type(FILTERS["source_code"]())):  # type: ignore[misc]
        on_threshold_is_kept = True

    captions = pa.array(["<div>x</div> {a:1}; function(x) { return 1; }", "A dog in the park"] * 3)
    with pytest.raises(ValueError, match="filter source_code: its stops"):
        for kinds in (1, 2, 3, 4):
            judge_with_cube((Contrary(min_kinds=kinds),), {"caption": captions}, 6)


def test_thirty_thousand_cells_answer_in_far_less_than_a_second() -> None:
    rng = np.random.default_rng(0)
    rules = [f"rule_{letter}" for letter in "abcdefghi"]
    stops = {rule: tuple(float(n) for n in range(15)) for rule in rules}
    digits = np.unique(rng.integers(1, 16, (31_000, 9)).astype(np.uint8), axis=0)[:30_000]
    counts = rng.integers(1, 10**7, len(digits))
    cells = Cells(rng.integers(0, 12, len(digits)), digits, counts)
    names = [f"l{n:02}" for n in range(12)]
    made = cube_of(Counted(stops, dict.fromkeys(rules, 7.0), stops, names, cells, np.zeros(12, dtype=np.int64)))
    text = made.model_dump_json()
    started = time.perf_counter()
    cube = Cube.model_validate_json(text)
    kept = cube.kept({"rule_a": 3})
    assert time.perf_counter() - started < 1
    at = np.array([3, *[7] * 8])
    assert kept == counts[(digits > at).all(axis=1)].sum()


def test_more_groups_than_cells_are_allowed_lose_all_stops_and_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cubes, "CELLS", 2)
    _, funnel, cube = judge_with_cube(LIGHT, rows(11, ROWS), ROWS)
    assert cube.samples() == ROWS and cube.kept() == funnel.kept and len(cube.groups) > 2
    assert all(len(stops) == 1 for stops in cube.stops.values())


def test_stops_go_in_one_order_those_that_people_move_most_last() -> None:
    cube = judge_with_cube(STRICT, rows(12, 20), 20)[2]
    ladder = coarsenings(cube.declared, cube.thresholds)
    for before, after in pairwise(ladder):
        assert all(set(after[rule]) <= set(before[rule]) for rule in cube.rules)
        assert all(cube.thresholds[rule] in after[rule] for rule in cube.rules)
    first = [next(at for at, step in enumerate(ladder) if step[rule] != cube.declared[rule]) for rule in cube.rules]
    assert [rule for _, rule in sorted(zip(first, cube.rules, strict=True))] == sorted(
        cube.rules, key=lambda rule: -BITS[rule]
    )
    assert set(ladder[-1].values()) == {(threshold,) for threshold in cube.thresholds.values()}
