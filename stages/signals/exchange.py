"""Questions that a part cannot answer alone: asked by all parts, answered bucket by bucket, read back.

A part writes rows of 64-bit numbers, sorted by their first; the high bits of that first number are the
bucket. Whoever answers a bucket holds every part's rows that share a first number, and gives each row one
number back. So memory is that of one bucket, and neither the number of workers nor the order of parts
changes an answer.

Layout of an asked file: offsets of each (bucket, question) and the end, 8 bytes each, then the rows.
Layout of an answer file: offsets of each part and the end, then answers in the order of the rows.
"""

import io
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from infra.cluster import InlineCluster
from infra.storage import Store
from stages.signals.keys import Ints, Keys
from stages.sources.spill import power_of_two
from stages.workspace import Output, Workspace

BUCKET_ROWS = 1 << 20
"""Rows that one bucket should hold: what an answer keeps in memory."""
MOST_BUCKETS = 1 << 12


class Kind(NamedTuple):
    """A question: how many numbers a row has, who answers, how several answers make one, rows per sample."""

    width: int
    answer: Callable[[Keys], Ints]
    merge: Callable[..., npt.NDArray[Any]]
    rows_per_sample: int = 1


class Asked(NamedTuple):
    """What one part asks.

    Attributes:
        rows: Shape (rows, width), sorted by the first column.
        at: Shape (samples, n): which rows speak of a sample, -1 for none.
    """

    rows: Keys
    at: Ints


@dataclass(frozen=True)
class Exchange:
    """Where questions and answers wait; safe to send to workers."""

    store: Store
    folder: str
    kinds: Mapping[str, Kind]
    buckets: int
    parts: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, here: Workspace, output: Output, kinds: Mapping[str, Kind], rows: int, parts: tuple[str, ...]
    ) -> "Exchange":
        """Return an exchange in this process's scratch, or in the store where other machines must see it."""
        run = uuid.uuid4().hex[:12]
        buckets = min(MOST_BUCKETS, power_of_two(max(1, rows), BUCKET_ROWS))
        if isinstance(here.cluster, InlineCluster):
            return cls(Store(str(here.scratch)), f"spill/{run}", kinds, buckets, parts)
        return cls(here.store, output.ref.key(f"spill/{run}"), kinds, buckets, parts)

    def bucket_of(self, keys: Keys) -> Ints:
        """Return the bucket of each first number: its high bits."""
        bits = self.buckets.bit_length() - 1
        return (keys >> np.uint64(64 - bits)).astype(np.int64) if bits else np.zeros(len(keys), dtype=np.int64)

    def ask(self, part: str, asked: Mapping[str, Asked], kept: Mapping[str, npt.NDArray[Any]]) -> None:
        """Write what a part asks, and what it wants to find again with the answers."""
        pieces: list[bytes] = []
        bounds = {
            name: np.searchsorted(self.bucket_of(asked[name].rows[:, 0]), np.arange(self.buckets + 1))
            for name in self.kinds
        }
        for bucket in range(self.buckets):
            for name in self.kinds:
                start, stop = bounds[name][bucket : bucket + 2]
                pieces.append(asked[name].rows[start:stop].astype("<u8").tobytes())
        self.store.write(self._asked(part), _indexed(pieces))
        sink = io.BytesIO()
        at = {f"at.{name}": asked[name].at for name in self.kinds}
        np.savez(sink, allow_pickle=False, **at, **kept)
        self.store.write(f"{self.folder}/kept/{part}.npz", sink.getvalue())

    def answer(self, bucket: int) -> None:
        """Answer everything of one bucket; twice writes the same."""
        found = [self._rows(part, bucket) for part in self.parts]
        answers: list[list[bytes]] = [[] for _ in self.parts]
        for name, kind in self.kinds.items():
            rows = [part[name] for part in found]
            given = kind.answer(np.concatenate(rows)) if any(len(each) for each in rows) else np.zeros(0, np.int64)
            for part, each in zip(answers, np.split(given, np.cumsum([len(r) for r in rows])[:-1]), strict=True):
                part.append(each.astype("<i8").tobytes())
        self.store.write(self._answers(bucket), _indexed([b"".join(part) for part in answers]))

    def read(self, part: str) -> tuple[dict[str, npt.NDArray[np.float32]], dict[str, npt.NDArray[Any]]]:
        """Return the answer to each question for every sample of a part, NaN for none, and what it kept."""
        number = self.parts.index(part)
        heap: dict[str, list[Ints]] = {name: [] for name in self.kinds}
        sizes = self._sizes(part)
        for bucket in range(self.buckets):
            data = np.frombuffer(_slice(self.store, self._answers(bucket), number, 1), "<i8").astype(np.int64)
            ends = np.cumsum(sizes[bucket])
            for name, each in zip(self.kinds, np.split(data, ends[:-1]), strict=True):
                heap[name].append(each)
        with np.load(io.BytesIO(self.store.read(f"{self.folder}/kept/{part}.npz")), allow_pickle=False) as file:
            kept = {name: file[name] for name in file.files}
        merged = {}
        for name, kind in self.kinds.items():
            at, given = kept.pop(f"at.{name}"), np.concatenate([*heap[name], np.zeros(1, np.int64)])
            values = kind.merge(np.where(at >= 0, given[at], 0), axis=1, initial=0)
            merged[name] = np.where((at >= 0).any(axis=1), values, np.nan).astype(np.float32)
        return merged, kept

    def clear(self) -> None:
        """Remove this exchange; a rival run's own stays."""
        self.store.remove(self.folder)

    def clear_all(self) -> None:
        """Remove also what killed runs of the artifact left behind; for when it stands."""
        self.store.remove(self.folder.rpartition("/")[0])

    def _asked(self, part: str) -> str:
        return f"{self.folder}/asked/{part}.bin"

    def _answers(self, bucket: int) -> str:
        return f"{self.folder}/answers/{bucket:06d}.bin"

    def _sizes(self, part: str) -> Ints:
        """Return the rows that a part asked, shape (buckets, questions)."""
        count = self.buckets * len(self.kinds)
        index = np.frombuffer(self.store.read_range(self._asked(part), 0, 8 * (count + 1)), "<u8").astype(np.int64)
        widths = np.array([kind.width for kind in self.kinds.values()])
        return np.asarray(np.diff(index).reshape(self.buckets, -1) // (8 * widths))

    def _rows(self, part: str, bucket: int) -> dict[str, Keys]:
        first, key = bucket * len(self.kinds), self._asked(part)
        index = _index(self.store, key, first, len(self.kinds))
        data = self.store.read_range(key, int(index[0]), int(index[-1])) if index[0] < index[-1] else b""
        cuts = index - index[0]
        return {
            name: np.frombuffer(data[cuts[n] : cuts[n + 1]], "<u8").astype(np.uint64).reshape(-1, kind.width)
            for n, (name, kind) in enumerate(self.kinds.items())
        }


def _indexed(pieces: list[bytes]) -> bytes:
    offsets = np.cumsum([8 * (len(pieces) + 1), *(len(piece) for piece in pieces)])
    return b"".join([offsets.astype("<u8").tobytes(), *pieces])


def _index(store: Store, key: str, first: int, count: int) -> Ints:
    return np.frombuffer(store.read_range(key, 8 * first, 8 * (first + count + 1)), "<u8").astype(np.int64)


def _slice(store: Store, key: str, first: int, count: int) -> bytes:
    index = _index(store, key, first, count)
    return store.read_range(key, int(index[0]), int(index[-1])) if index[0] < index[-1] else b""
