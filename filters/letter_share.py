"""Drop captions with too few letters."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from filters.base import CaptionFilter, Examples, Mask, Measure
from filters.text.captions import Captions, remembered
from filters.text.characters import digits, letters, share
from filters.text.completeness import connected


@remembered
def _share(captions: Captions, enough: float) -> Measure:
    """Return the share of letters; below `enough` digits count as letters where the caption is language."""
    found = letters(captions)
    numbers = digits(captions)
    few = np.flatnonzero((numbers > 0) & (found < captions.length * np.float32(enough)))
    if len(few):
        spoken = few[connected(captions, few)]
        found = found.copy()
        found[spoken] += numbers[spoken]
    return share(found, captions.length)


class LetterShare(CaptionFilter):
    """Keep captions that are mostly letters and marks, of any script. The empty caption is kept here.

    In connected language, which two function words tell, a year or a number is part of it: digits count.
    """

    reason: ClassVar[str] = "letter_share"
    unit: ClassVar[str] = "share"
    threshold: ClassVar[str] = "min_share"
    stops: ClassVar[tuple[float, ...]] = (0, 0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9)
    origin: ClassVar[str] = "Data-Juicer's recipe for LLaVA captions asks for 0.60 alphanumeric; ours counts letters"
    examples: ClassVar[Examples] = Examples(
        ("12.05.2019 - 14:30", "A 4 x 6 (10) 15%", "2 / 3 / 4 – 猫", "+49 30 123456 Tel"),
        (
            "iPhone with 128 gigabytes",
            "head of a woman 1963.679",
            "Edição 1169 – 18 de Setembro de 2020",
            "два кота на диване",
            "三只猫在沙发上",
            "हिन्दी में लिखा हुआ",
            "",
            None,
        ),
    )

    min_share: float = Field(default=0.6, ge=0, le=1, description="Lowest share kept, inclusive.")

    def measured(self, captions: Captions) -> Measure:
        """Return the share of letters."""
        # Not those below `min_share` alone: what is measured may not depend on where the threshold lies.
        return _share(captions, max(self.stops))

    def passes(self, captions: Captions) -> Mask:
        """Keep what has enough letters, and what has nothing at all."""
        return np.asarray((self.measured(captions) >= np.float32(self.min_share)) | (captions.length == 0))
