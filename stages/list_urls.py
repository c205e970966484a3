"""Read one source's url list: foreign columns in, our rows out.

Two phases, both spread over the cluster: pieces of files are read, normalised and spilled by bucket of `url_id`;
then each bucket is sorted, freed of exact repeats, and published. Neither holds more than a stretch of rows, and
a part's rows are a function of content: the same rows in other files, or in another order, give the same bytes.

Parts have two roles: `rows` (`stages.sources.rows.SCHEMA`, by address) and, where there are any, `rejected`.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from infra.cluster import InlineCluster
from infra.storage import sha256_file
from stages.manifest import Manifest, ManifestError, Part, digest_of
from stages.sources import blocklists
from stages.sources.catalog import GENERIC, SITE_SCHEMAS, source_named
from stages.sources.collect import Spilled, spill_piece, spread
from stages.sources.columns import ColumnNames, Layout, layout_of
from stages.sources.merge import Merge, merge_bucket
from stages.sources.own_pictures import captions_of
from stages.sources.pieces import Survey, kind_of
from stages.sources.reading import located, resolve, survey
from stages.sources.rows import SCHEMA, Rejection, Rules
from stages.sources.spill import power_of_two, spills_for
from stages.sources.web_lists import publish
from stages.sources.web_site import SiteSpec
from stages.unreadable import reading
from stages.workspace import Output, Workspace

__all__ = ["SCHEMA", "VERSION", "ColumnNames", "Parameters", "pin", "run"]

VERSION = 2
LOOKED_AT = 20
"""Files of a source whose heads are read before a run starts; its stage looks at all of them."""


class Parameters(BaseModel):
    """One source: one of `paths`, `images` and `site` says where it comes from; none, as long as there are no data."""

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


def _pictures(path: str) -> list[tuple[str, str]]:
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
        _adapter(parameters)
    found: list[Any] = []
    if parameters.images:
        path, pictures = Path(parameters.images), _pictures(parameters.images)
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
    layout, _ = _adapter(parameters)
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


def _survey(item: tuple[str, str], layout: Layout) -> tuple[str, Survey]:
    return item[0], survey(item[0], layout, item[1])


def _files(parameters: Parameters, scratch: Path) -> tuple[list[tuple[str, str]], Layout, str | None, bool]:
    """Return (files with the names that people know them by, layout, language, whether they lie in our scratch)."""
    if parameters.site:
        if parameters.source not in parameters.site.rows:
            raise ManifestError(f"the site lists {', '.join(parameters.site.rows)}, not {parameters.source!r}")
        path = publish(parameters.site.only(parameters.source), scratch)[parameters.source]
        layout = source_named(SITE_SCHEMAS[parameters.source]).layout
        return [(str(path), path.name)], layout, parameters.language, True
    if parameters.images:
        path = scratch / "pictures.jsonl"
        rows = ({"url": f"images:///{name}", "caption": text} for name, text in _pictures(parameters.images))
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return [(str(path), parameters.images)], layout_of(ColumnNames()), parameters.language, True
    layout, language = _adapter(parameters)
    return [(path, path) for path in resolve(parameters.paths)], layout, language, False


def _adapter(parameters: Parameters) -> tuple[Layout, str | None]:
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


def run(parameters: Parameters, output: Output, here: Workspace) -> Manifest:
    """List a source: every row is kept, or rejected with a reason from a closed list.

    Raises:
        ManifestError: A file cannot be read or has another schema, before any row is read; or no row is left.
    """
    if sum(map(bool, (parameters.paths, parameters.images, parameters.site))) != 1:
        raise ManifestError(f"source {parameters.source}: give exactly one of a url list, pictures, or the tiny site")
    files, layout, language, ours = _files(parameters, here.scratch)
    block = blocklists.load(parameters.block_urls, parameters.block_domains)
    # What lies in our own scratch is not seen by other machines.
    cluster = InlineCluster() if ours else here.cluster
    surveys = dict(spread(cluster, partial(_survey, layout=layout), files))
    spills = spills_for(here, output, sum(each.rows for each in surveys.values()))
    places = [(number, piece) for number, (path, _) in enumerate(files) for piece in surveys[path].pieces]
    items = [(number, file, piece) for number, (file, piece) in enumerate(places)]
    try:
        read_piece = partial(spill_piece, rules=Rules(parameters.source, layout, language, block), spills=spills)
        spilled = list(spread(cluster, read_piece, items, _telling(here, len(items), "pieces", "reading")))
        kept = _check(parameters.source, files, spilled)
        merge = Merge(
            spills,
            tuple(sorted(key for each in spilled for key in each.keys)),
            tuple(name for _, name in files),
            power_of_two(kept, parameters.rows_per_part),
        )
        work = partial(merge_bucket, merge=merge, output=output)
        merged = spread(here.cluster, work, range(merge.works), _telling(here, merge.works, "buckets", "sorting"))
        parts = [part for made in merged for part in made]
        manifest = output.commit(parts, totals=_totals(surveys.values(), spilled, parts))
        spills.clear_all()
        return manifest
    finally:
        spills.clear()


def _telling(here: Workspace, total: int, unit: str, note: str) -> Callable[[int], None]:
    return lambda done: here.progress(done, total, unit, note)


def _check(source: str, files: Sequence[tuple[str, str]], spilled: Sequence[Spilled]) -> int:
    """Return how many rows may be kept.

    Raises:
        ManifestError: There is none.
    """
    listed, kept = sum(each.listed for each in spilled), sum(each.kept for each in spilled)
    if not listed:
        named = ", ".join(name for _, name in files[:3]) + (" and others" if len(files) > 3 else "")
        raise ManifestError(f"source {source} lists no rows: {named} is empty; give a list that holds some")
    if not kept:
        reasons = _in_order(sum((each.rejected for each in spilled), Counter()))
        raise ManifestError(f"source {source}: all {listed} rows were rejected ({reasons}); nothing to do")
    return kept


def _in_order(reasons: Counter[str]) -> dict[str, int]:
    return {str(each): reasons[each] for each in Rejection if reasons[each]}


def _totals(surveys: Iterable[Survey], spilled: Sequence[Spilled], parts: Sequence[Part]) -> dict[str, Any]:
    """Return what the manifest keeps for people: rows by reason, values that could not be read, empty files."""
    rejected: Counter[str] = Counter()
    for part in parts:
        rejected.update(part.facts["rejected"])
    unread = sum((each.unread for each in spilled), Counter())
    empty = sum(each.empty for each in surveys)
    totals: dict[str, Any] = {"rejected": _in_order(rejected)}
    if unread:
        totals["unread"] = dict(sorted(unread.items()))
    return totals | ({"empty_files": empty} if empty else {})
