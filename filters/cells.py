"""Cells of a cube as arrays, and how they are made fewer: equal ones added up, stops given up.

Digits are laid out rule by rule in memory, so that what looks at one rule of all cells reads neighbours. Equal cells
are found by sorting one number per cell: NumPy sorts 64-bit numbers several times as fast as any hash of them.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from filters.bits import BITS

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
CELLS = 30_000
"""Most cells of a cube; beyond it stops are dropped, never rows."""
CELLS_OF_A_PART = 4 * CELLS
"""Most cells of what is still to be added up: giving up stops costs more than holding a few cells too many."""
ADDED_AT_ONCE = 8
"""Parts that are added in one go: equal cells are found once for all of them."""
DIGITS_AT_ONCE = 8
"""Digits of four bits that a number takes up beside the 32 bits of what came before."""


class Cells(NamedTuple):
    """Cells as arrays."""

    group: Ints
    """Which group each cell belongs to, shape (cells,)."""
    digits: npt.NDArray[np.uint8]
    """Stops passed, shape (cells, rules)."""
    rows: Ints
    """Rows, shape (cells,)."""

    def at(self, where: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> "Cells":
        """Return some cells."""
        return Cells(self.group[where], self.digits.T[:, where].T, self.rows[where])


class Counted(NamedTuple):
    """Rows of a source by stops passed, before they are named for people: what a cube is made of."""

    declared: Mapping[str, tuple[float, ...]]
    """All stops of each rule, loosest first."""
    thresholds: Mapping[str, float]
    """Where each rule is now."""
    stops: Mapping[str, tuple[float, ...]]
    """The stops that the digits count."""
    names: list[str]
    """Groups by number, in order."""
    cells: Cells
    fixed: Ints
    """Rows that no stop brings back, shape (groups,)."""


NOTHING = Counted(
    {},
    {},
    {},
    [],
    Cells(np.zeros(0, np.int64), np.zeros((0, 0), np.uint8), np.zeros(0, np.int64)),
    np.zeros(0, np.int64),
)


def coarsenings(
    declared: Mapping[str, tuple[float, ...]], thresholds: Mapping[str, float]
) -> list[dict[str, tuple[float, ...]]]:
    """Return which stops stay, in ever smaller choices that each lie within the one before.

    Every second stop goes, rule by rule, then every second of what is left, until only the current ones stay.
    Rules with high bits come first: the ones that people move most have low bits.
    """
    found = [dict(declared)]
    for every in (2, 4, 8, 16):
        for rule in sorted(declared, key=lambda name: (-BITS.get(name, 64), name)):
            now = declared[rule].index(thresholds[rule])
            some = tuple(stop for at, stop in enumerate(declared[rule]) if (at - now) % every == 0)
            found.append(found[-1] | {rule: some})
    return found


def coarser(cells: Cells, stops: Mapping[str, tuple[float, ...]], kept: Mapping[str, tuple[float, ...]]) -> Cells:
    """Return cells whose digits count only some of the stops; not yet added up."""
    digits = np.empty((len(stops), len(cells.rows)), dtype=np.uint8)
    for row, rule in enumerate(sorted(stops)):
        if kept[rule] == stops[rule]:
            digits[row] = cells.digits[:, row]
            continue
        stays = np.array([False, *(stop in kept[rule] for stop in stops[rule])])
        digits[row] = np.cumsum(stays, dtype=np.uint8)[cells.digits[:, row]]
    return cells._replace(digits=digits.T)


def pooled(cells: Cells, groups: int) -> tuple[Cells, Ints]:
    """Return cells in order with equal ones added up, and the rows by group of those that no stop keeps.

    The order is by group, then digit by digit; the rows that are lost have shape (groups,).
    """
    good = np.asarray((cells.digits > 0).all(axis=1))
    lost = np.bincount(cells.group[~good], weights=cells.rows[~good], minlength=groups).astype(np.int64)
    if not good.all():
        cells = cells.at(good)
    if not len(cells.rows):
        return cells, lost
    order, begins = _alike(_numbered(cells))
    rows = np.add.reduceat(cells.rows[order], begins)
    return cells.at(order[begins])._replace(rows=rows), lost


def _alike(codes: Words) -> tuple[Ints, Ints]:
    """Return an order of numbers, and where in it each new one begins."""
    order = np.argsort(codes)
    ordered = codes[order]
    return order, np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))


def _numbered(cells: Cells) -> Words:
    """Return a number for each cell, equal for equal cells and in their order: by group, then digit by digit."""
    codes = cells.group.astype(np.uint64)
    for first in range(0, cells.digits.shape[1], DIGITS_AT_ONCE):
        if first:
            codes = _ranks(codes)
        codes = codes << np.uint64(4 * DIGITS_AT_ONCE) | _packed(cells.digits.T[first : first + DIGITS_AT_ONCE])
    return codes


def _ranks(codes: Words) -> Words:
    """Return the place of each number among those that occur."""
    order, begins = _alike(codes)
    new = np.zeros(len(codes), dtype=np.uint64)
    new[begins[1:]] = 1
    found = np.empty_like(new)
    found[order] = np.cumsum(new)
    return found


def _packed(digits: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    """Return up to eight digits of each cell as one number, the first highest; digits have shape (rules, cells)."""
    pairs = np.zeros((digits.shape[1], DIGITS_AT_ONCE // 2), dtype=np.uint8)
    for place, row in enumerate(digits):
        pairs[:, -1 - place // 2] |= row if place % 2 else row << np.uint8(4)
    return pairs.view("<u4").ravel().astype(np.uint32)


def fitted(counted: Counted, most: int) -> Counted:
    """Return equal cells added up, with stops given up where there are too many; a group keeps at least one cell.

    Cells with a digit 0 are left out and counted as fixed.
    """
    declared, stops, groups = counted.declared, counted.stops, len(counted.names)
    cells, lost = pooled(counted.cells, groups)
    ladder = coarsenings(declared, counted.thresholds)
    first, last = 0, len(ladder) - 1
    while len(cells.rows) > most and first <= last:
        middle = (first + last) // 2
        some = {rule: tuple(s for s in ladder[middle][rule] if s in stops[rule]) for rule in ladder[middle]}
        fewer, more = pooled(coarser(cells, stops, some), groups)
        if len(fewer.rows) <= most and middle > first:
            last = middle
            continue
        # The steps that follow lie within this one, so they need not begin at the whole again.
        cells, stops, lost, first = fewer, some, lost + more, middle + 1
    return counted._replace(stops=dict(stops), cells=cells, fixed=counted.fixed + lost)


def summed(parts: Iterable[Counted], most: int) -> Counted:
    """Return the sum of counts over disjoint rows; a few are held at a time.

    Which stops are given up follows from the sum alone: it takes the shortest beginning of one fixed
    order that suffices, and a part never needs a longer one than the whole. So order does not matter.

    Raises:
        ValueError: The counts are of other rules or thresholds.
    """
    whole = NOTHING
    filled = (part for part in parts if part.declared or part.names)
    while some := list(islice(filled, ADDED_AT_ONCE)):
        whole = fitted(_joined([whole, *some] if whole.declared or whole.names else some), most)
    return whole


def _joined(parts: Sequence[Counted]) -> Counted:
    one = parts[0]
    if any(each.declared != one.declared or each.thresholds != one.thresholds for each in parts):
        raise ValueError("cubes of different rules or thresholds cannot be added; judge both with one policy")
    common = {
        rule: tuple(s for s in stops if all(s in part.stops[rule] for part in parts))
        for rule, stops in sorted(one.stops.items())
    }
    names = sorted({name for part in parts for name in part.names})
    fixed, moved = np.zeros(len(names), dtype=np.int64), []
    for part in parts:
        where = np.array([names.index(name) for name in part.names], dtype=np.int64)
        fixed[where] += part.fixed
        moved.append(coarser(part.cells._replace(group=where[part.cells.group]), part.stops, common))
    group, digits, rows = zip(*moved, strict=True)
    cells = Cells(np.concatenate(group), np.concatenate([each.T for each in digits], axis=1).T, np.concatenate(rows))
    return one._replace(stops=common, names=names, cells=cells, fixed=fixed)


def named(names: list[str], cells: Cells) -> dict[str, dict[str, int]]:
    """Return cells by group and by hexadecimal digits, as a cube holds them."""
    rules = cells.digits.shape[1]
    letters = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)[cells.digits].tobytes().decode()
    found: dict[str, dict[str, int]] = {}
    for at, (group, rows) in enumerate(zip(cells.group.tolist(), cells.rows.tolist(), strict=True)):
        found.setdefault(names[group], {})[letters[at * rules : (at + 1) * rules]] = rows
    return found
