"""Drop menus, buttons and other page furniture."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from filters.base import CaptionFilter, Examples, Mask, Measure
from filters.text.captions import Captions, Floats, remembered
from filters.text.page_text import coverage

# "To the top of ..." in Japanese: what a page calls itself stands before it, so little of it is covered.
_TO_THE_TOP = "のトップへ(?:戻る)?$"


@remembered
def _coverage(captions: Captions) -> Floats:
    found = coverage(captions, "furniture").copy()
    lasts = captions.points[captions.last]
    found[captions.matches(_TO_THE_TOP, (lasts == ord("へ")) | (lasts == ord("る")))] = 1
    return found


class Boilerplate(CaptionFilter):
    """Keep captions that page furniture does not mostly consist of.

    Coverage, not presence: a sentence that mentions "read more" is kept.
    """

    reason: ClassVar[str] = "boilerplate"
    unit: ClassVar[str] = "share covered"
    threshold: ClassVar[str] = "max_coverage"
    stops: ClassVar[tuple[float, ...]] = (1, 0.8, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0)
    origin: ClassVar[str] = (
        "ours: COYO-700M and CC12M name the phrases, and no share; below two fifths it is a mention"
    )
    examples: ClassVar[Examples] = Examples(
        (
            "Click here to view larger image",
            "点击查看大图",
            "In den Warenkorb",
            "Читать далее",
            "もっと見る",
            "Lire la suite…",
        ),
        (
            "Visitors can click here and there through the old town on a map.",
            "Shades of Blue (Back to Black)",
            "Close-Up II",
            "An old sign says read more books and hangs over the door of a library",
            "老人在公园的长椅上点击查看手机里的照片和家人的消息",
            "Der Warenkorb ist aus Weide geflochten und steht auf dem Tisch",
            None,
        ),
    )

    max_coverage: float = Field(default=0.4, ge=0, le=1, description="Highest covered share kept, inclusive.")

    def measured(self, captions: Captions) -> Measure:
        """Return the share of the caption's letters that known phrases cover."""
        return _coverage(captions)

    def passes(self, captions: Captions) -> Mask:
        """Keep what phrases cover little of."""
        return _coverage(captions) <= np.float32(self.max_coverage)
