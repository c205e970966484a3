"""Read one source's url list: foreign columns in, our rows out.

Output parts: uid, url_id, url, caption, language, declared width and height, the scores that the source
ships (null where it ships none), and the row's number in the source.
"""

import glob
import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from infra.storage import sha256_file
from stages.manifest import Ledger, Manifest, ManifestError, Part, digest_of
from stages.sources.identity import uid_of, url_id_of
from stages.sources.web_server import read_pictures
from stages.sources.web_site import SiteSpec, publish
from stages.workspace import Output, Workspace, parquet_bytes

VERSION = 1

SCHEMA = pa.schema(
    [
        ("uid", pa.binary(16)),
        ("url_id", pa.binary(16)),
        ("url", pa.string()),
        ("caption", pa.string()),
        ("language", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("source_similarity", pa.float32()),
        ("source_watermark", pa.float32()),
        ("source_unsafe", pa.float32()),
        ("source_aesthetic", pa.float32()),
        ("source_row", pa.int64()),
    ]
)


class ColumnNames(BaseModel):
    """What a source calls its columns; None where it has no such column."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = "url"
    caption: str = "caption"
    language: str | None = None
    width: str | None = None
    height: str | None = None
    similarity: str | None = None
    watermark: str | None = None
    unsafe: str | None = None
    aesthetic: str | None = None
    header: tuple[str, ...] | None = Field(default=None, description="Names for files without a header line.")


LAION = ColumnNames(
    url="URL",
    caption="TEXT",
    width="WIDTH",
    height="HEIGHT",
    similarity="similarity",
    watermark="pwatermark",
    unsafe="punsafe",
    aesthetic="AESTHETIC_SCORE",
)
PROFILES: dict[str, ColumnNames] = {
    "laion_en": LAION,
    "laion_multi": LAION.model_copy(update={"language": "LANGUAGE"}),
    "coyo": ColumnNames(
        caption="text",
        width="width",
        height="height",
        similarity="clip_similarity_vitb32",
        watermark="watermark_score",
        unsafe="nsfw_score_opennsfw2",
        aesthetic="aesthetic_score_laion_v2",
    ),
    # CC3M ships caption first, without a header.
    "cc3m": ColumnNames(header=("caption", "url")),
    "wukong": ColumnNames(),
}


class Parameters(BaseModel):
    """One source: exactly one of `paths`, `images` and `site` says where it comes from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(pattern=r"^[a-z0-9_]+$", description="Name of the source, as in its artifacts.")
    paths: tuple[str, ...] = Field(
        default=(), description="Files or globs: parquet, csv, tsv, jsonl; local, s3 or https."
    )
    images: str | None = Field(
        default=None, description="Folder or WebDataset tar of pictures that are already there."
    )
    site: SiteSpec | None = Field(default=None, description="The procedural web of the tiny recipe.")
    columns: ColumnNames = ColumnNames()
    language: str | None = Field(
        default=None, description="Language of all captions, where the source has no column."
    )
    rows_per_part: int = Field(default=1000, ge=1, description="Rows of one part.")
    content_digest: str | None = Field(
        default=None, description="Hash of the pictures in `images`; filled in at start."
    )


def resolve(paths: tuple[str, ...]) -> list[str]:
    """Return the files that the paths and globs name, sorted.

    Raises:
        ManifestError: One of them names nothing.
    """
    files: list[str] = []
    for path in paths:
        if "://" in path:
            fs, bare = fsspec.core.url_to_fs(path)
            found = [fs.unstrip_protocol(str(name)) for name in fs.glob(bare)] if "*" in bare else [path]
        else:
            found = sorted(glob.glob(path))
        if not found:
            raise ManifestError(
                f"no file matches {path!r}; give an existing parquet, csv, tsv or jsonl file or a glob"
            )
        files += found
    return sorted(files)


def read_list(path: str, columns: ColumnNames) -> pa.Table:
    """Read one url list whole.

    Raises:
        ManifestError: The file cannot be read, is empty, or lacks a column; the message says which exist.
    """
    try:
        with fsspec.open(path, "rb") as file:
            data = file.read()
        name = path.lower()
        if name.endswith(".parquet"):
            table = pq.read_table(io.BytesIO(data))
        elif name.endswith((".jsonl", ".json")):
            table = pyarrow.json.read_json(io.BytesIO(data))
        elif name.endswith((".csv", ".tsv", ".txt")):
            table = pyarrow.csv.read_csv(
                io.BytesIO(data),
                read_options=pyarrow.csv.ReadOptions(column_names=list(columns.header) if columns.header else None),
                parse_options=pyarrow.csv.ParseOptions(
                    delimiter="," if name.endswith(".csv") else "\t", newlines_in_values=True
                ),
            )
        else:
            raise ManifestError(f"{path}: unknown kind of file; give parquet, csv, tsv or jsonl")
    except (OSError, pa.ArrowException) as error:
        raise ManifestError(
            f"{path} cannot be read: {str(error)[:200]}; check the file or remove it from the list"
        ) from error
    wanted = {k: v for k, v in columns.model_dump(exclude={"header"}).items() if v}
    if missing := [name for name in wanted.values() if name not in table.column_names]:
        flags = "name yours with --url-column and --caption-column"
        raise ManifestError(f"{path} has no column {missing[0]!r}, only {', '.join(table.column_names)}; {flags}")
    if not table.num_rows:
        raise ManifestError(f"{path} is empty: it has columns but no rows")
    return table.select(list(wanted.values())).rename_columns(list(wanted))


def _rows(parameters: Parameters, scratch: Path) -> Iterator[pa.Table]:
    if parameters.site:
        if parameters.source not in parameters.site.rows:
            raise ManifestError(f"the site lists {', '.join(parameters.site.rows)}, not {parameters.source!r}")
        lists = publish(parameters.site.only(parameters.source), scratch)
        yield read_list(str(lists[parameters.source]), PROFILES[parameters.source])
    elif parameters.images:
        pictures = _pictures(parameters.images)
        names = [f"images:///{name}" for name, _, _ in pictures]
        yield pa.table({"url": names, "caption": [caption for _, _, caption in pictures]})
    else:
        for path in resolve(parameters.paths):
            yield read_list(path, parameters.columns)


def _pictures(path: str) -> list[tuple[str, bytes, str]]:
    if not Path(path).exists():
        raise ManifestError(f"{path} does not exist; give a folder or a tar of pictures")
    try:
        pictures = read_pictures(Path(path))
    except OSError as error:
        raise ManifestError(f"{path} cannot be read as a folder or tar of pictures: {error}") from error
    if not pictures:
        raise ManifestError(f"{path} holds no .jpg, .jpeg, .png or .webp file")
    return pictures


def pin(parameters: Parameters) -> Parameters:
    """Return the parameters with the hash of what they point at, so that changed files are seen as drift."""
    if parameters.images:
        path = Path(parameters.images)
        if path.is_file():
            found = sha256_file(path)
        else:
            found = digest_of([[name, len(data), caption] for name, data, caption in _pictures(parameters.images)])
        return parameters.model_copy(update={"content_digest": found})
    local = [file for file in resolve(parameters.paths) if "://" not in file] if parameters.paths else []
    if local:
        return parameters.model_copy(update={"content_digest": digest_of([sha256_file(Path(f)) for f in local])})
    return parameters


def _part(item: tuple[str, str, pa.Table, int, int], output: Output) -> Part:
    key, digest, table, listed, rejected = item
    ledger = Ledger(listed=listed, kept=table.num_rows, rejected=rejected)
    return output.part(key, digest, ledger, {"rows": (f"{key}.parquet", parquet_bytes(table))})


def run(parameters: Parameters, output: Output, here: Workspace) -> Manifest:
    """List a source: rows without url or caption and exact repeats are rejected and counted."""
    if sum(map(bool, (parameters.paths, parameters.images, parameters.site))) != 1:
        raise ManifestError(f"source {parameters.source}: give exactly one of a url list, pictures, or the tiny site")
    seen: set[bytes] = set()
    reasons = {"no_url": 0, "no_caption": 0, "repeat": 0}
    columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
    number = -1
    for table in _rows(parameters, here.scratch):
        for row in table.to_pylist():
            number += 1
            reason, made = _normalise(parameters, row, number)
            if made and made["uid"] in seen:
                reason, made = "repeat", None
            if made is None:
                reasons[reason] += 1
                continue
            seen.add(made["uid"])
            for name in SCHEMA.names:
                columns[name].append(made[name])
    if number < 0:
        raise ManifestError(f"source {parameters.source} lists no rows")
    if not columns["uid"]:
        raise ManifestError(
            f"source {parameters.source}: all {number + 1} rows were rejected ({reasons}); nothing to do"
        )
    whole = pa.table({name: pa.array(columns[name], SCHEMA.field(name).type) for name in SCHEMA.names}, schema=SCHEMA)
    items = []
    for start in range(0, number + 1, parameters.rows_per_part):
        stop = min(number + 1, start + parameters.rows_per_part)
        inside = pa.compute.and_(
            pa.compute.greater_equal(whole["source_row"], start), pa.compute.less(whole["source_row"], stop)
        )
        piece = whole.filter(inside)
        key = f"{start // parameters.rows_per_part:06d}"
        digest = digest_of([u.hex() for u in piece["uid"].to_pylist()])
        items.append((key, digest, (key, digest, piece, stop - start, stop - start - piece.num_rows)))
    parts = here.map_parts(output, partial(_part, output=output), items, light=True)
    return output.commit(parts, totals={"rejected": {k: v for k, v in reasons.items() if v}})


def _normalise(parameters: Parameters, row: dict[str, Any], number: int) -> tuple[str, dict[str, Any] | None]:
    url, caption = row.get("url"), row.get("caption")
    if not isinstance(url, str) or not url.strip():
        return "no_url", None
    if not isinstance(caption, str) or not caption.strip():
        return "no_caption", None
    language = row.get("language") or parameters.language
    return "", {
        "uid": uid_of(parameters.source, url, caption),
        "url_id": url_id_of(url),
        "url": url.strip(),
        "caption": caption,
        "language": str(language) if language else None,
        "width": _int(row.get("width")),
        "height": _int(row.get("height")),
        **{f"source_{name}": _float(row.get(name)) for name in ("similarity", "watermark", "unsafe", "aesthetic")},
        "source_row": number,
    }


def _float(value: Any) -> float | None:
    # NaN is "not known" too: it must never pass a comparison as if it were a score.
    return float(value) if isinstance(value, int | float) and value == value else None


def _int(value: Any) -> int | None:
    number = _float(value)
    return int(number) if number is not None and 0 < number < 2**31 else None
