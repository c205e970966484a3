"""How much a caption repeats its own words and halves."""

from typing import NamedTuple

import numpy as np

from filters.text.captions import Bools, Captions, Ints, remembered
from filters.text.words import words_of

_SHORTEST_SAID_TWICE = 6  # "New York, New York" is a name
_ROW_SHIFT = np.uint64(40)  # a batch has fewer than 2**24 captions


class Repeated(NamedTuple):
    """Counts over the words of each caption, shape (samples,) each."""

    words: Ints
    distinct: Ints
    commonest: Ints
    """Occurrences of the word that occurs most."""


@remembered
def repeated_words(captions: Captions) -> Repeated:
    """Return how often words of a caption repeat."""
    words = words_of(captions)
    # Rows above, words below: one sort brings equal words of one caption together.
    together = (words.rows.astype(np.uint64) << _ROW_SHIFT) | (words.keys >> np.uint64(24))
    together.sort()
    begins = np.flatnonzero(np.append(True, together[1:] != together[:-1])[: len(together)])
    sizes = np.diff(np.append(begins, len(together))).astype(np.int64)
    rows = (together[begins] >> _ROW_SHIFT).astype(np.int64)
    distinct = np.bincount(rows, minlength=len(captions))
    commonest = np.zeros(len(captions), dtype=np.int64)
    filled = distinct > 0
    if filled.any():
        firsts = (np.cumsum(distinct) - distinct)[filled]
        commonest[filled] = np.maximum.reduceat(sizes, firsts)
    return Repeated(words.counts, distinct, commonest)


@remembered
def said_twice(captions: Captions) -> Bools:
    """Return which captions say all of their words twice in the same order: "red sports car red sports car"."""
    words, repeated = words_of(captions), repeated_words(captions)
    halves = words.counts // 2
    # Every word occurs twice, so at most half of them are distinct: few captions are left to compare.
    some = np.flatnonzero(
        (words.counts >= _SHORTEST_SAID_TWICE) & (words.counts % 2 == 0) & (repeated.distinct <= halves)
    )
    found = np.zeros(len(captions), dtype=bool)
    if len(some):
        sizes = halves[some]
        steps = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        left = np.repeat(words.firsts[some], sizes) + steps
        same = words.keys[left] == words.keys[left + np.repeat(sizes, sizes)]
        found[some] = np.logical_and.reduceat(same, np.cumsum(sizes) - sizes)
    return found
