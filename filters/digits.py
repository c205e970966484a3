"""From verdicts on rows to their cube: each row's digits, taken while the filters look at it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from filters.base import Columns, Filter
from filters.bits import BITS
from filters.cells import CELLS_OF_A_PART, Cells, Counted, fitted
from filters.cube import Cube, cube_of
from filters.funnel import Funnel, grouped, judge
from filters.stops import current_of, movable, passed, stops_of


class _Taken:
    """Digits of all movable rules, filled batch by batch."""

    def __init__(self, rules: Sequence[Filter], samples: int) -> None:
        self.rules = rules
        self.stops = {rule.reason: stops_of(rule) for rule in rules}
        self.digits = np.zeros((len(rules), samples), dtype=np.uint8)

    def __call__(self, rows: Any, batch: Columns) -> None:
        for number, rule in enumerate(self.rules):
            self.digits[number, rows] = passed(rule, self.stops[rule.reason], batch)


def judge_with_cube(
    filters: Sequence[Filter], columns: Columns, samples: int
) -> tuple[npt.NDArray[np.uint64], Funnel, Cube]:
    """Do as `judge_with_counts` does, and return the counts as a cube."""
    reasons, funnel, counted = judge_with_counts(filters, columns, samples)
    return reasons, funnel, cube_of(counted)


def judge_with_counts(
    filters: Sequence[Filter], columns: Columns, samples: int
) -> tuple[npt.NDArray[np.uint64], Funnel, Counted]:
    """Apply all filters to all rows, and count for every combination of stops; groups are languages.

    Args:
        filters: Rules; their order does not change the result.
        columns: Signals by name, each of `samples` rows.
        samples: Rows.

    Returns:
        The reason mask of each row, shape (samples,), the funnel, and how many rows pass which stops.

    Raises:
        ValueError: What a rule declares of its stops does not agree with what it keeps.
    """
    taken = _Taken(movable(filters), samples)
    reasons, funnel = judge(filters, columns, samples, taken)
    names, groups = grouped(columns.get("language"), samples)
    thresholds = {rule.reason: current_of(rule) for rule in taken.rules}
    fixed = np.zeros(samples, dtype=bool)
    numbers = {rule.reason: number for number, rule in enumerate(taken.rules)}
    for each in filters:
        dropped = (reasons >> np.uint64(BITS[each.reason]) & np.uint64(1)).astype(bool)
        if each.reason not in numbers:
            fixed |= dropped
            continue
        now = taken.stops[each.reason].index(thresholds[each.reason])
        if ((taken.digits[numbers[each.reason]] <= now) != dropped).any():
            raise ValueError(
                f"filter {each.reason}: its stops and its measure do not give what it keeps; keep rows whose measure "
                "reaches the threshold and say on_threshold_is_kept, or declare no stops"
            )
    good = np.flatnonzero(~fixed)
    lost = np.bincount(groups[fixed], minlength=len(names)).astype(np.int64)
    cells = Cells(groups[good], taken.digits[:, good].T, np.ones(len(good), dtype=np.int64))
    counted = Counted(taken.stops, thresholds, taken.stops, names, cells, lost)
    return reasons, funnel, fitted(counted, CELLS_OF_A_PART)
