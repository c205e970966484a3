"""How much of a caption known phrases cover, for phrase lists of any length at one price.

Phrases of spaced scripts are sequences of whole words; `*` at the end stands for one more word, whatever
it is. Phrases of scripts without spaces are found as substrings.
"""

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from filters.text.captions import Captions, Ints
from filters.text.characters import unspaced
from filters.text.words import Lookup, keys_of, sequence_key, words_of

_STARS = 8  # a value holds which lists a phrase is on, and above these bits how many words more it covers


class PhraseList(NamedTuple):
    """Phrases that mean one thing."""

    spaced: tuple[str, ...]
    without_spaces: tuple[str, ...] = ()


_NONE = PhraseList(())


class Phrases:
    """Some lists of phrases, searched together."""

    def __init__(self, lists: Mapping[str, PhraseList], innocent: PhraseList = _NONE) -> None:
        """Take at most seven lists by name; punctuation and digits between words are ignored.

        Args:
            lists: Phrases to find.
            innocent: Phrases of spaced scripts whose words count for no list, though they are on one.

        Raises:
            ValueError: A star stands before a word.
        """
        self.lists = dict(lists)
        self.innocent = innocent
        for _, phrase in self._spaced():
            if "*" in phrase.rstrip(" *"):
                raise ValueError(f"phrase {phrase!r}: stars stand for words at the end only")

    def _spaced(self) -> Iterator[tuple[int, str]]:
        listed = (*self.lists.values(), self.innocent)
        return ((number, text) for number, each in enumerate(listed) for text in each.spaced)

    @cached_property
    def first_words(self) -> frozenset[str]:
        """Words that phrases begin with; only where one of them stands is looked closer."""
        return frozenset(phrase.split()[0] for _, phrase in self._spaced())

    @cached_property
    def _tables(self) -> tuple[dict[int, Lookup], Lookup]:
        """Look-ups of whole phrases by number of words, and of the first two words of longer ones."""
        tables: dict[int, dict[int, int]] = {}
        pairs: dict[int, int] = {}
        start = np.zeros(1, dtype=np.int64)
        for number, phrase in self._spaced():
            words = [word for word in phrase.split() if word != "*"]
            keys = keys_of(words)
            table, key = tables.setdefault(len(words), {}), int(sequence_key(keys, start, len(words))[0])
            before = table.get(key, 0)
            stars = max(before >> _STARS, phrase.count("*"))
            table[key] = stars << _STARS | (before & 0xFF) | 1 << number
            if len(words) > 2:
                pairs[int(sequence_key(keys, start, 2)[0])] = 1
        return {size: Lookup(table) for size, table in sorted(tables.items())}, Lookup(pairs)

    def covered(self, captions: Captions, begins: Ints) -> dict[str, Ints]:
        """Return letters of each caption that lie in a phrase, by list, shape (samples,) each.

        Args:
            captions: Where to search.
            begins: Positions, among the words of the batch, of all words in `first_words`.
        """
        words, marks = words_of(captions), self._marks(captions, begins)
        places = np.flatnonzero(marks)
        rows, sizes, lists = words.rows[places], words.sizes[places], marks[places]
        beyond = np.flatnonzero(unspaced(captions))
        innocent = np.uint8(1 << len(self.lists))
        found: dict[str, Ints] = {}
        for number, (name, each) in enumerate(self.lists.items()):
            mine = np.flatnonzero((lists & (np.uint8(1 << number) | innocent)) == np.uint8(1 << number))
            letters = np.bincount(rows[mine], weights=sizes[mine], minlength=len(captions)).astype(np.int64)
            if each.without_spaces and len(beyond):
                letters[beyond] += self._covered_unspaced(captions, beyond, each)
            found[name] = letters
        return found

    def _marks(self, captions: Captions, begins: Ints) -> npt.NDArray[np.uint8]:
        """Return for each word of the batch the lists that it is covered by, one bit each."""
        words = words_of(captions)
        marks = np.zeros(len(words.keys), dtype=np.uint8)
        after = (words.firsts + words.counts)[words.rows[begins]]  # the first word of the next caption
        tables, pairs = self._tables
        for size, table in tables.items():
            if size == 3:  # few first words are followed by the right second one
                fits = begins + 2 <= after
                begins, after = begins[fits], after[fits]
                longer, _ = pairs.find(sequence_key(words.keys, begins, 2))
                begins, after = begins[longer], after[longer]
            fits = begins + size <= after
            here, limit = begins[fits], after[fits]
            hits, values = table.find(sequence_key(words.keys, here, size))
            here, lists = here[hits], (values & 0xFF).astype(np.uint8)
            lengths = np.minimum(size + (values >> _STARS), limit[hits] - here)
            for step in range(int(lengths.max(initial=0))):
                inside = lengths > step
                marks[here[inside] + step] |= lists[inside]
        return marks

    @staticmethod
    def _covered_unspaced(captions: Captions, rows: Ints, phrases: PhraseList) -> Ints:
        # Longest first, because RE2 takes the first alternative that fits.
        pattern = "|".join(sorted(phrases.without_spaces, key=len, reverse=True))
        text = captions.text.take(pa.array(rows))
        rest = pc.utf8_length(pc.replace_substring_regex(text, pattern, ""))
        return captions.length[rows] - np.asarray(rest.to_numpy(zero_copy_only=False), dtype=np.int64)
