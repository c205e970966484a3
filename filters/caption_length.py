"""Drop captions that are nearly empty or endless."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from filters.base import CaptionFilter, Examples, Mask, Measure
from filters.text.captions import Captions


class CaptionLength(CaptionFilter):
    """Keep captions of a sane length, in code points, so that short Chinese nouns are not lost.

    The light policy's rule: it drops extremes only.
    """

    reason: ClassVar[str] = "caption_length"
    unit: ClassVar[str] = "code points"
    threshold: ClassVar[str] = "min_characters"
    origin: ClassVar[str] = (
        "LAION and DataComp ask for five characters or more, COYO-700M for at most 1,000; ours begins at three, "
        "because three Chinese characters name a thing"
    )
    examples: ClassVar[Examples] = Examples((None, "", "ok", "  –  ", "月", "x" * 1001), ("cat", "三只猫", "ねこだ"))

    min_characters: int = Field(default=3, ge=0, description="Fewest code points kept, inclusive.")
    max_characters: int = Field(default=1000, ge=1, description="Most code points kept, inclusive.")

    def measured(self, captions: Captions) -> Measure:
        """Return code points."""
        return captions.length.astype(np.float32)

    def passes(self, captions: Captions) -> Mask:
        """Keep captions within both bounds."""
        return (captions.length >= self.min_characters) & (captions.length <= self.max_characters)
