"""What one part's judging counted, as a file: a funnel, and rows by stops passed as a table of cells.

Cells of thousands of parts are written and read again; as a table of numbers that costs a tenth of what it
costs as JSON.
"""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from filters.cells import Cells, Counted
from filters.funnel import Funnel
from stages.manifest import canonical
from stages.workspace import parquet_bytes

FACTS = b"counts"


def counts_bytes(funnel: Funnel, counted: Counted) -> bytes:
    """Return a part's counts as parquet: one row per cell, all else in the metadata."""
    cells = counted.cells
    width = cells.digits.shape[1]
    digits = pa.py_buffer(np.ascontiguousarray(cells.digits).tobytes())
    table = pa.table(
        {
            "group": pa.array(cells.group, pa.int32()),
            "digits": pa.Array.from_buffers(pa.binary(width), len(cells.rows), [None, digits]),
            "rows": pa.array(cells.rows, pa.int64()),
        }
        if width
        else {}
    )
    facts = {
        "funnel": funnel.model_dump(mode="json"),
        "declared": counted.declared,
        "thresholds": counted.thresholds,
        "stops": counted.stops,
        "names": counted.names,
        "fixed": counted.fixed.tolist(),
        # A policy without movable rules has at most one cell per group, and no digits to tell them by.
        "cells": None if width else [cells.group.tolist(), cells.rows.tolist()],
    }
    return parquet_bytes(table.replace_schema_metadata({FACTS: canonical(facts)}))


def counts_of(data: bytes) -> tuple[Funnel, Counted]:
    """Return what `counts_bytes` wrote."""
    table = pq.read_table(io.BytesIO(data), use_threads=False)
    facts = json.loads(table.schema.metadata[FACTS])
    if facts["cells"] is None:
        group, rows = (table[name].to_numpy().astype(np.int64) for name in ("group", "rows"))
        packed = table["digits"].combine_chunks()
        digits = np.frombuffer(packed.buffers()[1], dtype=np.uint8).reshape(len(rows), packed.type.byte_width)
    else:
        group, rows = (np.array(each, dtype=np.int64) for each in facts["cells"])
        digits = np.zeros((len(rows), 0), dtype=np.uint8)
    counted = Counted(
        declared=_stops(facts["declared"]),
        thresholds=facts["thresholds"],
        stops=_stops(facts["stops"]),
        names=facts["names"],
        cells=Cells(group, np.ascontiguousarray(digits.T).T, rows),
        fixed=np.array(facts["fixed"], dtype=np.int64),
    )
    return Funnel.model_validate(facts["funnel"]), counted


def _stops(read: dict[str, list[float]]) -> dict[str, tuple[float, ...]]:
    return {rule: tuple(stops) for rule, stops in read.items()}
