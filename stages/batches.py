"""Samples by number: which of them a step trains on, and how they are read.

The global batch of a step does not know how many processes share it, so a run that is stopped,
resumed or moved to more or fewer processes sees exactly the samples the uninterrupted one would.
"""

import hashlib
import io
import json
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path

import numpy as np
import numpy.typing as npt

from infra.storage import Store
from stages.held_out import Fingerprints, stacked
from stages.manifest import Manifest, ManifestError
from stages.shard_index import PICTURES
from stages.shard_reading import KINDS, Copies, OnCorrupt, Places, Ranges
from stages.tars import TarError, members_of
from stages.workspace import Opened, Workspace


def generator_of(*path: int | str) -> np.random.Generator:
    """Return the random numbers that belong to a place, such as (seed, "mask", step, row); equal everywhere."""
    key = hashlib.sha256("/".join(map(str, path)).encode()).digest()
    return np.random.default_rng(int.from_bytes(key[:16], "big"))


@lru_cache(maxsize=8)
def permutation(seed: int | str, epoch: int, samples: int) -> npt.NDArray[np.int64]:
    """Return the order of one epoch."""
    return generator_of(seed, "epoch", epoch).permutation(samples)


def share_of(rows: Sequence[int], rank: int, processes: int) -> list[int]:
    """Return the rows of one process: a contiguous piece, all of equal length.

    Raises:
        ManifestError: The global batch does not divide by the number of processes.
    """
    if len(rows) % processes:
        raise ManifestError(
            f"global_batch_size {len(rows)} does not divide by {processes} processes; choose one that does"
        )
    each = len(rows) // processes
    return list(rows[rank * each : (rank + 1) * each])


class ShardedSamples:
    """The samples of WebDataset shards, by number, in the order of the shards and of the samples inside them."""

    def __init__(
        self,
        store: Store,
        shards: Manifest,
        folder: Path,
        cache_bytes: int | None = None,
        on_corrupt: OnCorrupt = "fail",
    ) -> None:
        """Copy the shards into a folder, or leave them in the store and keep up to `cache_bytes` of them there.

        Args:
            store: Where they lie.
            shards: Which.
            folder: On the local disk.
            cache_bytes: Bytes of this folder; all shards are copied when left out.
            on_corrupt: `fail` refuses damaged shards; `skip` leaves out the samples that are damaged, by their
                hashes, before anything is numbered, and names them in `left_out`.

        Raises:
            ManifestError: A shard differs from its manifest, or holds what no shard of ours does.
        """
        if cache_bytes is not None and on_corrupt == "skip":
            raise ManifestError(
                f"{shards.ref} is read by range, which meets damage in the middle of training, where leaving out "
                "one sample would move all others; raise cache_bytes until it is copied, or use on_corrupt=fail"
            )
        self.name = shards.ref.name
        self.keys: list[str] = []
        self.sizes: list[int] = []
        """Samples of each shard."""
        self.left_out: list[str] = []
        self._shards: Copies | Ranges = (
            Copies(store, shards, folder, on_corrupt)
            if cache_bytes is None
            else Ranges(store, shards, folder, cache_bytes)
        )
        places: dict[str, list[Places]] = {suffix: [] for suffix in KINDS}
        fingerprints = [stacked([])]
        for part in shards.parts:
            found = self._shards.open(part)
            self.keys += found.keys
            self.sizes.append(len(found.keys))
            self.left_out += found.left_out
            fingerprints.append(found.fingerprints)
            for suffix in KINDS:
                places[suffix].append(found.places[suffix])
        self._starts = [0, *accumulate(self.sizes)]
        self._places = {suffix: np.concatenate(found) for suffix, found in places.items() if found}
        self.fingerprints: Fingerprints = np.concatenate(fingerprints)
        """What says of each sample whether it is kept aside."""

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.keys)

    def told_by(self, number: int) -> tuple[int, int]:
        """Return the lowest and the highest fingerprint of a sample's pictures."""
        lowest, highest = self.fingerprints[number].tolist()
        return lowest, highest

    def read(self, number: int, suffix: str) -> bytes:
        """Return one member of a sample, such as `jpg`, `txt` or `json`.

        Raises:
            ManifestError: The sample has no such member, or is damaged.
        """
        offset, size = self._places[suffix][number].tolist()
        if offset < 0:
            raise ManifestError(f"sample {self.keys[number]} has no .{suffix}; make the shards again")
        return self._shards.read(bisect_right(self._starts, number) - 1, offset, size)

    def pictures(self, number: int) -> list[bytes]:
        """Return the pictures of a sample as they were stored: none, its `jpg`, or `0.jpg`, `1.jpg`, ... in order.

        Raises:
            ManifestError: They are damaged.
        """
        if self._places["jpg"][number][0] >= 0:
            return [self.read(number, "jpg")]
        if self._places[PICTURES][number][0] < 0:
            return []
        stretch = self.read(number, PICTURES)
        try:
            return [member.data for member in members_of(io.BytesIO(stretch), whole=False)]
        except TarError as error:
            raise ManifestError(f"sample {self.keys[number]}: {error}") from error

    def facts(self, number: int) -> dict[str, object]:
        """Return a sample's JSON: uid, source, language, caption."""
        found: dict[str, object] = json.loads(self.read(number, "json"))
        return found


def open_samples(here: Workspace, shards: Manifest) -> ShardedSamples:
    """Return an artifact's samples as placement and policy say: copied where they fit, else by range.

    Raises:
        ManifestError: As `ShardedSamples`.
    """
    folder, room = here.scratch / shards.ref.name.replace("/", "-"), here.placement.cache_bytes
    copied = room is None or sum(part.files["tar"].bytes for part in shards.parts) <= room
    samples = ShardedSamples(here.store, shards, folder, None if copied else room, here.on_corrupt)
    here.opened.append(Opened(samples.name, tuple(samples.left_out)))
    return samples
