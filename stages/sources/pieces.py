"""What the readers of url lists share: pieces of files, batches of raw rows, and the look at a schema."""

from dataclasses import dataclass, field

import pyarrow as pa

from stages.manifest import ManifestError
from stages.sources.columns import Layout, Take

BATCH_ROWS = 1 << 16
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


def file_name(path: str) -> str:
    """Return what a path or address says of its file, in lower case: without the query of an address."""
    return path.lower().partition("?")[0]


def kind_of(path: str) -> str:
    """Return parquet, csv, tsv or json.

    Raises:
        ManifestError: The name says none of them.
    """
    name = file_name(path)
    if name.endswith((".tar.gz", ".tgz", ".tar")):
        return "json_tar"
    stem = name.removesuffix(".gz")
    for kind, endings in {"parquet": (".parquet",), "json": (".jsonl", ".json", ".ndjson"), "csv": (".csv",)}.items():
        if stem.endswith(endings):
            return kind
    if stem.endswith((".tsv", ".txt")):
        return "tsv"
    raise ManifestError(f"{path}: unknown kind of file; give {KINDS}")


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
