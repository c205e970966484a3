"""Read url lists in JSON: one object a line, an array of objects, or one object of parallel lists (SBU).

Lines are read one by one, so that a broken one is counted and the rest goes on. Arrays and parallel lists
are read whole, because JSON has no other way.
"""

import io
import itertools
import json
import tarfile
from collections.abc import Iterable, Iterator
from typing import IO, Any

import pyarrow as pa

from stages.manifest import ManifestError
from stages.sources.columns import Kind, Layout
from stages.sources.pieces import BATCH_ROWS, Batch, Piece, Survey, check_columns, kind_of

LOOK_AT = 1000
"""Lines that a survey reads to learn which columns there are and what they hold."""
TYPE_OF = {str: pa.string(), bool: pa.bool_(), int: pa.int64(), float: pa.float64(), list: pa.list_(pa.null())}

Row = dict[str, Any] | None


def survey(file: IO[bytes], path: str, layout: Layout, shown: str, size: int) -> Survey:
    """Look at the first rows.

    Raises:
        ManifestError: A column is missing, or holds something else in all of these rows.
    """
    rows = [row for _, row, _ in itertools.islice(_rows(file, path, layout, shown), LOOK_AT)]
    types: dict[str, pa.DataType] = {}
    for row in rows:
        for name, value in (row or {}).items():
            found = TYPE_OF.get(type(value), pa.null() if value is None else pa.struct([]))
            wanted = next((take.kind for take in layout.takes if name in take.names), None)
            # One value of the right type is enough: the others are those rows' matter.
            if name not in types or pa.types.is_null(types[name]) or (wanted and wanted.accepts(found)):
                types[name] = found if found != pa.null() or name not in types else types[name]
    if not any(rows):
        raise ManifestError(f"{shown} holds no JSON object in its first rows; give one object a line")
    check_columns(shown, layout, types)
    return Survey((Piece(path, shown),), max(len(rows), size // 200))


def read(file: IO[bytes], piece: Piece, layout: Layout) -> Iterator[Batch]:
    """Yield the rows in batches; a line that is no JSON object is a broken row."""
    rows = _rows(file, piece.path, layout, piece.name)
    while chunk := list(itertools.islice(rows, BATCH_ROWS)):
        whole = [(number, row) for number, row, _ in chunk if row is not None]
        columns = {
            take.role: _column(take.kind, [_value(row, take.names) for _, row in whole]) for take in layout.takes
        }
        broken = [(number, text) for number, row, text in chunk if row is None]
        yield Batch(columns, pa.array([number for number, _ in whole], pa.int64()), broken)


def _value(row: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((row[name] for name in names if name in row), None)


def _column(kind: Kind, values: list[Any]) -> pa.Array:
    if kind is Kind.NUMBER:
        return pa.array([_number(value) for value in values], pa.float64())
    # A lone surrogate is kept as its bytes, which no UTF-8 reader takes: the row is rejected by name.
    return pa.array([v.encode("utf-8", "surrogatepass") if isinstance(v, str) else None for v in values], pa.binary())


def _number(value: Any) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return float(value)
    except OverflowError:  # an integer of hundreds of digits
        return None


def _rows(file: IO[bytes], path: str, layout: Layout, shown: str) -> Iterator[tuple[int, Row, bytes]]:
    if kind_of(path) == "json_tar":
        yield from _parallel(_only_json(file, shown), layout, shown)
        return
    reader = io.BufferedReader(file, 1 << 20) if isinstance(file, io.RawIOBase) else file
    start = reader.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    reader.seek(0)
    if layout.lists:
        yield from _parallel(_load(reader, shown), layout, shown)
    elif start == b"[":
        for number, row in enumerate(_load(reader, shown)):
            yield number, row if isinstance(row, dict) else None, b""
    else:
        yield from _lines(reader)


def _lines(lines: Iterable[bytes]) -> Iterator[tuple[int, Row, bytes]]:
    number = 0
    for line in lines:
        text = line.strip().removeprefix(b"\xef\xbb\xbf")
        if not text:
            continue
        try:
            # Bytes that are no UTF-8 go through as lone surrogates and are rejected by name.
            row = json.loads(text.decode("utf-8", "surrogateescape"))
        except (ValueError, RecursionError):
            row = None
        yield number, row if isinstance(row, dict) else None, text
        number += 1


def _load(file: IO[bytes], shown: str) -> Any:
    try:
        return json.loads(file.read().decode("utf-8-sig", "surrogateescape"))
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{shown} is not whole JSON: {error}; fetch it again") from error


def _only_json(file: IO[bytes], shown: str) -> Any:
    with tarfile.open(fileobj=file, mode="r|*") as tar:
        for member in tar:
            if member.isfile() and member.name.endswith(".json") and (inside := tar.extractfile(member)):
                return _load(inside, shown)
    raise ManifestError(f"{shown} holds no .json file; give the archive as published")


def _parallel(found: Any, layout: Layout, shown: str) -> Iterator[tuple[int, Row, bytes]]:
    """Yield the rows of one object of lists.

    Raises:
        ManifestError: It is something else, or the lists differ in length.
    """
    lists = (
        {name: column for name, column in found.items() if isinstance(column, list)}
        if isinstance(found, dict)
        else {}
    )
    wanted = {name: lists[name] for take in layout.takes for name in take.names if name in lists}
    if not wanted:
        raise ManifestError(f"{shown} is no object of lists {', '.join(t.names[0] for t in layout.takes)}")
    if len({len(column) for column in wanted.values()}) > 1:
        lengths = ", ".join(f"{name} {len(column)}" for name, column in wanted.items())
        raise ManifestError(f"{shown}: its lists differ in length ({lengths}); fetch it again")
    for number, values in enumerate(zip(*wanted.values(), strict=True)):
        yield number, dict(zip(wanted, values, strict=True)), b""
