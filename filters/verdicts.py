"""All filters over all rows, batch by batch: a mask per row, and the numbers that were compared."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from filters.base import Columns, Filter, Measure
from filters.bits import BITS
from filters.text.captions import Batch

# As much as stays in a processor's cache while twenty filters look at it.
ROWS_AT_ONCE = 16_384
NUMBERS_AT_ONCE = 131_072


class Verdicts(NamedTuple):
    """What filters said of rows, shape (samples,) each."""

    reasons: npt.NDArray[np.uint64]
    """One bit per reason that drops the row; 0 is kept."""
    measures: dict[str, Measure]
    """By reason, for filters that compare a number."""
    unknown: dict[str, int]
    """By reason, rows whose signal was not computed; only where there are any."""


def batches(columns: Columns, samples: int, size: int) -> Iterator[Batch]:
    """Return the rows in slices; nothing is copied."""
    for first in range(0, samples, size):
        yield Batch({name: _slice(column, first, size) for name, column in columns.items()})


def _slice(column: Any, first: int, size: int) -> Any:
    if isinstance(column, pa.Array | pa.ChunkedArray):
        return column.slice(first, size)
    return column[first : first + size]


def give(filters: Sequence[Filter], columns: Columns, samples: int, measured: bool = True) -> Verdicts:
    """Apply all filters to all rows; neither order nor size of batches changes the result.

    Args:
        filters: Rules; each sees every row, whatever the others say.
        columns: Signals by name, each of `samples` rows.
        samples: Rows.
        measured: Whether to return the numbers that were compared.
    """
    reasons = np.zeros(samples, dtype=np.uint64)
    measures: dict[str, list[Measure]] = {}
    unknown: dict[str, int] = {}
    wanted = {name for each in filters for name in each.reads}
    used = {name: column for name, column in columns.items() if name in wanted}
    size = ROWS_AT_ONCE if "caption" in used else NUMBERS_AT_ONCE
    for number, batch in enumerate(batches(used, samples, size)):
        mask = reasons[number * size : (number + 1) * size]
        for each in filters:
            dropped = ~each.keep(batch)
            if dropped.any():
                mask |= dropped.astype(np.uint64) << np.uint64(BITS[each.reason])
            if missing := int(each.unknown(batch).sum()):
                unknown[each.reason] = unknown.get(each.reason, 0) + missing
            if measured and (found := each.measure(batch)) is not None:
                measures.setdefault(each.reason, []).append(found)
    whole = {reason: np.concatenate(pieces) for reason, pieces in measures.items()}
    return Verdicts(reasons, whole, dict(sorted(unknown.items())))
