"""One narrow parquet file per signal and part: `uid`, `value`, and in its metadata what computed it.

Null means "not computed", never a default. Embeddings are rows of float16, null where the picture or the
caption could not be read.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stages.manifest import Manifest, ManifestError, Part
from stages.workspace import Output, parquet_bytes, read_table

Halves = npt.NDArray[np.float16]


def column_bytes(uids: pa.Array, values: pa.Array, made_by: Mapping[str, str] | None = None) -> bytes:
    """Return a signal's file; `made_by` names models and the hashes of their weights."""
    table = pa.table({"uid": uids, "value": values})
    return parquet_bytes(table.replace_schema_metadata(dict(sorted(made_by.items()))) if made_by else table)


def numbers(values: npt.NDArray[Any]) -> pa.Array:
    """Return numbers as a float32 column; what is not finite was not computed."""
    found = np.asarray(values, dtype=np.float32)
    return pa.array(found, pa.float32(), mask=~np.isfinite(found))


def vectors(values: Halves) -> pa.Array:
    """Return rows of numbers, shape (rows, width), as a column; rows that hold a NaN are null."""
    there = np.isfinite(values).all(axis=1) & (values.shape[1] > 0)
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(there)]) * values.shape[1]
    flat = np.ascontiguousarray(values[there], dtype=np.float16).reshape(-1)
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(flat, pa.float16()), mask=pa.array(~there))


def load_embeddings(output: Output, signals: Manifest, part: Part, name: str) -> tuple[list[bytes], Halves]:
    """Return (uids, embeddings of shape (rows, width)) of one part, NaN where there is none.

    Raises:
        ManifestError: The file is no embedding, or does not hold the part's rows.
    """
    table = read_table(output.store, signals, part, name)
    column = table["value"].combine_chunks()
    if not pa.types.is_list(column.type) or not pa.types.is_float16(column.type.value_type):
        raise ManifestError(f"signal {name} of {signals.ref} part {part.key} is {column.type}, no embedding")
    uids = table["uid"].to_pylist()
    if len(uids) != part.ledger.listed or uids != sorted(set(uids)):
        raise ManifestError(
            f"signal {name} of {signals.ref} part {part.key} holds {len(uids)} rows for {part.ledger.listed} "
            "samples, or not in their order; score it again"
        )
    widths = np.unique(column.value_lengths().drop_null().to_numpy())
    if len(widths) > 1:
        raise ManifestError(f"signal {name} of {signals.ref} part {part.key} has rows of {list(widths)} numbers")
    rows = np.full((len(uids), int(widths[0]) if len(widths) else 0), np.nan, dtype=np.float16)
    there = column.is_valid().to_numpy(zero_copy_only=False)
    rows[there] = column.flatten().to_numpy(zero_copy_only=False).reshape(int(there.sum()), -1)
    return uids, rows
