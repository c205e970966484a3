"""Pictures whose 64-bit perceptual hashes differ in few bits, found without comparing all with all.

The hash is cut into blocks. Two hashes that differ in at most `DISTANCE` bits agree in some of the
blocks, so each choice of that many blocks is a table, and only what agrees in a table is compared. A pair
that meets in several tables is counted in the first of them, so nothing is counted twice or missed.
"""

from functools import cache
from itertools import combinations, pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stages.signals.keys import Ints, Keys, counted, mixed

DISTANCE = 4
"""Bits in which copies may differ: what COYO-700M and others take for the same picture."""
FEW_ROWS = 1 << 18
"""Up to here one block of 13 bits tells apart; beyond, two blocks together, of which there are 15 choices."""


class Table(NamedTuple):
    """One choice of blocks: the bits that must agree, and those of earlier blocks, none of which may."""

    mask: np.uint64
    earlier: tuple[np.uint64, ...]


@cache
def tables(rows: int) -> tuple[Table, ...]:
    """Return the tables to use for so many hashes."""
    agreeing = 1 if rows <= FEW_ROWS else 2
    edges = np.linspace(0, 64, DISTANCE + agreeing + 1).round().astype(int)
    blocks = [((1 << (int(b) - int(a))) - 1) << int(a) for a, b in pairwise(edges)]
    return tuple(
        Table(
            np.uint64(sum(blocks[n] for n in chosen)),
            tuple(np.uint64(blocks[n]) for n in range(chosen[-1]) if n not in chosen),
        )
        for chosen in combinations(range(len(blocks)), agreeing)
    )


def near(one: Keys, other: Keys, table: Table) -> npt.NDArray[np.bool_]:
    """Return which pairs, alike in the table's blocks, are near and meet in no earlier table."""
    differing = one ^ other
    found = np.asarray(np.bitwise_count(differing) <= DISTANCE)
    for block in table.earlier:
        found &= (differing & block) != 0
    return found


def ask(hashes: Keys, usable: npt.NDArray[np.bool_], rows: int) -> tuple[Keys, Ints]:
    """Return the rows (key, hash, count, table) of a part's hashes, and where each sample stands among them.

    Args:
        hashes: One per sample.
        usable: Samples that have a hash that means something.
        rows: Of the whole source, which decides the tables.
    """
    distinct, counts, back = counted(hashes[usable])
    used = tables(rows)
    pieces = [
        np.stack(
            [
                mixed((distinct & table.mask) ^ mixed(np.array([number + 1]))),
                distinct,
                counts.astype(np.uint64),
                np.full(len(distinct), rows > FEW_ROWS, np.uint64) << np.uint64(32) | np.uint64(number),
            ],
            axis=1,
        )
        for number, table in enumerate(used)
    ]
    whole = np.concatenate(pieces)
    order = np.argsort(whole[:, 0], kind="stable")
    places = np.empty(len(whole), dtype=np.int64)
    places[order] = np.arange(len(whole))
    at = np.full((len(hashes), len(used)), -1, dtype=np.int64)
    at[usable] = places.reshape(len(used), -1).T[back]
    return whole[order], at


def answer(rows: Keys) -> Ints:
    """Return for each row how many samples are near its hash and meet it first in its table, itself among them."""
    order = np.lexsort((rows[:, 1], rows[:, 3], rows[:, 0]))
    whole = rows[order]
    fresh = np.ones(len(whole), dtype=bool)
    fresh[1:] = (whole[1:, [0, 1, 3]] != whole[:-1, [0, 1, 3]]).any(axis=1)
    place = np.cumsum(fresh) - 1
    some = whole[fresh]
    weights = np.zeros(len(some), dtype=np.int64)
    np.add.at(weights, place, whole[:, 2].astype(np.int64))
    found = np.zeros(len(some), dtype=np.int64)
    for code in np.unique(some[:, 3]):
        which = np.flatnonzero(some[:, 3] == code)
        used = tables(FEW_ROWS + 1 if code >> np.uint64(32) else FEW_ROWS)
        found[which] = _near_counts(some[which], weights[which], used[int(code & np.uint64(0xFFFFFFFF))])
    result = np.empty(len(rows), dtype=np.int64)
    result[order] = found[place]
    return result


def _near_counts(rows: Keys, weights: Ints, table: Table) -> Ints:
    """Return the samples near each of one table's distinct hashes; rows of one key stand together."""
    found = np.where(near(rows[:, 1], rows[:, 1], table), weights, 0)
    live, step = np.arange(len(rows)), 1
    while len(live := live[live + step < len(rows)]) and len(
        live := live[rows[live, 0] == rows[live + step, 0]]
    ):  # those that have a neighbour so far away in their group
        pairs = live[near(rows[live, 1], rows[live + step, 1], table)]
        found[pairs] += weights[pairs + step]
        found[pairs + step] += weights[pairs]
        step += 1
    return found


class Nearest:
    """A fixed set of hashes, to be asked for the nearest of each picture."""

    def __init__(self, hashes: Keys) -> None:
        """Sort the set once per table."""
        self._hashes = hashes
        self._tables = tables(len(hashes))
        self._orders = [np.argsort(hashes & table.mask, kind="stable") for table in self._tables]
        self._sorted = [(hashes & table.mask)[order] for table, order in zip(self._tables, self._orders, strict=True)]

    def find(self, hashes: Keys) -> Ints:
        """Return the number of the nearest hash within `DISTANCE` bits, the first of equals, or -1."""
        best = np.full(len(hashes), (DISTANCE + 1) << 40, dtype=np.int64)
        for table, order, keys in zip(self._tables, self._orders, self._sorted, strict=True):
            wanted = hashes & table.mask
            starts, stops = np.searchsorted(keys, wanted, "left"), np.searchsorted(keys, wanted, "right")
            for start in range(0, len(hashes), 1024):
                piece = slice(start, start + 1024)
                sizes = (stops - starts)[piece]
                row = np.repeat(np.arange(start, start + len(sizes)), sizes)
                offset = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
                number = order[np.repeat(starts[piece], sizes) + offset]
                distance = np.bitwise_count(hashes[row] ^ self._hashes[number]).astype(np.int64)
                np.minimum.at(best, row, (distance << 40) | number)
        return np.where(best >> 40 <= DISTANCE, best & ((1 << 40) - 1), -1)
