"""Drop lists of search terms that pose as captions."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from filters.base import CaptionFilter, Examples, Mask, Measure
from filters.text.captions import Captions
from filters.text.characters import hashtags, separators, spaces, units
from filters.text.completeness import function_words, participles


class KeywordStuffing(CaptionFilter):
    """Keep captions that are not many short fragments between separators, nor rows of hashtags.

    An enumeration inside a sentence is none: two function words and a participle or a third one tell it. Ingredient
    lists and Chinese enumerations look alike: the enumeration comma is not counted.
    """

    reason: ClassVar[str] = "keyword_stuffing"
    unit: ClassVar[str] = "separators"
    threshold: ClassVar[str] = "min_separators"
    stops: ClassVar[tuple[float, ...]] = (20, 15, 12, 10, 8, 7, 6, 5, 4, 3)
    on_threshold_is_kept: ClassVar[bool] = False
    origin: ClassVar[str] = "ours; Google's rules for CC3M name the reason and no number"
    examples: ClassVar[Examples] = Examples(
        (
            "red, sale, art, shoes, blue, cheap, buy, green",
            "nice #red #sale #art #buy",
            "Auto | kaufen | billig | neu | gebraucht | rot | blau",
            "手机,便宜,打折,正品,包邮,新款,优惠",
        ),
        (
            "Salt, pepper, oil and a little bread on a table, seen from above, by the window, in the sun, at "
            "noon, today",
            "苹果、梨、香蕉、橙子、葡萄、草莓、樱桃",
            "number #1 of a #trend",
            "Мама, папа и я, дружная семья",
            None,
        ),
    )

    min_separators: int = Field(default=6, ge=1, description="Separators from which a caption is a list.")
    max_units_per_fragment: float = Field(default=2.5, gt=0, description="Mean fragment that is still a list.")
    min_connected: int = Field(default=3, ge=0, description="Function words from which an enumeration is a sentence.")
    max_hashtags: int = Field(default=2, ge=0, description="Most hashtags kept, inclusive.")

    def measured(self, captions: Captions) -> Measure:
        """Return how many separators there are."""
        return separators(captions).astype(np.float32)

    def passes(self, captions: Captions) -> Mask:
        """Keep what is not a list."""
        fragments = units(captions) / (separators(captions) + 1)
        listed = (separators(captions) >= self.min_separators) & (fragments < self.max_units_per_fragment)
        rows = np.flatnonzero(listed)
        if len(rows):
            connected = function_words(captions)[rows] + np.minimum(participles(captions)[rows], 1)
            listed[rows] = (connected < self.min_connected) | (spaces(captions)[rows] == 0)
        return ~listed & (hashtags(captions) <= self.max_hashtags)
