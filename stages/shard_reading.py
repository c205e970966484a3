"""Where the bytes of shards come from: copies on the local disk, or ranges of the store behind a bounded cache."""

import hashlib
import io
import os
import tempfile
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from infra.storage import Store
from stages.held_out import Fingerprints, fingerprint_of_members, fingerprints_between, fingerprints_of, stacked
from stages.manifest import Manifest, ManifestError, Part
from stages.shard_index import KNOWN_BY, PICTURES, cuts, places_in, read_index
from stages.tars import MEMBERS, TarError, samples_of
from stages.workspace import read_file

OnCorrupt = Literal["fail", "skip"]
BLOCK_BYTES = 4 << 20
"""Neighbouring samples are read together up to this size: few requests, and little too much for one sample."""

KINDS = (*MEMBERS, PICTURES)
"""What is found in a sample: single members, and its numbered pictures as one stretch."""
Places = npt.NDArray[np.int64]
"""(offset, size) of one of these kinds, shape (samples, 2); -1 where a sample lacks it."""


class Contents(NamedTuple):
    """What a shard holds: keys in its order, and where their members are, by suffix."""

    keys: list[str]
    places: dict[str, Places]
    fingerprints: Fingerprints
    left_out: list[str]
    """Samples that are damaged and, by the policy, not read."""


def _contents(
    rows: list[tuple[str, dict[str, tuple[int, int]]]], fingerprints: Fingerprints, left_out: list[str]
) -> Contents:
    nowhere = (-1, -1)
    places = {
        suffix: np.array([found.get(suffix, nowhere) for _, found in rows], dtype=np.int64).reshape(-1, 2)
        for suffix in KINDS
    }
    return Contents([key for key, _ in rows], places, fingerprints, left_out)


class Copies:
    """Shards copied to a folder, each hash checked before it is parsed."""

    def __init__(self, store: Store, shards: Manifest, folder: Path, on_corrupt: OnCorrupt = "fail") -> None:
        """Copy nothing yet."""
        folder.mkdir(parents=True, exist_ok=True)
        self._store, self._shards, self._folder, self._on_corrupt = store, shards, folder, on_corrupt
        self._paths: list[Path] = []

    def open(self, part: Part) -> Contents:
        """Copy the next shard and return what it holds.

        Raises:
            ManifestError: It is missing, differs from its manifest or holds what no shard of ours does; under the
                policy `skip` a difference only where not even its index can be relied on.
        """
        path = self._folder / f"{part.key}.tar"
        self._paths.append(path)
        try:
            data = read_file(self._store, self._shards, part.files["tar"])
        except FileNotFoundError:
            raise _missing(self._shards, self._shards.key(part.files["tar"])) from None
        except ManifestError:
            if self._on_corrupt == "fail":
                raise
            return self._undamaged(part, path)
        path.write_bytes(data)
        try:
            rows, fingerprints = [], []
            for sample in samples_of(io.BytesIO(data)):
                rows.append((sample.key, places_in(sample)))
                found = {each.suffix: each.data for each in sample.members.values()}
                fingerprints.append(fingerprint_of_members(found))
            return _contents(rows, stacked(fingerprints), [])
        except TarError as error:
            raise ManifestError(f"shard {part.key}: {error}") from error

    def _undamaged(self, part: Part, path: Path) -> Contents:
        """Return the samples of a damaged shard whose own hashes still hold; its index knows them."""
        data = self._store.read(self._shards.key(part.files["tar"]))
        path.write_bytes(data)
        index = read_index(self._store, self._shards, part)
        whole = _hashes_hold(index, data)
        rows = [(row["uid"].hex(), _places(row)) for row in index.to_pylist()]
        kept = [row for row, good in zip(rows, whole, strict=True) if good]
        left_out = [key for (key, _), good in zip(rows, whole, strict=True) if not good]
        return _contents(kept, _fingerprints(self._shards, part, index)[whole], left_out)

    def read(self, shard: int, offset: int, size: int) -> bytes:
        """Return bytes of a shard."""
        with self._paths[shard].open("rb") as file:
            file.seek(offset)
            return file.read(size)


class Ranges:
    """Shards left in the store: blocks of samples are read as they are needed, and kept up to a number of bytes.

    The folder may be shared by processes: each training process has one of its own, which its data workers share.
    What one has read the others find; each block is written beside its name and moved there, and removed, oldest
    use first, when the folder holds too much.
    """

    def __init__(self, store: Store, shards: Manifest, folder: Path, cache_bytes: int) -> None:
        """Read nothing yet."""
        folder.mkdir(parents=True, exist_ok=True)
        self._store, self._shards, self._folder, self._cache_bytes = store, shards, folder, cache_bytes
        self._blocks: list[_Blocks] = []
        self._last: tuple[tuple[int, int], bytes] = ((-1, -1), b"")

    def open(self, part: Part) -> Contents:
        """Read the index of the next shard, and nothing of the shard itself.

        Raises:
            ManifestError: It has no index, or a damaged one.
        """
        index = read_index(self._store, self._shards, part)
        self._blocks.append(_Blocks.of(self._shards.key(part.files["tar"]), index))
        fingerprints = _fingerprints(self._shards, part, index)
        return _contents([(row["uid"].hex(), _places(row)) for row in index.to_pylist()], fingerprints, [])

    def read(self, shard: int, offset: int, size: int) -> bytes:
        """Return bytes of a shard, of samples whose hashes were checked when they arrived.

        Raises:
            ManifestError: The shard is missing, or a sample of the block differs from its index.
        """
        blocks = self._blocks[shard]
        number = bisect_right(blocks.starts, offset) - 1
        block, start = (shard, number), offset - blocks.starts[number]
        if self._last[0] != block:
            self._last = (block, self._block(shard, number))
        return self._last[1][start : start + size]

    def _block(self, shard: int, number: int) -> bytes:
        path = self._folder / f"{shard:06d}-{number:06d}.block"
        try:
            data = path.read_bytes()
            os.utime(path)
            return data
        except FileNotFoundError:
            data = self._fetched(self._blocks[shard], number)
        with tempfile.NamedTemporaryFile(dir=self._folder, suffix=".part", delete=False) as file:
            file.write(data)
        os.replace(file.name, path)
        self._make_room()
        return data

    def _fetched(self, blocks: "_Blocks", number: int) -> bytes:
        start, end, first, last = blocks.borders(number)
        try:
            data = self._store.read_range(blocks.tar, start, end)
        except FileNotFoundError:
            raise _missing(self._shards, blocks.tar) from None
        for row in range(first, last):
            at = int(blocks.samples[row, 0]) - start
            found = hashlib.sha256(data[at : at + int(blocks.samples[row, 1])]).digest()
            if found != blocks.hashes[row]:
                raise ManifestError(
                    f"sample {row} of {blocks.tar} differs from its index; "
                    f"`internvl verify {self._shards.ref}` lists damage, then make that artifact again"
                )
        return data

    def _make_room(self) -> None:
        """Remove the blocks that were not used for longest until the rest fits."""
        found = sorted(_files(self._folder), reverse=True)
        room = self._cache_bytes
        for _, size, path in found:
            room -= size
            if room < 0:
                path.unlink(missing_ok=True)


class _Blocks(NamedTuple):
    """The blocks of a shard: where each begins, and the samples with their hashes."""

    tar: str
    starts: list[int]
    firsts: list[int]
    samples: Places
    """(offset, bytes) of each sample's stretch, shape (samples, 2)."""
    hashes: list[bytes]

    @classmethod
    def of(cls, tar: str, index: pa.Table) -> "_Blocks":
        samples = np.stack([index[name].to_numpy() for name in ("offset", "bytes")], axis=1).astype(np.int64)
        firsts = [start for start, _ in cuts(samples[:, 1].tolist(), len(samples), BLOCK_BYTES)]
        return cls(tar, samples[firsts, 0].tolist(), firsts, samples, index["sample_sha256"].to_pylist())

    def borders(self, number: int) -> tuple[int, int, int, int]:
        """Return (first byte, end, first sample, end) of a block."""
        first = self.firsts[number]
        last = self.firsts[number + 1] if number + 1 < len(self.firsts) else len(self.samples)
        return int(self.samples[first, 0]), int(self.samples[last - 1].sum()), first, last


def _files(folder: Path) -> Iterator[tuple[float, int, Path]]:
    """Yield (last use, bytes, path) of the blocks that are there; another process may remove one meanwhile."""
    for path in folder.glob("*.block"):
        try:
            stat = path.stat()
        except FileNotFoundError:
            continue
        yield stat.st_mtime, stat.st_size, path


def _missing(shards: Manifest, tar: str) -> ManifestError:
    return ManifestError(
        f"a shard of {shards.ref} is missing, nothing stands at {tar}; `internvl verify {shards.ref}` lists what is "
        f"gone, then run stage {shards.stage} again with --force"
    )


def _fingerprints(shards: Manifest, part: Part, index: pa.Table) -> Fingerprints:
    """Return the fingerprints of a shard's samples, without reading a picture.

    Raises:
        ManifestError: Its index does not know them.
    """
    if KNOWN_BY in index.column_names:
        return stacked([fingerprints_between(each) for each in index[KNOWN_BY].to_pylist()])
    if index["sha256"].null_count:
        raise ManifestError(
            f"the index of shard {part.key} of {shards.ref} does not tell the hash of every picture, which says what "
            "is kept aside; write it again: internvl rerun write_shards --force"
        )
    return fingerprints_of(index["sha256"].to_pylist())


def _hashes_hold(index: pa.Table, shard: bytes) -> list[bool]:
    """Return for each sample of an index whether its stretch of the shard is what was written."""
    return [
        hashlib.sha256(shard[row["offset"] : row["offset"] + row["bytes"]]).digest() == row["sample_sha256"]
        for row in index.select(["offset", "bytes", "sample_sha256"]).to_pylist()
    ]


def _places(row: dict[str, int]) -> dict[str, tuple[int, int]]:
    """Return where the members of a sample lie, by its row of an index."""
    return {
        suffix: (row[f"{suffix}_offset"], row[f"{suffix}_bytes"])
        for suffix in KINDS
        if row.get(f"{suffix}_offset") is not None
    }
