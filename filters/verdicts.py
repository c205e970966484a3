"""All filters over all rows, batch by batch: a mask per row, and the numbers that were compared."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from filters.base import CaptionFilter, Columns, Filter, Measure
from filters.bits import BITS
from filters.text.captions import Batch

# Many, because captions beyond ASCII are few in most sources and a batch of their own should be worth it.
ROWS_AT_ONCE = 131_072
# As much as stays in a processor's cache while twenty filters look at it.
PLAIN_AT_ONCE = 16_384
NUMBERS_AT_ONCE = 131_072

Look = Callable[[Any, Batch], None]
"""Called with which rows a batch is, and the batch."""

ARROW = (pa.Array, pa.ChunkedArray)


class Verdicts(NamedTuple):
    """What filters said of rows, shape (samples,) each."""

    reasons: npt.NDArray[np.uint64]
    """One bit per reason that drops the row; 0 is kept."""
    measures: dict[str, Measure]
    """By reason, for filters that compare a number."""
    unknown: dict[str, int]
    """By reason, rows whose signal was not computed; only where there are any."""


def give(
    filters: Sequence[Filter], columns: Columns, samples: int, measured: bool = True, also: Look | None = None
) -> Verdicts:
    """Apply all filters to all rows; neither order nor size of batches changes the result.

    Args:
        filters: Rules; each sees every row, whatever the others say.
        columns: Signals by name, each of `samples` rows.
        samples: Rows.
        measured: Whether to return the numbers that were compared.
        also: Shown every batch, while its captions are measured.
    """
    reasons = np.zeros(samples, dtype=np.uint64)
    measures: dict[str, Measure] = {}
    unknown: dict[str, int] = {}
    wanted = {name for each in filters for name in each.reads}
    used = {name: column for name, column in columns.items() if name in wanted}
    for rows, batch in alike(used, samples):
        mask = np.zeros(batch.size, dtype=np.uint64)
        for each in filters:
            dropped = ~each.keep(batch)
            if dropped.any():
                mask |= dropped.astype(np.uint64) << np.uint64(BITS[each.reason])
            if not isinstance(each, CaptionFilter) and (missing := int(each.unknown(batch).sum())):
                unknown[each.reason] = unknown.get(each.reason, 0) + missing
            if measured and (found := each.measure(batch)) is not None:
                if each.reason not in measures:
                    measures[each.reason] = np.full(samples, np.nan, dtype=np.float32)
                measures[each.reason][rows] = found
        reasons[rows] = mask
        if also:
            also(rows, batch)
    return Verdicts(reasons, measures, dict(sorted(unknown.items())))


def alike(columns: Columns, samples: int) -> Iterator[tuple[Any, Batch]]:
    """Return batches and which rows they are; captions in ASCII apart from others, whose measures cost more."""
    if "caption" not in columns:
        for first in range(0, samples, NUMBERS_AT_ONCE):
            rows = slice(first, min(first + NUMBERS_AT_ONCE, samples))
            yield rows, Batch({name: _slice(column, rows) for name, column in columns.items()}, rows.stop - first)
        return
    for first in range(0, samples, ROWS_AT_ONCE):
        rows = slice(first, min(first + ROWS_AT_ONCE, samples))
        batch = {name: _slice(column, rows) for name, column in columns.items()}
        plain = np.asarray(pc.fill_null(pc.string_is_ascii(batch["caption"]), True), dtype=bool)
        others = np.flatnonzero(~plain)
        simple = np.flatnonzero(plain)
        pieces = [simple[begin : begin + PLAIN_AT_ONCE] for begin in range(0, len(simple), PLAIN_AT_ONCE)]
        for some in (*pieces, others):
            if len(some):
                yield first + some, Batch({name: _take(column, some) for name, column in batch.items()}, len(some))


def _slice(column: Any, rows: slice) -> Any:
    return column.slice(rows.start, rows.stop - rows.start) if isinstance(column, ARROW) else column[rows]


def _take(column: Any, rows: npt.NDArray[np.int64]) -> Any:
    return column.take(pa.array(rows)) if isinstance(column, ARROW) else column[rows]
