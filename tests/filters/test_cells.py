"""Equal cells are found whatever their digits are, in one order; the reference counts them in a dictionary."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.cells import Cells, Counted, coarser, fitted, pooled, summed


def random_cells(seed: int, size: int, rules: int, values: int, groups: int) -> Cells:
    rng = np.random.default_rng(seed)
    digits = rng.integers(0, values, (rules, size)).astype(np.uint8).T
    return Cells(rng.integers(0, groups, size), digits, rng.integers(1, 100, size))


def by_hand(cells: Cells) -> Counter[tuple[int, ...]]:
    found: Counter[tuple[int, ...]] = Counter()
    for group, digits, rows in zip(*(each.tolist() for each in cells), strict=True):
        found[group, *digits] += rows
    return found


@given(st.integers(0, 10**6), st.integers(0, 60), st.integers(0, 19), st.integers(1, 16), st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_equal_cells_are_added_up_and_ordered(seed: int, size: int, rules: int, values: int, groups: int) -> None:
    cells = random_cells(seed, size, rules, values, groups)
    found, lost = pooled(cells, groups)
    wanted = by_hand(cells)
    assert by_hand(found) == {key: rows for key, rows in wanted.items() if 0 not in key[1:]}
    keys = [(group, *digits) for group, digits in zip(found.group.tolist(), found.digits.tolist(), strict=True)]
    assert keys == sorted(set(keys))
    for group in range(groups):
        assert lost[group] == sum(rows for key, rows in wanted.items() if key[0] == group and 0 in key[1:])


@pytest.mark.parametrize("most", [10, 400, 10_000])
def test_parts_that_hold_more_cells_than_the_whole_give_the_same_whole(most: int) -> None:
    stops = {f"rule_{letter}": tuple(float(n) for n in range(7)) for letter in "abcdefghij"}
    cells = random_cells(3, 900, 10, 8, 3)

    def counted(some: Cells) -> Counted:
        return Counted(stops, dict.fromkeys(stops, 3.0), stops, ["a", "b", "c"], some, np.zeros(3, dtype=np.int64))

    whole = fitted(counted(cells), most)
    bounds = np.linspace(0, 900, 12).astype(int)
    parts = [counted(cells.at(np.arange(a, b))) for a, b in pairwise(bounds.tolist())]
    for some in (
        parts,
        parts[::-1],
        [fitted(part, 10_000) for part in parts],
        [fitted(part, most) for part in parts],
    ):
        found = summed(some, most)
        assert found.stops == whole.stops and by_hand(found.cells) == by_hand(whole.cells)
        assert found.fixed.tolist() == whole.fixed.tolist()
    assert len(whole.cells.rows) <= max(most, 3) and (len(whole.stops["rule_a"]) < 7) == (most < 400)


def test_digits_count_the_stops_that_stay() -> None:
    cells = Cells(np.zeros(4, np.int64), np.array([[0], [1], [2], [3]], np.uint8), np.ones(4, np.int64))
    found = coarser(cells, {"rule": (1.0, 2.0, 3.0)}, {"rule": (2.0,)})
    assert found.digits.tolist() == [[0], [0], [1], [1]]
