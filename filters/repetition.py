"""Drop captions that say one thing again and again."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from filters.base import CaptionFilter, Examples, Mask, Measure
from filters.text.captions import Captions
from filters.text.repetition import repeated_words, said_twice


class Repetition(CaptionFilter):
    """Keep captions that do not repeat their words, nor their first half as their second."""

    reason: ClassVar[str] = "repetition"
    unit: ClassVar[str] = "share of repeats"
    threshold: ClassVar[str] = "max_repeated"
    stops: ClassVar[tuple[float, ...]] = (1, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.25, 0.2, 0.1)
    origin: ClassVar[str] = (
        "CC12M and Gopher cut at 0.2, which takes 'of the ... of the' from captions; ours asks that half the "
        "words are "
        "repeats, or half of them one word"
    )
    examples: ClassVar[Examples] = Examples(
        (
            "buy now buy now buy now buy now",
            "red sports car red sports car",
            "дом дом дом дом и сад",
            "Tapete kaufen, Tapete billig, Tapete neu, Tapete kaufen, Tapete neu, Tapete",
        ),
        (
            "New York, New York",
            "the cat and the dog and the bird of the house",
            "Rapa Nui, rapa nui moai",
            r"(\lambda A + \mu B) \circ C = \lambda (A \circ C) + \mu (B \circ C)",
            "Мама мыла раму, а папа мыл кота",
            None,
        ),
    )

    max_repeated: float = Field(default=0.5, gt=0, le=1, description="Highest share of words said before kept.")
    max_same_word_share: float = Field(default=0.5, gt=0, le=1, description="Most common word's share kept.")
    min_words: int = Field(default=5, ge=2, description="Words below which only whole halves are compared.")

    def measured(self, captions: Captions) -> Measure:
        """Return the share of words that were said before; 0 without words."""
        found = repeated_words(captions)
        again = np.divide(
            found.words - found.distinct, found.words, out=np.zeros(len(captions)), where=found.words > 0
        )
        return np.asarray(again, dtype=np.float32)

    def passes(self, captions: Captions) -> Mask:
        """Keep what does not repeat itself."""
        found = repeated_words(captions)
        same = found.commonest > self.max_same_word_share * found.words
        again = self.measured(captions) > np.float32(self.max_repeated)
        repeats = ((same | again) & (found.words >= self.min_words)) | said_twice(captions)
        # Formulas repeat their letters; they belong to the rule on source code.
        return ~repeats | captions.matches(r"\\[a-z]", repeats)
