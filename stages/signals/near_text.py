"""Captions of one host that differ by a word or two: MinHash over five characters at a time.

Fourteen bands of eight minima, as datatrove has them: captions at Jaccard 0.8 share a band with probability
0.92, at 0.5 with 0.05. A caption's cluster is the largest group that shares one of its bands and its host, so
that counts of parts add up.
"""

import numpy as np
import numpy.typing as npt

from filters.text.captions import Captions
from stages.signals.keys import Ints, Keys, mixed

BANDS, MINIMA, GRAM = 14, 8, 5
_AT_ONCE = 1 << 14


def _constants() -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    """Return odd factors and addends of the permutations; fixed, because they decide the result."""
    drawn = mixed(np.arange(1, 2 * BANDS * MINIMA + 1))
    return (drawn[0::2] >> np.uint64(32)).astype(np.uint32) | np.uint32(1), (drawn[1::2] >> np.uint64(32)).astype(
        np.uint32
    )


def band_keys(captions: Captions, hosts: Keys) -> tuple[Keys, npt.NDArray[np.bool_]]:
    """Return the bands of each caption, shape (samples, bands), and which captions are long enough to have any."""
    keys = np.zeros((len(captions), BANDS), dtype=np.uint64)
    enough = captions.length >= GRAM
    rows = np.flatnonzero(enough)
    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE]
        keys[some] = _bands(_minima(captions, some), hosts[some])
    return keys, enough


def _minima(captions: Captions, rows: Ints) -> npt.NDArray[np.uint32]:
    """Return the least value of each permutation over each caption's grams, shape (rows, permutations)."""
    sizes = captions.length[rows] - GRAM + 1
    begins = np.cumsum(sizes) - sizes
    first = np.repeat(captions.starts[rows] + 1 - begins, sizes) + np.arange(sizes.sum())
    grams = np.zeros(len(first), dtype=np.uint64)
    for step in range(GRAM - 1):
        grams |= captions.lower[first + step].astype(np.uint64) << np.uint64(16 * step)
    grams = mixed(mixed(grams) ^ captions.lower[first + GRAM - 1].astype(np.uint64))
    plain = (grams >> np.uint64(32)).astype(np.uint32)
    found = np.empty((len(rows), BANDS * MINIMA), dtype=np.uint32)
    for number, (factor, addend) in enumerate(zip(*_constants(), strict=True)):
        found[:, number] = np.minimum.reduceat(plain * factor + addend, begins)
    return found


def _bands(minima: npt.NDArray[np.uint32], hosts: Keys) -> Keys:
    keys = np.empty((len(minima), BANDS), dtype=np.uint64)
    for band in range(BANDS):
        found = mixed(hosts ^ np.uint64(band))
        for column in range(band * MINIMA, (band + 1) * MINIMA):
            found = mixed(found ^ minima[:, column])
        keys[:, band] = found
    return keys


def ask(captions: Captions, hosts: Keys) -> tuple[Keys, Ints]:
    """Return the rows (key, count) of a part, and where each caption's bands stand among them, -1 for none."""
    keys, enough = band_keys(captions, hosts)
    distinct, counts = np.unique(keys[enough], return_counts=True)
    at = np.where(enough[:, None], np.searchsorted(distinct, keys), -1)
    return np.stack([distinct, counts.astype(np.uint64)], axis=1), at
