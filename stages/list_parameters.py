"""How a source is listed: what is given, bound to the bytes that lie there, heads looked at before a run starts."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from infra.storage import sha256_file
from stages.manifest import ManifestError, digest_of
from stages.sources.catalog import GENERIC, source_named
from stages.sources.columns import ColumnNames, Layout, layout_of
from stages.sources.own_pictures import captions_of
from stages.sources.pieces import kind_of
from stages.sources.reading import located, resolve, survey
from stages.sources.web_site import SiteSpec
from stages.unreadable import reading

LOOKED_AT = 20
"""Files of a source whose heads are read before a run starts; its stage looks at all of them."""


class Parameters(BaseModel):
    """One source: one of `paths`, `images` and `site` says where it comes from; none where there are no data yet."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(pattern=r"^[a-z0-9_]+$", description="Name of the source, as in its artifacts.")
    paths: tuple[str, ...] = Field(
        default=(), description="Files or globs: parquet, csv, tsv, json, jsonl; local, s3:// or https://."
    )
    images: str | None = Field(
        default=None, description="Folder or WebDataset tar of pictures that are already there."
    )
    site: SiteSpec | None = Field(default=None, description="The procedural web of the tiny recipe.")
    adapter: str = Field(
        default=GENERIC, description="Known source whose schema the files have; generic reads `columns`."
    )
    columns: ColumnNames = ColumnNames()
    language: str | None = Field(default=None, description="Language of captions where the source says none.")
    accept_withdrawn: bool = Field(
        default=False, description="Read a list that its publisher withdrew, at your own responsibility."
    )
    block_urls: tuple[str, ...] = Field(
        default=(), description="Files of addresses, or of SHA-256 of canonical addresses, that are not listed."
    )
    block_domains: tuple[str, ...] = Field(
        default=(), description="Files of domains that are not listed, with everything below them."
    )
    rows_per_part: int = Field(default=1000, ge=1, description="Rows of one part at most, on the average.")
    content_digest: str | None = Field(
        default=None, description="Hash of what the parameters point at; filled in at start."
    )

    @model_validator(mode="after")
    def _one_origin(self) -> "Parameters":
        if self.paths and self.images:
            raise ValueError(
                f"source {self.source} is given a list (--urls) and pictures (--images), and reads one of them; "
                "leave the other out, or make two runs of them"
            )
        return self


def pictures_of(path: str) -> list[tuple[str, str]]:
    """Return (name, caption) of the pictures in a folder or tar."""
    if not Path(path).exists():
        raise ManifestError(f"{path} does not exist; give a folder or a tar of pictures")
    with reading(path):
        pictures = captions_of(Path(path))
    if not pictures:
        raise ManifestError(f"{path} holds no .jpg, .jpeg, .png or .webp file")
    return pictures


def pin(parameters: Parameters) -> Parameters:
    """Return the parameters with the hash of what they point at, so that changed files are seen as drift.

    Local files count by their bytes; remote ones by what their server says of them (ETag, size, time of the last
    change), and by their bytes where it says neither an ETag nor a time.

    Raises:
        ManifestError: A file is missing, no source has such a schema, or its publisher withdrew it.
    """
    if parameters.paths:
        adapter_of(parameters)
    found: list[Any] = []
    if parameters.images:
        path, pictures = Path(parameters.images), pictures_of(parameters.images)
        if path.is_file():
            found.append(sha256_file(path))
        else:
            found.append(digest_of([[name, sha256_file(path / name), caption] for name, caption in pictures]))
    for paths in (parameters.paths, parameters.block_urls, parameters.block_domains):
        found += [_fingerprint(file) for file in resolve(paths)]
    return parameters.model_copy(update={"content_digest": digest_of(found)}) if found else parameters


def look(parameters: Parameters) -> None:
    """Look at the heads of a url list's files, before anything is started for it; no row is read.

    Servers are asked only for a list that is pinned: for that they were asked already.

    Raises:
        ManifestError: A file cannot be read, is of no known kind, lacks a column or holds something else in it.
    """
    if not parameters.paths:
        return
    layout, _ = adapter_of(parameters)
    files = resolve(tuple(path for path in parameters.paths if parameters.content_digest or "://" not in path))
    for path in files:
        kind_of(path)
    for path in files[:LOOKED_AT]:
        survey(path, layout)


def _fingerprint(path: str) -> str:
    with reading(path):
        return _said_of(path) if "://" in path else sha256_file(Path(path))


def _said_of(path: str) -> str:
    """Return the hash of what a server says of a file, of its bytes where it says too little."""
    fs, bare = located(path)
    info = fs.info(bare)
    facts = {key.lower().replace("-", ""): str(value) for key, value in info.items()}
    said = {key: facts[key] for key in ("etag", "lastmodified", "size") if facts.get(key, "None") != "None"}
    return digest_of(said) if {"etag", "lastmodified"} & set(said) else str(fs.checksum(bare))


def adapter_of(parameters: Parameters) -> tuple[Layout, str | None]:
    """Return (layout, language) of a url list.

    Raises:
        ManifestError: No source has such a schema, or its publisher withdrew it.
    """
    if parameters.adapter == GENERIC:
        return layout_of(parameters.columns), parameters.language
    try:
        known = source_named(parameters.adapter)
    except ValueError as error:
        raise ManifestError(f"source {parameters.source}: {error}") from error
    if known.withdrawn and not parameters.accept_withdrawn:
        raise ManifestError(
            f"{known.title} was withdrawn by its publisher; take {known.withdrawn}; to read the original all "
            "the same, set accept_withdrawn (--accept-withdrawn)"
        )
    return known.layout, parameters.language or known.language
