"""Words of captions as 64-bit keys: looked up, sorted and compared without making a string of any of them.

A word is a run of letters and marks of a spaced script, letter case folded. Its key is a hash of its
first sixteen letters, its last four and its length; two words in a batch share a key about never.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from filters.text import code_points
from filters.text.captions import Captions, Ints, remembered
from filters.text.code_points import MARK, UPPER

Keys = npt.NDArray[np.uint64]

_LETTERS_AT_ONCE = 4
_MOST_LETTERS = 16
_MIX = np.uint64(0x9E3779B97F4A7C15)
_MASKS = np.array([0, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF], dtype=np.uint64)


class Words(NamedTuple):
    """All words of a batch in reading order."""

    begins: Ints
    """Where each stands in the code points of the batch, shape (words,)."""
    sizes: Ints
    """Letters and marks of each, shape (words,)."""
    rows: Ints
    """Which caption each lies in, shape (words,)."""
    counts: Ints
    """Words of each caption, shape (samples,)."""
    keys: Keys
    """What to compare them by, shape (words,)."""

    @property
    def firsts(self) -> Ints:
        """Return the number of each caption's first word, shape (samples,)."""
        return np.asarray(np.cumsum(self.counts) - self.counts)


@remembered
def words_of(captions: Captions) -> Words:
    """Return the words of all captions."""
    inside = (captions.kinds >= MARK) & (captions.kinds <= UPPER)
    change = inside[1:] ^ inside[:-1]
    edges = np.flatnonzero(change) + 1  # begin, end, begin, end: the row starts and ends outside of words
    begins, sizes = edges[::2], edges[1::2] - edges[::2]
    starting = np.zeros(len(inside), dtype=bool)
    starting[1:] = change & inside[1:]
    counts = captions.count(starting)
    rows = np.repeat(np.arange(len(captions), dtype=np.int64), counts)
    return Words(begins, sizes, rows, counts, _keys(captions, begins, sizes))


@remembered
def fours(captions: Captions) -> Keys:
    """Return the four code points from each position on, letter case folded, sixteen bits each, first lowest."""
    # A view with a step of one code point: nothing is copied, and reading at a few positions is cheap.
    return np.ndarray((len(captions.lower) - 3,), dtype="<u8", buffer=captions.lower.data, strides=(2,))


def packed(letters: str) -> np.uint64:
    """Return up to four letters as `fours` holds them."""
    return np.uint64(sum(int(code_points.lower()[ord(each)]) << 16 * place for place, each in enumerate(letters)))


def _keys(captions: Captions, begins: Ints, sizes: Ints) -> Keys:
    read = fours(captions)
    keys = sizes.astype(np.uint64) * _MIX
    for skipped in range(0, _MOST_LETTERS, _LETTERS_AT_ONCE):
        some = np.flatnonzero(sizes > skipped) if skipped else slice(None)
        left = np.minimum(sizes[some] - skipped, _LETTERS_AT_ONCE)
        keys[some] = _mixed(keys[some] ^ (read[begins[some] + skipped] & _MASKS[left]))
    long = np.flatnonzero(sizes > _MOST_LETTERS)
    ends = begins[long] + sizes[long]
    keys[long] = _mixed(keys[long] ^ read[ends - _LETTERS_AT_ONCE])
    return keys


def _mixed(keys: Keys) -> Keys:
    keys = keys * _MIX
    return np.asarray(keys ^ (keys >> np.uint64(29)))


def keys_of(words: Iterable[str]) -> Keys:
    """Return the key of each word of a list, shape (words,).

    Raises:
        ValueError: An entry is not one word.
    """
    listed = list(words)
    found = words_of(Captions(pa.array(listed, pa.string())))
    if wrong := [word for word, count in zip(listed, found.counts, strict=True) if count != 1]:
        raise ValueError(f"{wrong[0]!r} is not one word of letters; a phrase belongs into a list of phrases")
    return found.keys


class Lookup:
    """A table of keys, asked for many at a time; most of what is asked is not in it."""

    def __init__(self, table: Mapping[int, int]) -> None:
        """Take keys with their values; values are small and not negative."""
        keys = np.array(sorted(table), dtype=np.uint64)
        self._keys = keys
        self._values = np.array([table[int(key)] for key in keys], dtype=np.int64)
        self._present = np.zeros(1 << 16, dtype=bool)
        self._present[keys >> np.uint64(48)] = True

    def find(self, keys: Keys) -> tuple[Ints, Ints]:
        """Return the positions of the keys that are in the table, and their values."""
        maybe = np.flatnonzero(self._present[keys >> np.uint64(48)])
        if not len(self._keys) or not len(maybe):
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        places = np.minimum(np.searchsorted(self._keys, keys[maybe]), len(self._keys) - 1)
        hit = self._keys[places] == keys[maybe]
        return maybe[hit], self._values[places[hit]]


def sequence_key(keys: Keys, at: Ints, size: int) -> Keys:
    """Return one key for each run of `size` words that begins at word `at`; the runs must lie inside."""
    found = keys[at]
    for step in range(1, size):
        found = _mixed(found ^ (keys[at + step] >> np.uint64(1)))
    return found
