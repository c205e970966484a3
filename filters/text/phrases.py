"""How much of a caption known phrases cover, for phrase lists of any length at one price.

Phrases of spaced scripts are sequences of whole words; `*` at the end stands for one more word, whatever
it is. Phrases of scripts without spaces are found as substrings.
"""

from collections.abc import Iterable
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filters.text.captions import Captions, Floats, Ints
from filters.text.characters import letters, share, unspaced
from filters.text.lexicon import Role, with_role
from filters.text.words import Lookup, keys_of, sequence_key, words_of


class Phrases:
    """A list of phrases, compiled when first used."""

    def __init__(self, spaced: Iterable[str], without_spaces: Iterable[str] = (), begins: Role | None = None) -> None:
        """Take phrases; punctuation and digits between words are ignored.

        Args:
            spaced: Phrases of words.
            without_spaces: Phrases of scripts without spaces.
            begins: The role that their first words have in the lexicon; looked up by themselves without one.

        Raises:
            ValueError: A star stands before a word.
        """
        self.spaced = tuple(spaced)
        if wrong := [phrase for phrase in self.spaced if "*" in phrase.rstrip(" *")]:
            raise ValueError(f"phrase {wrong[0]!r}: stars stand for words at the end only")
        self.without_spaces = tuple(without_spaces)
        self.begins = begins

    @cached_property
    def _first_words(self) -> Lookup:
        return Lookup({int(key): 1 for key in keys_of(phrase.split()[0] for phrase in self.spaced)})

    @cached_property
    def _by_size(self) -> dict[int, Lookup]:
        """Look-ups by number of words; the value is how many words more are covered."""
        tables: dict[int, dict[int, int]] = {}
        for phrase in self.spaced:
            words = [word for word in phrase.split() if word != "*"]
            key = sequence_key(keys_of(words), np.zeros(1, dtype=np.int64), len(words))
            tables.setdefault(len(words), {})[int(key[0])] = phrase.count("*")
        return {size: Lookup(table) for size, table in sorted(tables.items())}

    @cached_property
    def _pattern(self) -> str:
        # Longest first, because RE2 takes the first alternative that fits.
        return "|".join(sorted(self.without_spaces, key=len, reverse=True))

    def covered(self, captions: Captions) -> Ints:
        """Return letters of each caption that lie in a phrase, shape (samples,)."""
        found = self._covered_words(captions)
        rows = np.flatnonzero(unspaced(captions))
        if self.without_spaces and len(rows):
            text = captions.text.take(pa.array(rows))
            rest = pc.utf8_length(pc.replace_substring_regex(text, self._pattern, ""))
            found[rows] += captions.length[rows] - np.asarray(rest.to_numpy(zero_copy_only=False), dtype=np.int64)
        return found

    def _covered_words(self, captions: Captions) -> Ints:
        words = words_of(captions)
        begins = self._first_words.find(words.keys)[0] if self.begins is None else with_role(captions, self.begins)
        after = (words.firsts + words.counts)[words.rows[begins]]  # the first word of the next caption
        covered = np.zeros(len(words.keys), dtype=bool)
        for size, table in self._by_size.items():
            fits = begins + size <= after
            here, limit = begins[fits], after[fits]
            hits, more = table.find(sequence_key(words.keys, here, size))
            lengths = np.minimum(size + more, limit[hits] - here[hits])
            for step in range(int(lengths.max(initial=0))):
                covered[here[hits][lengths > step] + step] = True
        places = np.flatnonzero(covered)
        sizes = np.bincount(words.rows[places], weights=words.sizes[places], minlength=len(captions))
        return np.asarray(sizes, dtype=np.int64)

    def coverage(self, captions: Captions) -> Floats:
        """Return the share of a caption's letters that lie in a phrase; 0 without letters."""
        return share(self.covered(captions), letters(captions))
