"""Signals of one part as columns, row by row of the same uids; joined by position or by hash, never in Python.

Every signal's file names its rows, and all files of a part name the same. The same uids by the same writer are the
same bytes, so where a file's differ from the first one's in nothing they are not decoded again.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.storage import Store
from stages.manifest import Manifest, ManifestError, Part
from stages.workspace import opened_table


def read_signals(
    store: Store, signals: Manifest, part: Part, names: Sequence[str], wanted: pa.Array | None = None
) -> tuple[pa.Array, dict[str, Any]]:
    """Return uids and columns: numbers as float32 with NaN for null, text as Arrow strings.

    Args:
        store: Where signals lie.
        signals: The manifest of the part.
        part: Which part; each signal is a file of its own, and only these are read.
        names: Signals.
        wanted: Uids of the rows to return, in this order; all rows of the part when left out.

    Raises:
        ManifestError: A signal is not there, or two signals name other rows, or a wanted row is missing.
    """
    uids: pa.Array | None = None
    spelled: list[pa.Buffer] = []
    places: pa.Array | None = None
    columns: dict[str, Any] = {}
    for name in names:
        data, file = opened_table(store, signals, part, name)
        spelling = _chunks(data, file, "uid")
        known = spelling == spelled
        table = file.read(columns=["value"] if known else ["uid", "value"], use_threads=False)
        found = uids if uids is not None and known else table["uid"].combine_chunks()
        if uids is None:
            uids, spelled = found, spelling
            if wanted is not None and not found.equals(wanted):
                places = pc.index_in(wanted, found)
                if places.null_count:
                    raise ManifestError(
                        f"{places.null_count} rows are not in {signals.ref} part {part.key}; it was scored anew "
                        "after they were judged, so judge them again"
                    )
        elif not known and not found.equals(uids):
            raise ManifestError(f"signal {name} of {signals.ref} part {part.key} names other rows; score it again")
        column = table["value"].combine_chunks()
        columns[name] = _plain(column if places is None else column.take(places))
    if wanted is not None:
        return wanted, columns
    return (uids if uids is not None else pa.array([], pa.binary(16))), columns


def _chunks(data: bytes, file: pq.ParquetFile, name: str) -> list[pa.Buffer]:
    """Return the bytes of a column as they lie in a file, by row group."""
    found, whole, column = [], pa.py_buffer(data), file.schema_arrow.get_field_index(name)
    for number in range(file.metadata.num_row_groups):
        chunk = file.metadata.row_group(number).column(column)
        first = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
        found.append(whole.slice(first, chunk.total_compressed_size))
    return found


def _plain(column: pa.Array) -> Any:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return column
    # Not safe: the safe cast refuses whole numbers above 2^24 for being rounded.
    return np.asarray(column.cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False), dtype=np.float32)
