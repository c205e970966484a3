"""Read url lists in batches: parquet, csv and tsv here, JSON in `reading_json`; local, s3:// or https://.

A survey looks at each file's schema before any row is read, and says into which pieces the file can be cut.
What is read comes as `Batch`: raw columns under our names, and where each row stands in its file.
"""

import glob
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from stages.manifest import ManifestError
from stages.sources.columns import Layout, Take, is_bytes

BATCH_ROWS = 1 << 16
PIECE_ROWS = 1 << 20
"""Rows of a parquet file that one piece of work reads, as near as its row groups allow."""
BLOCK_BYTES = 1 << 24
LONGEST_LINES = 100
"""Lines that one csv value may span; more means that a quote was never closed."""
KINDS = "parquet, csv, tsv, json or jsonl, also as .gz"


@dataclass(frozen=True)
class Piece:
    """A stretch of one file: whole, or some row groups of a parquet file."""

    path: str
    name: str = ""
    first_group: int = 0
    stop_group: int = 0
    first_row: int = 0
    taken: dict[str, str] = field(default_factory=dict)
    """The file's name for each of our columns."""


@dataclass
class Batch:
    """Some rows of a file, raw: text as bytes or strings, and rows that could not even be taken apart."""

    columns: dict[str, pa.Array]
    rows: pa.Array
    broken: list[tuple[int, bytes]] = field(default_factory=list)
    """Row number and text of what is not a row."""


@dataclass(frozen=True)
class Survey:
    """What a look at one file told: its pieces, and how many rows it holds or may hold."""

    pieces: tuple[Piece, ...]
    rows: int
    empty: bool = False


def located(path: str) -> tuple[Any, str]:
    """Return (file system, its name for a path); what it remembers of earlier listings is forgotten."""
    fs, bare = fsspec.core.url_to_fs(path)
    fs.invalidate_cache()
    return fs, bare


def resolve(paths: tuple[str, ...]) -> list[str]:
    """Return the files that the paths and globs name, sorted.

    Raises:
        ManifestError: One of them names nothing.
    """
    files: list[str] = []
    for path in paths:
        if "://" in path:
            fs, bare = located(path)
            found = [fs.unstrip_protocol(str(name)) for name in fs.glob(bare)] if "*" in bare else [path]
        else:
            found = sorted(glob.glob(path))
        if not found:
            raise ManifestError(f"no file matches {path!r}; give an existing file or a glob: {KINDS}")
        files += found
    return sorted(set(files))


def kind_of(path: str) -> str:
    """Return parquet, csv, tsv or json.

    Raises:
        ManifestError: The name says none of them.
    """
    name = path.lower().partition("?")[0]
    if name.endswith((".tar.gz", ".tgz", ".tar")):
        return "json_tar"
    stem = name.removesuffix(".gz")
    for kind, endings in {"parquet": (".parquet",), "json": (".jsonl", ".json", ".ndjson"), "csv": (".csv",)}.items():
        if stem.endswith(endings):
            return kind
    if stem.endswith((".tsv", ".txt")):
        return "tsv"
    raise ManifestError(f"{path}: unknown kind of file; give {KINDS}")


def open_list(path: str) -> Any:
    """Open a list for reading bytes; `.gz` is unpacked on the way."""
    packed = path.lower().endswith(".gz") and kind_of(path) != "json_tar"
    return fsspec.open(path, "rb", compression="gzip" if packed else None)


def unreadable(path: str, error: Exception) -> ManifestError:
    """Return the error that names a file which cannot be read."""
    return ManifestError(f"{path} cannot be read: {str(error)[:200]}; check the file or remove it from the list")


def survey(path: str, layout: Layout, name: str = "") -> Survey:
    """Look at a file's schema and cut it into pieces.

    Args:
        path: A local path or a url.
        layout: Which columns are read.
        name: What people are shown instead of the path.

    Raises:
        ManifestError: The file cannot be read, lacks a column, or holds something else in it.
    """
    from stages.sources import reading_json

    kind, shown = kind_of(path), name or path
    try:
        fs, bare = located(path)
        size = int(fs.size(bare) or 0)
        with open_list(path) as file:
            if size == 0 and not file.read(1):
                return Survey((), 0, empty=True)
            if size:
                file.seek(0)
            if kind == "parquet":
                return _survey_parquet(file, path, layout, shown)
            if kind.startswith("json"):
                return reading_json.survey(file, path, layout, shown, size)
            return _survey_delimited(file, path, layout, shown, size)
    except (OSError, EOFError, ValueError, pa.ArrowException) as error:
        raise unreadable(path, error) from error


def check_columns(path: str, layout: Layout, types: dict[str, pa.DataType]) -> dict[str, str]:
    """Return the file's name for each of our columns.

    Raises:
        ManifestError: A column is missing, or holds something else.
    """
    taken: dict[str, str] = {}
    for take in layout.takes:
        if (name := take.found_in(list(types))) is None:
            if take.required:
                raise ManifestError(
                    f"{path} has no column {take.names[0]!r}, only {', '.join(types) or 'none'}; "
                    "name yours with --url-column and --caption-column, or name its schema with --schema"
                )
            continue
        if not take.kind.accepts(types[name]):
            raise wrong_type(path, take, name, str(types[name]))
        taken[take.role] = name
    return taken


def wrong_type(path: str, take: Take, name: str, found: str) -> ManifestError:
    """Return the error that names a column which holds something else."""
    return ManifestError(
        f"{path}: column {name!r} holds {found}, not {take.kind}, which is what {take.role} has to be; "
        "name another column or another schema, or write the column anew as " + take.kind
    )


def _survey_parquet(file: IO[bytes], path: str, layout: Layout, shown: str) -> Survey:
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


def _delimiter(path: str) -> str:
    return "," if kind_of(path) == "csv" else "\t"


def _survey_delimited(file: IO[bytes], path: str, layout: Layout, shown: str, size: int) -> Survey:
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


def read(piece: Piece, layout: Layout) -> Iterator[Batch]:
    """Yield the rows of a piece in batches.

    Raises:
        ManifestError: The file breaks off or cannot be taken apart.
    """
    from stages.sources import reading_json

    kind = kind_of(piece.path)
    try:
        with open_list(piece.path) as file:
            if kind == "parquet":
                yield from _read_parquet(file, piece, layout)
            elif kind.startswith("json"):
                yield from reading_json.read(file, piece, layout)
            else:
                yield from _read_delimited(file, piece, layout)
    except (OSError, EOFError, ValueError, pa.ArrowException) as error:
        raise unreadable(piece.name or piece.path, error) from error


def _read_parquet(file: IO[bytes], piece: Piece, layout: Layout) -> Iterator[Batch]:
    # A buffer size makes pages come one after the other, where whole column chunks would fill the memory.
    parquet = pq.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False)
    number, groups = piece.first_row, list(range(piece.first_group, piece.stop_group))
    for batch in parquet.iter_batches(BATCH_ROWS, row_groups=groups, columns=list(piece.taken.values())):
        rows = pa.array(np.arange(number, number + batch.num_rows))
        number += batch.num_rows
        yield Batch({role: batch[name] for role, name in piece.taken.items()}, rows)


def _until_endless(reader: Iterator[pa.RecordBatch], name: str, endless: list[int]) -> Iterator[pa.RecordBatch]:
    """Yield batches; refuse the file where a quote swallowed many lines."""
    for batch in itertools.chain(reader, [None]):
        if endless:
            raise ManifestError(f"{name}: a quote that opens in row {endless[0]} is never closed; close it")
        if batch is not None:
            yield batch


def _read_delimited(file: IO[bytes], piece: Piece, layout: Layout) -> Iterator[Batch]:
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
    number, counted = 0, 0
    with pa.csv.open_csv(file, **options) as reader:
        for batch in _until_endless(reader, piece.name, endless):
            rows: list[int] = []
            while len(rows) < batch.num_rows:
                if number not in broken:
                    rows.append(number)
                number += 1
            fresh = sorted(broken.items())[counted:]
            counted += len(fresh)
            yield Batch(
                {role: batch.column(name) for role, name in piece.taken.items()}, pa.array(rows, pa.int64()), fresh
            )
    if rest := sorted(broken.items())[counted:]:
        yield Batch({role: pa.array([], pa.binary()) for role in piece.taken}, pa.array([], pa.int64()), rest)
