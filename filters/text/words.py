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

LETTERS_AT_ONCE = 4
_MOST_LETTERS = 16
MIX = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(29)
# By how many letters a word has: which of the first four there are, and which of the next four.
_LETTERS = (0xFFFF, 0xFFFFFFFF, 0xFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
_FIRST = np.array([0, *_LETTERS], dtype=np.uint64)
_NEXT = np.array([0, 0, 0, 0, 0, *_LETTERS], dtype=np.uint64)
MASKS = np.array([0, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF], dtype=np.uint64)


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
    inside = captions.kinds - np.uint8(MARK) <= UPPER - MARK  # what is lower wraps round
    change = inside[1:] ^ inside[:-1]
    edges = np.flatnonzero(change) + 1  # begin, end, begin, end: the row starts and ends outside of words
    begins = np.ascontiguousarray(edges[::2])
    sizes = edges[1::2] - begins
    starting = np.zeros(len(inside), dtype=bool)
    starting[1:] = change & inside[1:]
    counts = captions.count(starting)
    rows = np.repeat(np.arange(len(captions), dtype=np.int64), counts)
    return Words(begins, sizes, rows, counts, _keys(captions, begins, sizes))


def words_in(captions: Captions, rows: Ints) -> Ints:
    """Return the numbers of all words of some captions."""
    words = words_of(captions)
    sizes = words.counts[rows]
    begins = np.cumsum(sizes) - sizes
    return np.asarray(np.repeat(words.firsts[rows] - begins, sizes) + np.arange(sizes.sum()))


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
    keys = sizes.astype(np.uint64) * MIX
    # Nearly all words are looked at twice; looking those up that need it would cost more.
    for skipped, masks in ((0, _FIRST), (LETTERS_AT_ONCE, _NEXT)):
        letters = read[begins + skipped]
        letters &= np.take(masks, sizes, mode="clip")
        keys ^= letters
        keys *= MIX
        keys ^= keys >> _SHIFT
    some = np.flatnonzero(sizes > 2 * LETTERS_AT_ONCE)
    for skipped in range(2 * LETTERS_AT_ONCE, _MOST_LETTERS, LETTERS_AT_ONCE):
        some = some[sizes[some] > skipped]
        left = np.minimum(sizes[some] - skipped, LETTERS_AT_ONCE)
        keys[some] = mixed(keys[some] ^ (read[begins[some] + skipped] & MASKS[left]))
    long = some[sizes[some] > _MOST_LETTERS]
    ends = begins[long] + sizes[long]
    keys[long] = mixed(keys[long] ^ read[ends - LETTERS_AT_ONCE])
    return keys


def mixed(keys: Keys) -> Keys:
    """Return keys with every bit depending on many others."""
    keys = keys * MIX
    return np.asarray(keys ^ (keys >> _SHIFT))


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
    """A table of keys, asked for many at a time; each key has a slot of its own, so one look decides."""

    def __init__(self, table: Mapping[int, int]) -> None:
        """Take keys with their values; values are small and not negative."""
        # Entry 0 stands for "not in the table"; its key is one whose slot holds another entry, so it is never met.
        self._keys = np.array([min(table, default=0), *sorted(table)], dtype=np.uint64)
        self._values = np.array([0, *(table[key] for key in sorted(table))], dtype=np.int64)
        self._factor, self._shift = self._apart(self._keys[1:])
        self._slots = np.zeros(1 << int(np.uint64(64) - self._shift), dtype=np.uint32)
        self._slots[self._slot(self._keys[1:])] = np.arange(1, len(self._keys))

    def _slot(self, keys: Keys) -> Keys:
        return np.asarray((keys * self._factor) >> self._shift)

    def _apart(self, keys: Keys) -> tuple[np.uint64, np.uint64]:
        """Return the factor and shift that send every key to a slot of its own, the fewest slots tried first."""
        rng = np.random.default_rng(0)
        for bits in range(max(4, len(keys).bit_length() + 3), 32):
            for factor in rng.integers(1 << 63, size=256, dtype=np.uint64) | np.uint64(1):
                self._factor, self._shift = factor, np.uint64(64 - bits)
                if len(np.unique(self._slot(keys))) == len(keys):
                    return self._factor, self._shift
        raise ValueError("two words of a list have one key; take one of them off the list")

    def find(self, keys: Keys) -> tuple[Ints, Ints]:
        """Return the positions of the keys that are in the table, and their values."""
        entries = self._slots[self._slot(keys)]
        hits = np.flatnonzero(self._keys[entries] == keys)
        if len(self._keys) == 1:
            hits = hits[:0]
        return hits, self._values[entries[hits]]


def sequence_key(keys: Keys, at: Ints, size: int) -> Keys:
    """Return one key for each run of `size` words that begins at word `at`; the runs must lie inside."""
    found = keys[at]
    for step in range(1, size):
        found = mixed(found ^ (keys[at + step] >> np.uint64(1)))
    return found
