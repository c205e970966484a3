"""Read url lists in csv and tsv, as a stream: a line that is no row is counted, and the rest goes on."""

import itertools
from collections.abc import Iterator
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.csv

from stages.manifest import ManifestError
from stages.sources.columns import Layout
from stages.sources.pieces import Batch, Piece, Survey, check_columns, kind_of

BLOCK_BYTES = 1 << 24
LONGEST_LINES = 100
"""Lines that one value may span; more means that a quote was never closed."""


def _delimiter(path: str) -> str:
    return "," if kind_of(path) == "csv" else "\t"


def survey(file: IO[bytes], path: str, layout: Layout, shown: str, size: int) -> Survey:
    """Look at the header line.

    Raises:
        ManifestError: A column is missing or named twice, or the file is UTF-16.
    """
    head = file.read(1 << 16)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ManifestError(f"{shown} is UTF-16; write it as UTF-8")
    names = list(layout.header or ())
    if not names:
        line = head.removeprefix(b"\xef\xbb\xbf").split(b"\n", 1)[0].rstrip(b"\r")
        names = pa.csv.read_csv(
            pa.py_buffer(line + b"\n"),
            parse_options=pa.csv.ParseOptions(delimiter=_delimiter(path), quote_char='"' if layout.quoted else False),
        ).column_names
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ManifestError(f"{shown} has two columns {twice!r}; rename one of them")
    # Delimited files hold text alone: a number that cannot be read is that row's matter.
    taken = check_columns(shown, layout, dict.fromkeys(names, pa.null()))
    return Survey((Piece(path, shown, taken=taken),), max(1, size // 100))


def _until_endless(reader: Iterator[pa.RecordBatch], name: str, endless: list[int]) -> Iterator[pa.RecordBatch]:
    """Yield batches; refuse the file where a quote swallowed many lines."""
    for batch in itertools.chain(reader, [None]):
        if endless:
            raise ManifestError(f"{name}: a quote that opens in row {endless[0]} is never closed; close it")
        if batch is not None:
            yield batch


def read(file: IO[bytes], piece: Piece, layout: Layout) -> Iterator[Batch]:
    """Yield the rows in batches, and the lines that are none.

    Raises:
        ManifestError: A quote is never closed.
    """
    broken: dict[int, bytes] = {}
    endless: list[int] = []
    first = 1 if layout.header is not None else 2

    def note(row: pa.csv.InvalidRow) -> str:
        text = row.text.encode("utf-8", "surrogateescape") if isinstance(row.text, str) else bytes(row.text)
        if text.count(b"\n") > LONGEST_LINES:
            endless.append(row.number)  # what is raised in here gets lost
        broken[row.number - first] = text
        return "skip"

    names = list(piece.taken.values())
    options = {
        "read_options": pa.csv.ReadOptions(
            use_threads=False, block_size=BLOCK_BYTES, column_names=list(layout.header) if layout.header else None
        ),
        "parse_options": pa.csv.ParseOptions(
            delimiter=_delimiter(piece.path),
            quote_char='"' if layout.quoted else False,
            newlines_in_values=layout.quoted,
            invalid_row_handler=note,
        ),
        # Everything comes as bytes: what is no text or no number is that row's matter, not the file's.
        "convert_options": pa.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.binary()), include_columns=names, strings_can_be_null=False
        ),
    }
    number = 0
    with pa.csv.open_csv(file, **options) as reader:
        for batch in _until_endless(reader, piece.name, endless):
            # The parser may be ahead: broken lines that lie behind this batch wait for theirs.
            rows = np.arange(number, number + batch.num_rows + len(broken))
            rows = rows[~np.isin(rows, list(broken))][: batch.num_rows] if broken else rows
            number = int(rows[-1]) + 1 if len(rows) else number
            passed = sorted((at, broken.pop(at)) for at in list(broken) if at < number)
            yield Batch({role: batch.column(name) for role, name in piece.taken.items()}, pa.array(rows), passed)
    if broken:
        columns = {role: pa.array([], pa.binary()) for role in piece.taken}
        yield Batch(columns, pa.array([], pa.int64()), sorted(broken.items()))
