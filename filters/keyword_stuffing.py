"""Drop lists of search terms that pose as captions."""

from typing import ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from filters.base import Columns, Filter, Mask
from filters.text import count, units


class KeywordStuffing(Filter):
    """Keep captions that are not many short fragments between separators, nor rows of hashtags.

    Ingredient lists and Chinese enumerations look alike: the enumeration comma is not counted.
    """

    reason: ClassVar[str] = "keyword_stuffing"
    reads: ClassVar[tuple[str, ...]] = ("caption",)

    min_separators: int = Field(default=6, ge=1, description="Separators from which a caption is a list.")
    max_units_per_fragment: float = Field(default=2.5, gt=0, description="Mean fragment that is still a list.")
    max_hashtags: int = Field(default=2, ge=0, description="Most hashtags kept, inclusive.")

    def measure(self, columns: Columns) -> npt.NDArray[np.float32]:
        """Return how many separators there are."""
        return count(columns["caption"], r"[,，|;；/·•]")

    def keep(self, columns: Columns) -> Mask:
        """Keep what is not a list."""
        separators = self.measure(columns)
        fragments = units(columns["caption"]) / (separators + 1)
        listed = (separators >= self.min_separators) & (fragments < self.max_units_per_fragment)
        return np.asarray(~listed & (count(columns["caption"], r"#[\p{L}\p{N}_]+") <= self.max_hashtags))
