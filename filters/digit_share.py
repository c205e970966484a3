"""Drop captions made of numbers."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from filters.base import CaptionFilter, Examples, Mask, Measure
from filters.text.captions import Captions
from filters.text.characters import digits, share


class DigitShare(CaptionFilter):
    """Keep captions in which few characters are digits, of any script."""

    reason: ClassVar[str] = "digit_share"
    unit: ClassVar[str] = "share"
    threshold: ClassVar[str] = "max_share"
    origin: ClassVar[str] = "ours: dates and product numbers stay below, lists of numbers do not"
    examples: ClassVar[Examples] = Examples(
        ("12052019143000 ok", "Nr. 4711-0815-12", "猫 20210304", "١٢٣٤٥٦ رقم"),
        ("A car from 1967 in a museum", "Er kam um 10 Uhr 30 an", "三只猫在沙发上", "два кота", "", None),
    )

    max_share: float = Field(default=0.3, ge=0, le=1, description="Highest share kept, inclusive.")

    def measured(self, captions: Captions) -> Measure:
        """Return the share of digits."""
        return share(digits(captions), captions.length)

    def passes(self, captions: Captions) -> Mask:
        """Keep what has few digits."""
        return self.measured(captions) <= np.float32(self.max_share)
