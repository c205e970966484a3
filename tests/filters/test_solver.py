"""The solver's answer is the best of all combinations, counted by the filters themselves."""

from itertools import product

import numpy as np
import pytest
from random_rows import rows

from filters.cube import Cube
from filters.digits import judge_with_cube
from filters.policies import caption_quality, clean
from filters.solver import counts_of, propose, rules_to_move
from filters.stops import moved

ROWS = 500
MOVED = ["length_units", "completeness"]


@pytest.fixture(scope="module")
def cube() -> Cube:
    return judge_with_cube(caption_quality("laion_en").filters, rows(0, ROWS), ROWS)[2]


def test_counts_are_what_the_filters_keep_at_every_combination(cube: Cube) -> None:
    columns, policy = rows(0, ROWS), caption_quality("laion_en").filters
    counts = counts_of(cube, MOVED)
    by_name = {rule.reason: rule for rule in policy}
    others = np.all([rule.keep(columns) for rule in policy if rule.reason not in MOVED], axis=0)
    keeps = [[moved(by_name[rule], stop).keep(columns) for stop in cube.stops[rule]] for rule in MOVED]
    for i, j in product(range(counts.shape[0]), range(counts.shape[1])):
        assert counts[i, j] == (others & keeps[0][i] & keeps[1][j]).sum()
    assert len(set(counts.ravel().tolist())) > 10


@pytest.mark.parametrize("goal", [0, 3, 40, 90, 120, ROWS])
@pytest.mark.parametrize("at_most", [False, True])
def test_no_combination_is_closer_and_none_as_close_moves_less(cube: Cube, goal: int, at_most: bool) -> None:
    found = propose(cube, goal, MOVED, at_most)
    choices = [range(len(cube.stops[rule])) for rule in MOVED]
    tried = []
    for place in product(*choices):
        settings = dict(zip(MOVED, place, strict=True))
        steps = sum(abs(at - cube.current[rule]) for rule, at in settings.items())
        tried.append((cube.kept(settings), steps))
    if at_most and any(kept <= goal for kept, _ in tried):
        tried = [each for each in tried if each[0] <= goal]
    least = min((abs(kept - goal), steps) for kept, steps in tried)
    steps = sum(abs(at - cube.current[rule]) for rule, at in found.settings.items())
    assert (abs(found.kept - goal), steps) == least
    assert found.kept == cube.kept(found.settings) and found.before == cube.kept()
    assert found == propose(cube, goal, list(reversed(MOVED)), at_most)
    for cost in found.costs:
        assert cost.alone == cube.kept({cost.rule: found.settings[cost.rule]}) - found.before
        assert cube.stops[cost.rule][found.settings[cost.rule]] == cost.after


def test_where_a_goal_is_met_nothing_moves(cube: Cube) -> None:
    found = propose(cube, cube.kept())
    assert found.settings == {} and found.costs == () and found.losing == () and found.within_reach


def test_a_tolerance_saves_a_move(cube: Cube) -> None:
    goal = cube.kept() + 1
    assert propose(cube, goal, within=0.2).settings == {}


def test_what_is_out_of_reach_is_said(cube: Cube) -> None:
    found = propose(cube, ROWS, MOVED)
    assert not found.within_reach and found.kept == found.most < ROWS
    low = propose(cube, 0, MOVED, at_most=True)
    assert low.kept == low.least


def test_languages_that_lose_most_come_first(cube: Cube) -> None:
    found = propose(cube, 10, MOVED)
    parts = [each.after / each.before for each in found.losing]
    assert parts and parts == sorted(parts) and all(each.rows >= 50 for each in found.losing)


def test_which_rules_may_move() -> None:
    strict = judge_with_cube(caption_quality("laion_en").filters, rows(1, 60), 60)[2]
    light = judge_with_cube(clean().filters, rows(1, 60), 60)[2]
    assert rules_to_move(strict) == MOVED and rules_to_move(light) == ["clip_similarity"]
    assert rules_to_move(light, ["aspect"]) == ["aspect"]
    sizes = judge_with_cube(clean().filters[4:6], rows(1, 60), 60)[2]
    assert rules_to_move(sizes) == ["min_side", "aspect"]
    with pytest.raises(ValueError, match="rule 'filename' cannot be moved; rules with stops here are boilerplate"):
        rules_to_move(strict, ["filename"])
    with pytest.raises(ValueError, match="name at most 5"):
        rules_to_move(strict, strict.rules[:6])
    with pytest.raises(ValueError, match="passes the step whole"):
        rules_to_move(judge_with_cube((), rows(1, 60), 60)[2])
