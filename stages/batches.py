"""Which samples a step trains on, and how they are read: order is a pure function of (seed, step).

The global batch of a step does not know how many processes share it, so a run that is stopped,
resumed or moved to more or fewer processes sees exactly the samples the uninterrupted one would.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from infra.storage import Store
from stages.manifest import Manifest, ManifestError
from stages.tars import TarError, samples_of
from stages.workspace import read_file


def generator_of(*path: int | str) -> np.random.Generator:
    """Return the random numbers that belong to a place, such as (seed, "mask", step, row); equal everywhere."""
    key = hashlib.sha256("/".join(map(str, path)).encode()).digest()
    return np.random.default_rng(int.from_bytes(key[:16], "big"))


@lru_cache(maxsize=4)
def permutation(seed: int, epoch: int, samples: int) -> npt.NDArray[np.int64]:
    """Return the order of one epoch."""
    return generator_of(seed, "epoch", epoch).permutation(samples)


def rows_of(step: int, *, seed: int, samples: int, global_batch_size: int) -> list[int]:
    """Return the sample numbers of a step's global batch; epochs follow each other without a gap.

    Raises:
        ManifestError: There are no samples.
    """
    if samples < 1:
        raise ManifestError("there is nothing to train on: the data that was given holds no sample")
    first = step * global_batch_size
    return [
        int(permutation(seed, place // samples, samples)[place % samples])
        for place in range(first, first + global_batch_size)
    ]


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


@dataclass(frozen=True)
class _Member:
    tar: Path
    offset: int
    size: int


class ShardedSamples:
    """The samples of WebDataset shards, by number: copied to local disk once, then read by offset.

    Numbers follow the order of the shards and of the samples inside them, which the shards
    stage has already shuffled.
    """

    def __init__(self, store: Store, shards: Manifest, folder: Path) -> None:
        """Copy the shards into a folder, each hash checked before it is parsed.

        Raises:
            ManifestError: A shard differs from its manifest, or holds what no shard of ours does.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.keys: list[str] = []
        self._members: list[dict[str, _Member]] = []
        for part in shards.parts:
            path = folder / f"{part.key}.tar"
            path.write_bytes(read_file(store, shards, part.files["tar"]))
            self._index(path)

    def _index(self, path: Path) -> None:
        try:
            with path.open("rb") as tar:
                for sample in samples_of(tar):
                    found = {m.suffix: _Member(path, m.offset, len(m.data)) for m in sample.members.values()}
                    self.keys.append(sample.key)
                    self._members.append(found)
        except TarError as error:
            raise ManifestError(f"shard {path.stem}: {error}") from error

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.keys)

    def read(self, number: int, suffix: str) -> bytes:
        """Return one member of a sample, such as `jpg`, `txt` or `json`.

        Raises:
            ManifestError: The sample has no such member.
        """
        member = self._members[number].get(suffix)
        if member is None:
            raise ManifestError(f"sample {self.keys[number]} has no .{suffix}; make the shards again")
        with member.tar.open("rb") as file:
            file.seek(member.offset)
            return file.read(member.size)

    def facts(self, number: int) -> dict[str, object]:
        """Return a sample's JSON: uid, source, language, caption."""
        found: dict[str, object] = json.loads(self.read(number, "json"))
        return found
