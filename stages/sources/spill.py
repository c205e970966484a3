"""Rows on their way from files to parts: each spill holds rows sorted by bucket, so that a bucket is one read.

Layout of a spill: `buckets + 1` little-endian offsets of 8 bytes, then for each bucket
the size of an Arrow record batch (8 bytes) and the batch, compressed.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from infra.cluster import Cluster, InlineCluster
from infra.storage import Store
from stages.sources.rows import SPILL_SCHEMA
from stages.workspace import Output, Workspace

MOST_BUCKETS = 1 << 12
BUCKET_ROWS = 1 << 19
"""Rows that one bucket should hold at most, as far as the survey can tell: what a merge keeps in memory."""
SPILL_ROWS = 1 << 19
"""Rows that a reader keeps in memory before it spills them; fewer where they are long."""
SPILL_BYTES = 1 << 29

_CODEC = "lz4"


@dataclass(frozen=True)
class Spills:
    """Where rows wait; safe to send to workers."""

    store: Store
    folder: str
    buckets: int

    def write(self, name: str, rows: pa.Table) -> str:
        """Write rows, in buckets by the first bits of `url_id`; return the key. Twice writes the same."""
        rows = rows.combine_chunks()
        bucket = leading_bits(rows["url_id"], self.buckets).astype(np.uint16)
        order = np.argsort(bucket, kind="stable")
        table, bounds = rows.take(order), np.searchsorted(bucket[order], np.arange(self.buckets + 1))
        pieces, offsets, size = [], [], 8 * (self.buckets + 1)
        for number in range(self.buckets):
            offsets.append(size)
            start, stop = int(bounds[number]), int(bounds[number + 1])
            if start == stop:
                continue
            (batch,) = table.slice(start, stop - start).to_batches()
            plain = batch.serialize()
            pieces.append(plain.size.to_bytes(8, "little") + pa.compress(plain, _CODEC, asbytes=True))
            size += len(pieces[-1])
        index = np.array([*offsets, size], "<u8").tobytes()
        key = f"{self.folder}/{name}.spill"
        self.store.write(key, b"".join([index, *pieces]))
        return key

    def read(self, keys: list[str], first: int, stop: int) -> pa.Table:
        """Return all rows of buckets `first` up to `stop`."""
        found = [batch for key in keys for batch in self._batches(key, first, stop)]
        return pa.Table.from_batches(found, schema=SPILL_SCHEMA).combine_chunks()

    def clear(self) -> None:
        """Remove all spills of this run."""
        self.store.remove(self.folder)

    def clear_all(self) -> None:
        """Remove all spills of the artifact, also those that a killed run left behind; for when it stands."""
        self.store.remove(self.folder.rpartition("/")[0])

    def _batches(self, key: str, first: int, stop: int) -> Iterator[pa.RecordBatch]:
        index = np.frombuffer(self.store.read_range(key, 8 * first, 8 * (stop + 1)), "<u8").astype(np.int64)
        if index[0] == index[-1]:
            return
        data = memoryview(self.store.read_range(key, int(index[0]), int(index[-1])))
        for start, end in zip(index[:-1] - index[0], index[1:] - index[0], strict=True):
            if start < end:
                size = int.from_bytes(data[start : start + 8], "little")
                yield pa.ipc.read_record_batch(pa.decompress(data[start + 8 : end], size, _CODEC), SPILL_SCHEMA)


def leading_bits(ids: pa.ChunkedArray, buckets: int) -> npt.NDArray[np.int64]:
    """Return the bucket of each 128-bit name: its first bits, `buckets` being a power of two up to 2**32."""
    words = name_bytes(ids)[:, :4].copy().view(">u4").reshape(-1).astype(np.int64)
    return words >> (32 - (buckets.bit_length() - 1))


def name_bytes(names: pa.ChunkedArray) -> npt.NDArray[np.uint8]:
    """Return a column of 128-bit names as bytes, shape (rows, 16)."""
    column = names.combine_chunks()
    if not len(column):
        return np.empty((0, 16), np.uint8)
    return np.frombuffer(column.buffers()[1], np.uint8)[16 * column.offset :][: 16 * len(column)].reshape(-1, 16)


def power_of_two(rows: int, most: int) -> int:
    """Return the smallest power of two of buckets that hold at most so many rows each, on the average."""
    return 1 << max(0, (-(-rows // most) - 1).bit_length())


def spills_for(here: Workspace, output: Output, rows: int) -> Spills:
    """Return where the rows of a source wait: the scratch of this process, or the store where others must see it."""
    buckets = min(MOST_BUCKETS, power_of_two(max(1, rows), BUCKET_ROWS))
    run = uuid.uuid4().hex[:12]
    if _alone(here.cluster):
        return Spills(Store(str(here.scratch)), f"spill/{run}", buckets)
    return Spills(here.store, output.ref.key(f"spill/{run}"), buckets)


def _alone(cluster: Cluster) -> bool:
    return isinstance(cluster, InlineCluster)
