"""Cells of a cube as arrays, and how they are made fewer: equal ones added up, stops given up."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from filters.bits import BITS

Ints = npt.NDArray[np.int64]
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
    digits = np.empty_like(cells.digits)
    for column, rule in enumerate(sorted(stops)):
        stays = np.array([False, *(stop in kept[rule] for stop in stops[rule])])
        digits[:, column] = np.cumsum(stays, dtype=np.uint8)[cells.digits[:, column]]
    return cells._replace(digits=digits)


def pooled(cells: Cells, groups: int) -> tuple[Cells, Ints]:
    """Return cells with equal ones added up, and the rows by group of those that no stop keeps, shape (groups,)."""
    good = (cells.digits > 0).all(axis=1)
    lost = np.bincount(cells.group[~good], weights=cells.rows[~good], minlength=groups).astype(np.int64)
    _, first, back = np.unique(
        _ordered(cells.group[good], cells.digits[good]), return_index=True, return_inverse=True
    )
    rows = np.bincount(back, weights=cells.rows[good], minlength=len(first)).astype(np.int64)
    return Cells(cells.group[good][first], cells.digits[good][first], rows), lost


def _ordered(group: Ints, digits: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """Return a number for each cell, equal for equal cells and in their order: by group, then digit by digit."""
    codes = group.astype(np.uint64)
    for first in range(0, digits.shape[1], DIGITS_AT_ONCE):
        if first:
            codes = np.unique(codes, return_inverse=True)[1].astype(np.uint64)
        for column in digits[:, first : first + DIGITS_AT_ONCE].T:
            codes = codes << np.uint64(4) | column
    return codes


def named(names: list[str], cells: Cells) -> dict[str, dict[str, int]]:
    """Return cells by group and by hexadecimal digits, as a cube holds them."""
    rules = cells.digits.shape[1]
    letters = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)[cells.digits].tobytes().decode()
    found: dict[str, dict[str, int]] = {}
    for at, (group, rows) in enumerate(zip(cells.group.tolist(), cells.rows.tolist(), strict=True)):
        found.setdefault(names[group], {})[letters[at * rules : (at + 1) * rules]] = rows
    return found
