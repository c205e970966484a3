"""Drop captions whose words are no words by their length."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from filters.base import CaptionFilter, Examples, Mask, Measure
from filters.text.captions import Captions, Floats, Ints, remembered
from filters.text.characters import share
from filters.text.code_points import MARK
from filters.text.words import words_in, words_of

_APOSTROPHES = (ord("'"), ord("’"))
_SHORTENED = tuple(ord(each) for each in "dmst")
"""What English leaves of would, am, is and not behind an apostrophe."""


@remembered
def _mean_length(captions: Captions) -> Floats:
    words = words_of(captions)
    return share(np.bincount(words.rows, weights=words.sizes, minlength=len(captions)), words.counts)


def _single(captions: Captions, some: Ints) -> Floats:
    """Return the share of words that are one letter, of some captions; "I'm" and the s of "it's" are none."""
    words, positions = words_of(captions), words_in(captions, some)
    singles = positions[words.sizes[positions] == 1]
    begins, points = words.begins[singles], captions.points
    ending = np.isin(points[begins - 1], _APOSTROPHES) & np.isin(captions.lower[begins], _SHORTENED)
    begun = np.isin(points[begins + 1], _APOSTROPHES) & (captions.kinds[begins + 2] >= MARK)
    alone = words.rows[singles[~ending & ~begun]]
    return share(np.bincount(alone, minlength=len(captions))[some], words.counts[some])


class Readability(CaptionFilter):
    """Keep captions whose words are neither single letters nor endless, in scripts with spaces.

    Words that are short on average are no reason as long as most of them are words: "I don't get it". A
    letter beside an apostrophe is part of a word.
    """

    reason: ClassVar[str] = "readability"
    unit: ClassVar[str] = "letters per word"
    threshold: ClassVar[str] = "min_mean"
    stops: ClassVar[tuple[float, ...]] = (0, 1.5, 1.8, 2, 2.2, 2.4, 2.6, 2.8, 3, 3.2, 3.5, 4)
    origin: ClassVar[str] = (
        "Gopher kept pages with 3 to 10 letters per word (arXiv:2112.11446); ours is wider, because captions are "
        "short "
        "and German and Finnish compounds long"
    )
    examples: ClassVar[Examples] = Examples(
        (
            "a b c d e f g h i",
            "S i l v e r r i n g",
            "(x, t) = (t'x + tx', x')",
            "x y z т у к о",
            "Anormouslylongwordthatnobodyeverwroteinanylanguage",
        ),
        (
            "An old man is on a bench",
            "I don't get it, do I",
            "it 's a boy ... or a girl !",
            "I’M GAY / ... I LOVE U",
            "Y'ALL GOT MY W-2'S",
            "Rindfleischetikettierungsüberwachung am Montag",
            "三只猫在沙发上",
            "Мы идём в лес",
            "a b",
            None,
        ),
    )

    min_mean: float = Field(default=2.2, ge=0, description="Shortest mean word kept, inclusive.")
    min_single: float = Field(default=0.5, ge=0, le=1, description="Share of single letters from which short is odd.")
    max_mean: float = Field(default=15, ge=1, description="Longest mean word kept, inclusive.")
    min_words: int = Field(default=5, ge=1, description="Words below which means tell nothing.")
    max_word: int = Field(default=45, ge=1, description="Longest single word kept, inclusive.")

    def measured(self, captions: Captions) -> Measure:
        """Return the mean length of words of spaced scripts; 0 without one."""
        return _mean_length(captions)

    def passes(self, captions: Captions) -> Mask:
        """Keep what reads like words."""
        words, mean = words_of(captions), _mean_length(captions)
        counted = words.counts >= self.min_words
        odd = (mean > np.float32(self.max_mean)) & counted
        short = np.flatnonzero((mean < np.float32(self.min_mean)) & counted)
        if len(short):
            odd[short] = _single(captions, short) >= np.float32(self.min_single)
        odd[words.rows[words.sizes > self.max_word]] = True
        return ~odd
