"""Spilled rows of one bucket into parts: sorted, exact repeats rejected, rows of one address together."""

import hashlib
import io
from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stages.manifest import Ledger, Part, digest_of
from stages.sources.rows import REJECTED_SCHEMA, SCHEMA, Rejection
from stages.sources.spill import Spills, leading_bits, name_bytes
from stages.workspace import Output, parquet_bytes


@dataclass(frozen=True)
class Merge:
    """What is the same for every bucket."""

    spills: Spills
    keys: tuple[str, ...]
    files: tuple[str, ...]
    parts: int

    @property
    def works(self) -> int:
        """Return into how many works the merging is cut: as many as parts, or buckets where these are fewer."""
        return min(self.parts, self.spills.buckets)


def merge_bucket(work: int, merge: Merge, output: Output) -> list[Part]:
    """Publish the parts of one work; which these are, and their `rows`, follow from content alone."""
    wide = merge.spills.buckets // merge.works
    rows = merge.spills.read(list(merge.keys), work * wide, (work + 1) * wide)
    rows = rows.take(_order(rows))
    # Parts are first bits of what the rows are sorted by: each is one stretch.
    number = leading_bits(rows["url_id"], merge.parts)
    starts = np.flatnonzero(np.diff(number, prepend=-1)).tolist()
    made = []
    for start, stop in zip(starts, [*starts[1:], len(number)], strict=True):
        key = f"{number[start]:0{max(6, len(str(merge.parts - 1)))}d}"
        made.append(_publish(key, rows.slice(start, stop - start), merge.files, output))
    return made


def _order(rows: pa.Table) -> npt.NDArray[np.int64]:
    """Return the order by address and uid: by the first half of the address, and in full where that is equal."""
    address, uid = _words(rows["url_id"]), _words(rows["uid"])
    order = np.argsort(address[:, 0], kind="stable")
    first = address[order, 0]
    tied = np.zeros(len(order) + 1, bool)
    tied[1:-1] = first[1:] == first[:-1]
    tied = tied[1:] | tied[:-1]
    some = order[tied]
    order[tied] = some[np.lexsort((uid[some, 1], uid[some, 0], address[some, 1], address[some, 0]))]
    return order


def _words(names: pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    """Return 128-bit names as two numbers each, shape (rows, 2)."""
    return name_bytes(names).view(">u8").astype(np.uint64)


def _publish(key: str, rows: pa.Table, files: tuple[str, ...], output: Output) -> Part:
    count, refused = rows.num_rows, rows.slice(0, 0)
    if rows["reason"].null_count < count:
        reason = pc.is_valid(rows["reason"])
        rows, refused = rows.filter(pc.invert(reason)), rows.filter(reason)
    listed, repeats = _distinct(rows)
    rejected = _rejected(refused, repeats, files)
    reasons = dict(sorted(Counter(rejected["reason"].to_pylist()).items()))
    made = {"rows": (f"{key}.parquet", _rows_bytes(listed.select(SCHEMA.names)))}
    # The slice is named by what it holds, not by the files that it came from, so that order and cut of a source
    # leave parts as they are; only `rejected` says where in the source a row stood.
    digest = digest_of([hashlib.sha256(made["rows"][1]).hexdigest(), reasons])
    if rejected.num_rows:
        made["rejected"] = (f"rejected/{key}.parquet", parquet_bytes(rejected))
    ledger = Ledger(listed=count, kept=listed.num_rows, rejected=rejected.num_rows)
    return output.part(key, digest, ledger, made, {"rejected": reasons})


def _rows_bytes(rows: pa.Table) -> bytes:
    """Return rows as parquet; a dictionary only where values come again, for names and links never do."""
    sink = io.BytesIO()
    pq.write_table(
        rows.combine_chunks(), sink, compression="zstd", version="2.6", row_group_size=1 << 16,
        use_dictionary=["host", "language", "license"],
    )  # fmt: skip
    return sink.getvalue()


def _distinct(rows: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Return (each uid of sorted rows once, the repeats)."""
    uid = _words(rows["uid"])
    same = np.zeros(rows.num_rows, bool)
    same[1:] = (uid[1:] == uid[:-1]).all(axis=1)
    if not same.any():
        return rows, rows.slice(0, 0)
    # Which of several equal rows stays must not hang on the order of files: the one whose values come first.
    group = np.cumsum(~same)
    mixed = np.flatnonzero(np.isin(group, group[same]))
    names = [(name, "ascending") for name in ("url_id", "uid", *SCHEMA.names[4:], "file", "row")]
    order = np.arange(rows.num_rows)
    order[mixed] = mixed[pc.sort_indices(rows.take(mixed), sort_keys=names).to_numpy()]
    rows = rows.take(order)
    return rows.filter(pa.array(~same)), rows.filter(pa.array(same))


def _rejected(refused: pa.Table, repeats: pa.Table, files: tuple[str, ...]) -> pa.Table:
    digests = [hashlib.sha256(url.encode()).digest() for url in repeats["url"].to_pylist()]
    found = pa.concat_tables(
        [
            refused.select(["file", "row", "reason", "url_sha256"]),
            pa.table(
                {
                    "file": repeats["file"],
                    "row": repeats["row"],
                    "reason": pa.array([str(Rejection.REPEAT)] * repeats.num_rows, pa.string()),
                    "url_sha256": pa.array(digests, pa.binary(32)),
                }
            ),
        ]
    ).sort_by([("file", "ascending"), ("row", "ascending")])
    names = pa.array(files, pa.string()).take(found["file"].combine_chunks())
    return pa.table([names, found["row"], found["reason"], found["url_sha256"]], schema=REJECTED_SCHEMA)
