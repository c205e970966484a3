"""Drop error messages that took the place of a caption."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from filters.base import CaptionFilter, Examples, Mask, Measure
from filters.text.captions import Captions, Floats, remembered
from filters.text.characters import digits
from filters.text.page_text import coverage

_LONGEST_NUMBERED = 20


@remembered
def _coverage(captions: Captions) -> Floats:
    found = coverage(captions, "errors")
    # Numbers are no words, and "forbidden" alone is the title of many a thing.
    short = (captions.length < _LONGEST_NUMBERED) & (digits(captions) > 0)
    found[captions.matches(r"(?i)^(?:[^0-9]{0,3}404[^0-9]{0,3}|\W*403\W{0,3}forbidden\W*)$", short)] = 1
    return found


class ErrorMessage(CaptionFilter):
    """Keep captions that do not mostly consist of an error message; memes about them stay."""

    reason: ClassVar[str] = "error_message"
    unit: ClassVar[str] = "share covered"
    threshold: ClassVar[str] = "max_coverage"
    stops: ClassVar[tuple[float, ...]] = (1, 0.8, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0)
    origin: ClassVar[str] = "ours, as for boilerplate; C4 drops any line that mentions Javascript"
    examples: ClassVar[Examples] = Examples(
        (
            "404",
            "403 Forbidden",
            "Page not found",
            "Access denied!",
            "图片不存在",
            "Seite nicht gefunden",
            "Изображение недоступно",
        ),
        (
            "A man looks for a page not found in any of the books on his shelf",
            "Die Tür war zu: Zugriff verweigert, sagte der Mann am Tor und lachte",
            "Forbidden Revelations",
            "Room 404 of an old hotel in Prague",
            "他说页面不存在的时候大家都笑了起来",
            None,
        ),
    )

    max_coverage: float = Field(default=0.4, ge=0, le=1, description="Highest covered share kept, inclusive.")

    def measured(self, captions: Captions) -> Measure:
        """Return the share of the caption's letters that error messages cover."""
        return _coverage(captions)

    def passes(self, captions: Captions) -> Mask:
        """Keep what messages cover little of."""
        return _coverage(captions) <= np.float32(self.max_coverage)
