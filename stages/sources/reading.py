"""Read url lists in batches: parquet, csv, tsv and JSON; from the local disk, s3:// or https://.

A survey looks at each file's schema before any row is read, and says into which pieces the file can be cut.
What is read comes as `Batch`: raw columns under our names, and where each row stands in its file.
"""

import glob
import os
from collections.abc import Iterator
from typing import Any

import fsspec

from stages.manifest import ManifestError
from stages.sources import reading_delimited, reading_json, reading_parquet
from stages.sources.columns import Layout
from stages.sources.pieces import KINDS, Batch, Piece, Survey, file_name, kind_of
from stages.unreadable import reading

SCHEMES = ("s3", "http", "https")


def located(path: str) -> tuple[Any, str]:
    """Return (file system, its name for a path); what it remembers of earlier listings is forgotten."""
    fs, bare = fsspec.core.url_to_fs(path)
    fs.invalidate_cache()
    return fs, bare


def resolve(paths: tuple[str, ...]) -> list[str]:
    """Return the files that the paths and globs name, sorted.

    Raises:
        ManifestError: One of them names nothing or a folder, or its server cannot be asked.
    """
    files: list[str] = []
    for path in paths:
        with reading(path):
            found = _remote(path) if "://" in path else sorted(glob.glob(path))
        if not found:
            raise ManifestError(f"no file matches {path!r}; give an existing file or a glob: {KINDS}")
        if folder := next((name for name in found if os.path.isdir(name)), None):
            raise ManifestError(f"{folder} is a folder; name the files in it, as '{folder.rstrip('/')}/*.parquet'")
        files += found
    return sorted(set(files))


def _remote(path: str) -> list[str]:
    scheme = path.partition("://")[0].lower()
    if scheme not in SCHEMES:
        raise ManifestError(
            f"{path}: lists are read from this machine, s3://, http:// and https://, not from {scheme}://; fetch it, "
            "and give the file"
        )
    if "*" not in path.partition("?")[0]:
        return [path]
    fs, bare = located(path)
    return [fs.unstrip_protocol(str(name)) for name in fs.glob(bare)]


def open_list(path: str) -> Any:
    """Open a list for reading bytes; `.gz` is unpacked on the way."""
    packed = file_name(path).endswith(".gz") and kind_of(path) != "json_tar"
    return fsspec.open(path, "rb", compression="gzip" if packed else None)


def _empty(path: str) -> bool:
    # A file of its own, as what comes without a length cannot be wound back.
    with open_list(path) as file:
        return not file.read(1)


def survey(path: str, layout: Layout, name: str = "") -> Survey:
    """Look at a file's schema and cut it into pieces.

    Args:
        path: A local path or a url.
        layout: Which columns are read.
        name: What people are shown instead of the path.

    Raises:
        ManifestError: The file cannot be read, lacks a column, or holds something else in it.
    """
    kind, shown = kind_of(path), name or path
    with reading(shown):
        fs, bare = located(path)
        size = int(fs.size(bare) or 0)
        if size == 0 and _empty(path):
            return Survey((), 0, empty=True)
        with open_list(path) as file:
            if kind == "parquet":
                return reading_parquet.survey(file, path, layout, shown)
            if kind.startswith("json"):
                return reading_json.survey(file, path, layout, shown, size)
            return reading_delimited.survey(file, path, layout, shown, size)


def read(piece: Piece, layout: Layout) -> Iterator[Batch]:
    """Yield the rows of a piece in batches.

    Raises:
        ManifestError: The file breaks off or cannot be taken apart.
    """
    kind = kind_of(piece.path)
    with reading(piece.name or piece.path), open_list(piece.path) as file:
        if kind == "parquet":
            yield from reading_parquet.read(file, piece)
        elif kind.startswith("json"):
            yield from reading_json.read(file, piece, layout)
        else:
            yield from reading_delimited.read(file, piece, layout)
