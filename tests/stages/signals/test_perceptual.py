"""Near pictures against a comparison of all with all, for both sizes of tables."""

import numpy as np
import pytest

from stages.signals import perceptual
from stages.signals.perceptual import Nearest, ask, near, tables


def near_hashes(seed: int, families: int = 40, size: int = 6) -> np.ndarray:
    """Return hashes in families whose members differ in none to eight bits of a common one."""
    rng = np.random.default_rng(seed)
    found = []
    for root in rng.integers(0, 2**64, families, dtype=np.uint64):
        for _ in range(size):
            flips = rng.choice(64, rng.integers(0, 9), replace=False)
            found.append(int(root) ^ sum(1 << int(bit) for bit in flips))
    return np.array(found, dtype=np.uint64)


def differing(one: int, other: int) -> int:
    return (one ^ other).bit_count()


@pytest.mark.parametrize("rows", [10, perceptual.FEW_ROWS + 1])
def test_every_near_pair_meets_first_in_exactly_one_table(rows: int) -> None:
    hashes = near_hashes(0)
    one, other = np.repeat(hashes, len(hashes)), np.tile(hashes, len(hashes))
    meetings = np.zeros(len(one), dtype=int)
    for table in tables(rows):
        meetings += ((one ^ other) & table.mask == 0) & near(one, other, table)
    wanted = [differing(a, b) <= 4 for a, b in zip(one.tolist(), other.tolist(), strict=True)]
    assert meetings.tolist() == [int(each) for each in wanted] and 240 < sum(wanted) < 2000


@pytest.mark.parametrize("rows", [10, perceptual.FEW_ROWS + 1])
def test_counts_are_those_of_comparing_all_with_all(rows: int) -> None:
    hashes = near_hashes(1)
    usable = np.arange(len(hashes)) % 7 != 0
    asked, at = ask(hashes, usable, rows)
    assert (np.diff(asked[:, 0].astype(object)) >= 0).all()
    given = np.append(perceptual.answer(asked), 0)
    found = np.where(at >= 0, given[at], 0).sum(axis=1)
    some = hashes[usable].tolist()
    assert found[usable].tolist() == [sum(differing(a, b) <= 4 for b in some) for a in some]
    assert (at[~usable] == -1).all()


def test_the_nearest_of_a_set_is_found_and_nothing_farther_than_four_bits() -> None:
    hashes = near_hashes(2)
    known, asked = hashes[::2], hashes[1::2]
    wanted = []
    for one in asked.tolist():
        distances = [differing(one, other) for other in known.tolist()]
        best = min(distances)
        wanted.append(distances.index(best) if best <= 4 else -1)
    assert Nearest(known).find(asked).tolist() == wanted
    assert -1 in wanted and max(wanted) > 0
