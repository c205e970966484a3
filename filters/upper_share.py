"""Drop captions that shout."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from filters.base import CaptionFilter, Examples, Mask, Measure
from filters.text.captions import Captions
from filters.text.characters import capitals, cased, share


class UpperShare(CaptionFilter):
    """Keep captions that are not written in capitals. A flag: in no policy of ours, because memes shout too.

    Scripts without capitals have no share.
    """

    reason: ClassVar[str] = "upper_share"
    unit: ClassVar[str] = "share"
    threshold: ClassVar[str] = "max_share"
    origin: ClassVar[str] = "ours, after CC3M's heuristic on capitals"
    examples: ClassVar[Examples] = Examples(
        (
            "BUY ONE AND GET THE NEXT ONE FREE",
            "СКИДКИ НА ВСЕ ТОВАРЫ СЕГОДНЯ",
            "ΜΕΓΑΛΕΣ ΕΚΠΤΩΣΕΙΣ ΣΕ ΟΛΑ",
            "JETZT ALLES NEU KAUFEN UND SPAREN",
        ),
        ("The NASA rover on its way over Mars", "NASA", "三只猫在沙发上", "هذا كلب في الحديقة", "", None),
    )

    max_share: float = Field(default=0.7, ge=0, le=1, description="Highest share of capitals among letters kept.")
    min_letters: int = Field(default=20, ge=1, description="Letters below which capitals tell nothing.")

    def measured(self, captions: Captions) -> Measure:
        """Return capitals by letters that have two cases."""
        return share(capitals(captions), cased(captions))

    def passes(self, captions: Captions) -> Mask:
        """Keep what is short or not in capitals."""
        return (self.measured(captions) <= np.float32(self.max_share)) | (cased(captions) < self.min_letters)
