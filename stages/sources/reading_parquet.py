"""Read url lists in parquet: some row groups a piece, some rows a batch, only the columns that are wanted."""

from collections.abc import Iterator
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stages.sources.columns import Layout, is_bytes
from stages.sources.pieces import BATCH_ROWS, Batch, Piece, Survey, check_columns, wrong_type

PIECE_ROWS = 1 << 20
"""Rows that one piece holds, as near as the row groups of its file allow."""


def survey(file: IO[bytes], path: str, layout: Layout, shown: str) -> Survey:
    """Look at the schema, and into columns of bytes; cut the file into stretches of row groups.

    Raises:
        ManifestError: A column is missing, or holds something else.
    """
    parquet = pq.ParquetFile(file)
    schema = parquet.schema_arrow
    taken = check_columns(shown, layout, {name: schema.field(name).type for name in schema.names})
    _look_into_bytes(parquet, shown, layout, taken)
    pieces, groups, first, rows, seen = [], parquet.metadata.num_row_groups, 0, 0, 0
    for group in range(groups):
        rows += parquet.metadata.row_group(group).num_rows
        if rows >= PIECE_ROWS or group + 1 == groups:
            pieces.append(Piece(path, shown, first, group + 1, seen, taken))
            first, seen, rows = group + 1, seen + rows, 0
    return Survey(tuple(pieces), parquet.metadata.num_rows)


def _look_into_bytes(parquet: pq.ParquetFile, shown: str, layout: Layout, taken: dict[str, str]) -> None:
    """Refuse a column of bytes that is not text: bytes are taken where the first rows are all UTF-8."""
    schema = parquet.schema_arrow
    names = {role: name for role, name in taken.items() if is_bytes(schema.field(name).type)}
    if not names:
        return
    first = next(parquet.iter_batches(batch_size=1000, columns=list(names.values())), None)
    for take in layout.takes:
        if (name := names.get(take.role)) is None or first is None:
            continue
        for number, value in enumerate(first[name].to_pylist()):
            try:
                (value or b"").decode()
            except UnicodeDecodeError as error:
                raise wrong_type(shown, take, name, f"bytes that are no UTF-8 (row {number})") from error


def read(file: IO[bytes], piece: Piece) -> Iterator[Batch]:
    """Yield the rows of a piece in batches."""
    # A buffer size makes pages come one after the other, where whole column chunks would fill the memory.
    parquet = pq.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False)
    number, groups = piece.first_row, list(range(piece.first_group, piece.stop_group))
    for batch in parquet.iter_batches(BATCH_ROWS, row_groups=groups, columns=list(piece.taken.values())):
        rows = pa.array(np.arange(number, number + batch.num_rows))
        number += batch.num_rows
        yield Batch({role: batch[name] for role, name in piece.taken.items()}, rows)
