"""The order in which the samples of one source come, epoch after epoch."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from stages.batches import generator_of, permutation

K = TypeVar("K")
V = TypeVar("V")

Ints = npt.NDArray[np.int64]


class Shuffle(Protocol):
    """The order of one source: at any time each of its samples came equally often, or once more."""

    def row(self, number: int) -> int:
        """Return the sample that comes after `number` others of this source."""
        ...


class Whole:
    """Every epoch is a permutation of all samples."""

    def __init__(self, seed: int | str, samples: int) -> None:
        """Shuffle so many samples."""
        self._seed, self._samples = seed, samples

    def row(self, number: int) -> int:
        """Return the sample that comes after `number` others."""
        epoch, place = divmod(number, self._samples)
        return int(permutation(self._seed, epoch, self._samples)[place])


class Windows:
    """Every epoch permutes the shards, and then the samples of each few shards in a row: reads stay close together.

    The order of all samples is never held: that of a window or two is, and one number per shard.
    """

    def __init__(self, seed: int | str, shards: Sequence[int], window: int) -> None:
        """Shuffle shards of these sizes, and what is in `window` of them that follow each other."""
        self._seed, self._window = seed, window
        self._sizes = np.array(shards, dtype=np.int64)
        self._starts = np.cumsum(self._sizes) - self._sizes
        self._samples = int(self._sizes.sum())
        self._epochs: dict[int, tuple[Ints, list[int]]] = {}
        self._windows: dict[tuple[int, int], Ints] = {}

    def row(self, number: int) -> int:
        """Return the sample that comes after `number` others."""
        epoch, place = divmod(number, self._samples)
        shards, ends = held(self._epochs, epoch, self._shards_of)
        window = bisect_right(ends, place)
        rows = held(self._windows, (epoch, window), lambda _: self._rows_of(epoch, window, shards))
        return int(rows[place - (ends[window - 1] if window else 0)])

    def _shards_of(self, epoch: int) -> tuple[Ints, list[int]]:
        """Return the order of the shards in an epoch, and where each of its windows ends."""
        order = generator_of(self._seed, "shards", epoch).permutation(len(self._sizes))
        ends = np.cumsum(self._sizes[order])
        last = [*range(self._window - 1, len(order) - 1, self._window), len(order) - 1]
        return order, ends[last].tolist()

    def _rows_of(self, epoch: int, window: int, shards: Ints) -> Ints:
        """Return the samples of a window in their order."""
        chosen = shards[window * self._window : (window + 1) * self._window]
        rows = np.concatenate([np.arange(self._sizes[shard]) + self._starts[shard] for shard in chosen])
        return generator_of(self._seed, "window", epoch, window).permutation(rows)


def held(kept: dict[K, V], key: K, make: Callable[[K], V]) -> V:
    """Return what is kept under a key, made where it is not; two are kept, for a step that lies across a border."""
    if key not in kept:
        while len(kept) > 1:
            del kept[next(iter(kept))]
        kept[key] = make(key)
    return kept[key]
