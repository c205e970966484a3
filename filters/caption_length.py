"""Drop captions that are nearly empty or endless."""

from typing import ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from filters.base import Columns, Filter, Mask
from filters.text import length


class CaptionLength(Filter):
    """Keep captions of a sane length, in code points, so that short Chinese nouns are not lost.

    The light policy's rule: it drops extremes only.
    """

    reason: ClassVar[str] = "caption_length"
    reads: ClassVar[tuple[str, ...]] = ("caption",)
    unit: ClassVar[str] = "code points"
    threshold: ClassVar[str] = "min_characters"

    min_characters: int = Field(default=3, ge=0, description="Fewest code points kept, inclusive.")
    max_characters: int = Field(default=1000, ge=1, description="Most code points kept, inclusive.")

    def measure(self, columns: Columns) -> npt.NDArray[np.float32]:
        """Return code points."""
        return length(columns["caption"])

    def keep(self, columns: Columns) -> Mask:
        """Keep captions within both bounds."""
        size = self.measure(columns)
        return np.asarray((size >= self.min_characters) & (size <= self.max_characters))
