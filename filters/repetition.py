"""Drop captions that say one thing again and again."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from filters.base import Columns, Filter, Mask
from filters.text import matches, normalised


class Repetition(Filter):
    """Keep captions without a long run of one character, of one word, or of one repeated half."""

    reason: ClassVar[str] = "repetition"
    reads: ClassVar[tuple[str, ...]] = ("caption",)

    max_same_word_share: float = Field(default=0.5, gt=0, le=1, description="Most common word's share kept.")

    def keep(self, columns: Columns) -> Mask:
        """Keep what does not repeat itself."""
        text = normalised(columns["caption"]).to_pylist()
        return np.asarray([self._varied(caption) for caption in text], dtype=bool) & ~matches(
            columns["caption"], r"([!?.*=_~-]{6,})"
        )

    def _varied(self, caption: str) -> bool:
        words = caption.casefold().split()
        if len(words) < 5:
            return True
        top = max(words.count(word) for word in set(words))
        half = len(words) // 2
        return top / len(words) <= self.max_same_word_share and words[:half] != words[half : 2 * half]
