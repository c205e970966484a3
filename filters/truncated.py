"""Drop captions that a site cut at its limit."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from filters.base import Columns, Examples, Filter, Mask, Measure
from filters.text.captions import captions_of
from filters.text.code_points import DIGIT, UNSPACED


class Truncated(Filter):
    """Keep captions that do not stop in the middle at a length where many captions of their source stop.

    The signal says how many times commoner a caption's length is in its source than the lengths around it;
    at a site's limit that is far above 1. Only captions that end on a letter or digit are meant.
    """

    reason: ClassVar[str] = "truncated"
    reads: ClassVar[tuple[str, ...]] = ("caption", "length_spike")
    unit: ClassVar[str] = "times commoner"
    threshold: ClassVar[str] = "max_spike"
    origin: ClassVar[str] = "ours: five times the neighbours is no chance in any source of some thousand rows"
    examples: ClassVar[Examples] = Examples(
        (("A long sentence that stops in the mid", 9.0), ("Ein langer Satz, der mittendrin aufhö", 5.1)),
        (
            ("A whole sentence.", 9.0),
            ("A long sentence that stops in the mid", 1.0),
            ("Целое предложение!", 40.0),
            ("A long sentence that stops in the mid", float("nan")),
            (None, 9.0),
        ),
    )

    max_spike: float = Field(default=5, gt=0, description="Highest spike kept, inclusive.")
    min_characters: int = Field(default=30, ge=0, description="Code points below which no site cuts.")

    def measure(self, columns: Columns) -> Measure:
        """Return the spike, NaN where not computed."""
        found = np.asarray(columns["length_spike"], dtype=np.float32)
        return np.where(np.isfinite(found), found, np.float32(np.nan))

    def keep(self, columns: Columns) -> Mask:
        """Keep what ends by itself."""
        captions = captions_of(columns)
        ends = captions.kinds[captions.last]
        open_end = (ends >= DIGIT) & (ends <= UNSPACED) & (captions.length >= self.min_characters)
        return ~((self.measure(columns) > np.float32(self.max_spike)) & open_end)
