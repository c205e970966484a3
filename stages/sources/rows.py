"""One batch of foreign rows in, our rows out: canonical, named by content, each kept or rejected with a reason."""

import hashlib
import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stages.sources.blocklists import BlockLists
from stages.sources.columns import Layout
from stages.sources.identity import canonical
from stages.sources.pieces import Batch
from stages.sources.values import floats, hashes, known_text, text, whole

LONGEST_URL = 8192
"""Bytes; servers refuse longer request lines, and what is longer is data pasted into a link."""

SCHEMA = pa.schema(
    [
        ("uid", pa.binary(16)),
        ("url_id", pa.binary(16)),
        ("url", pa.string()),
        ("host", pa.string()),
        ("caption", pa.string()),
        ("caption_alt", pa.string()),
        ("language", pa.string()),
        ("license", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("source_similarity", pa.float32()),
        ("source_watermark", pa.float32()),
        ("source_unsafe", pa.float32()),
        ("source_aesthetic", pa.float32()),
        ("expected_hash", pa.string()),
    ]
)
"""A listed row; null is "not known", never a default. `url` is canonical, `caption` is raw."""

REJECTED_SCHEMA = pa.schema(
    [
        ("source_file", pa.string()),
        ("source_row", pa.int64()),
        ("reason", pa.string()),
        ("url_sha256", pa.binary(32)),
    ]
)
"""A rejected row, found again by file and number (from 0, headers not counted)."""

SPILL_SCHEMA = pa.schema(
    [*SCHEMA, ("file", pa.int32()), ("row", pa.int64()), ("reason", pa.string()), ("url_sha256", pa.binary(32))]
)
"""A row on its way to its part: ours where `reason` is null, rejected otherwise; `url_id` chooses the part."""

SCORES = ("similarity", "watermark", "unsafe", "aesthetic")


class Rejection(StrEnum):
    """Why a row is not listed; the whole list."""

    BAD_ROW = "bad_row"
    """The line has too few or too many values, or is no JSON object."""
    BAD_ENCODING = "bad_encoding"
    """The url or the caption is no UTF-8; a lone surrogate is none."""
    NO_URL = "no_url"
    URL_TOO_LONG = "url_too_long"
    NO_CAPTION = "no_caption"
    BLOCKED_URL = "blocked_url"
    BLOCKED_DOMAIN = "blocked_domain"
    REPEAT = "repeat"
    """The same address and caption are listed once already."""


@dataclass(frozen=True)
class Rules:
    """What normalising needs to know; the same for every batch of a source."""

    source: str
    layout: Layout
    language: str | None = None
    block: BlockLists = field(default_factory=BlockLists)


def normalise(batch: Batch, file: int, rules: Rules) -> tuple[pa.Table, Counter[str]]:
    """Return a batch as rows of `SPILL_SCHEMA`, one for each that came in; repeats are not seen yet.

    Args:
        batch: Raw rows.
        file: Number of their file.
        rules: How the source is read.

    Returns:
        The rows, and for each column how many of its values could not be read and became null.
    """
    url, url_wrong = text(batch.columns["url"])
    caption, caption_wrong = text(batch.columns["caption"])
    reason = _reasons(url, caption, url_wrong | caption_wrong)
    good = pa.array([each is None for each in reason], pa.bool_())
    kept, unread = _kept(batch, url, caption, good, file, rules)
    kept, blocked = _blocked(kept, rules.block)
    bad = pc.invert(good)
    whys, links, words = [each for each in reason if each], _raw(batch, "url", bad), _raw(batch, "caption", bad)
    refused = [
        (row, why, *_names(link, said))
        for row, why, link, said in zip(batch.rows.filter(bad).to_pylist(), whys, links, words, strict=True)
    ]
    refused += [(row, Rejection.BAD_ROW, None, _hash128(line)) for row, line in batch.broken]
    return pa.concat_tables([kept, blocked, _refused(refused, file)]), unread


def _reasons(url: pa.Array, caption: pa.Array, wrong: np.ndarray) -> Sequence[Rejection | None]:
    """Return why each row is refused, None where it is not; the first that holds."""
    tests = {
        Rejection.BAD_ENCODING: wrong,
        Rejection.NO_URL: _blank(url),
        Rejection.URL_TOO_LONG: _true(pc.greater(pc.binary_length(url), LONGEST_URL)),
        Rejection.NO_CAPTION: _blank(caption),
    }
    reason = np.full(len(url), None, dtype=object)
    for name, mask in reversed(tests.items()):
        reason[mask] = name
    return reason.tolist()


def _true(mask: pa.Array) -> np.ndarray:
    return np.asarray(mask.fill_null(False).to_numpy(zero_copy_only=False), dtype=bool)


def _blank(column: pa.Array) -> np.ndarray:
    return _true(pc.or_(pc.equal(pc.binary_length(column).fill_null(0), 0), pc.utf8_is_space(column).fill_null(True)))


def _kept(
    batch: Batch, url: pa.Array, caption: pa.Array, good: pa.Array, file: int, rules: Rules
) -> tuple[pa.Table, Counter[str]]:
    captions = caption.filter(good)
    uids, ids, urls, hosts = _identities(url.filter(good), captions, rules.source)
    count = len(uids)
    columns: dict[str, pa.Array] = {
        "uid": pa.array(uids, pa.binary(16)),
        "url_id": pa.array(ids, pa.binary(16)),
        "url": pa.array(urls, pa.string()),
        "host": pa.array(hosts, pa.string()),
        "caption": captions,
        "file": pa.array(np.full(count, file, np.int32)),
        "row": batch.rows.filter(good),
    }
    raw = {role: column.filter(good) for role, column in batch.columns.items()}
    unread: Counter[str] = Counter()
    for role in ("caption_alt", "language", "license"):
        if role in raw:
            columns[role] = known_text(raw[role], rules.layout.unknown_text)
    if rules.language:
        language = columns.get("language", pa.nulls(count, pa.string()))
        columns["language"] = pc.fill_null(language, rules.language)
    sides = ("height", "width") if rules.layout.swapped else ("width", "height")
    for ours, theirs in zip(("width", "height"), sides, strict=True):
        if theirs in raw:
            columns[ours], unread[theirs] = whole(raw[theirs])
    for score in SCORES:
        if score in raw:
            columns[f"source_{score}"], unread[score] = floats(raw[score], rules.layout.not_known.get(score, ()))
    if "hash" in raw:
        columns["expected_hash"], unread["hash"] = hashes(raw["hash"], rules.layout.hash_kind)
    return _table(columns, count), +unread


def _table(columns: dict[str, pa.Array], count: int) -> pa.Table:
    return pa.table(
        [columns[each.name] if each.name in columns else pa.nulls(count, each.type) for each in SPILL_SCHEMA],
        schema=SPILL_SCHEMA,
    )


def _identities(
    url: pa.Array, caption: pa.Array, source: str
) -> tuple[list[bytes], list[bytes], list[str], list[str]]:
    """Return (uid, url_id, canonical url, host) of each row: `uid_of` and `url_id_of`, hashed in one go."""
    links = [canonical(each) for each in url.to_pylist()]
    urls, hosts = [link for link, _ in links], [host for _, host in links]
    # The hot loop of the whole stage: 8 bytes of length before each field, as `uid_of` has it.
    sha256, frame, head = hashlib.sha256, struct.Struct(">Q").pack, _framed(source.encode())
    framed = [frame(len(data)) + data for data in map(str.encode, urls)]
    ids = [sha256(each).digest()[:16] for each in framed]
    words = caption.cast(pa.binary()).to_pylist()
    uids = [
        sha256(head + each + frame(len(said)) + said).digest()[:16] for each, said in zip(framed, words, strict=True)
    ]
    return uids, ids, urls, hosts


def _framed(data: bytes) -> bytes:
    return len(data).to_bytes(8, "big") + data


def _hash128(data: bytes) -> bytes:
    return hashlib.sha256(_framed(data)).digest()[:16]


def _blocked(kept: pa.Table, block: BlockLists) -> tuple[pa.Table, pa.Table]:
    """Split off the rows that an operator's lists name."""
    if not block or not kept.num_rows:
        return kept, SPILL_SCHEMA.empty_table()
    why = [
        block.blocks(link, host, url_id)
        for link, host, url_id in zip(*(kept[name].to_pylist() for name in ("url", "host", "url_id")), strict=True)
    ]
    named = pa.array([each is not None for each in why])
    gone = kept.filter(named)
    digests = [hashlib.sha256(link.encode()).digest() for link in gone["url"].to_pylist()]
    columns = {name: gone[name].combine_chunks() for name in ("url_id", "file", "row")}
    columns["reason"] = pa.array([each for each in why if each], pa.string())
    columns["url_sha256"] = pa.array(digests, pa.binary(32))
    return kept.filter(pc.invert(named)), _table(columns, gone.num_rows)


def _raw(batch: Batch, role: str, which: pa.Array) -> list[bytes | None]:
    column = batch.columns[role].filter(which)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return list(column.cast(pa.large_binary()).to_pylist())


def _names(url: bytes | None, caption: bytes | None) -> tuple[bytes | None, bytes]:
    """Return (hash of a refused row's url, what chooses its part): content alone decides both."""
    try:
        link = canonical((url or b"").decode())[0].encode() if len(url or b"") <= LONGEST_URL else url or b""
    except UnicodeDecodeError:
        link = url or b""
    return (hashlib.sha256(link).digest() if link else None), _hash128(link or caption or b"")


def _refused(rows: Sequence[tuple[int, Rejection, bytes | None, bytes]], file: int) -> pa.Table:
    columns = {
        "url_id": pa.array([each[3] for each in rows], pa.binary(16)),
        "file": pa.array(np.full(len(rows), file, np.int32)),
        "row": pa.array([each[0] for each in rows], pa.int64()),
        "reason": pa.array([str(each[1]) for each in rows], pa.string()),
        "url_sha256": pa.array([each[2] for each in rows], pa.binary(32)),
    }
    return _table(columns, len(rows))
