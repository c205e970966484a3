"""Drop lists of search terms that pose as captions."""

from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from filters.base import CaptionFilter, Examples, Mask, Measure
from filters.text.captions import Bools, Captions, Ints, remembered
from filters.text.characters import hashtags, separators, units
from filters.text.completeness import function_words, participles

_SEPARATES_NOTHING = r"://|www\.|\b/\b|\d,\d"
_NO_SEPARATOR = r"\S*(?:://|www\.)\S*|\b/\b"
_CONJUNCTIONS = "and|or|&|und|oder|et|ou|y|e|o|og|och|eller|en|of|i|a|oraz|и|или|та|і|ve|veya|dan|và|και"
_CLOSED = rf"(?i)[,;，、]\s?(?:[^,;|/，、]+\s)?(?:{_CONJUNCTIONS})\s[^,;|/，、]+(?:$|[.!?])"


def _without(captions: Captions, some: Ints) -> Captions:
    """Return some captions without what separates nothing: addresses, "and/or", "1,400"."""
    texts = pc.replace_substring_regex(captions.text.take(pa.array(some)), _NO_SEPARATOR, " ")
    return Captions(pc.replace_substring_regex(texts, r"(\d),(\d)", r"\1 \2"))


@remembered
def _between_words(captions: Captions, most_units: float) -> Ints:
    """Return the separators of each caption; without those that separate nothing, where fragments are short."""
    found = separators(captions).copy()
    short = (found > 0) & (units(captions) / (found + 1) < most_units)
    rows = np.flatnonzero(captions.matches(_SEPARATES_NOTHING, among=short))
    if len(rows):
        found[rows] = separators(_without(captions, rows))
    return found


class KeywordStuffing(CaptionFilter):
    """Keep captions that are not many short fragments between separators, nor rows of hashtags.

    An enumeration inside a sentence is none: two function words and a participle or a third one tell it. Nor is one
    whose last term is joined by "and": terms for a search engine just stop. Chinese enumerations look alike: the
    enumeration comma is not counted, and neither are slashes of addresses.
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
            "Solar, Photovoltaik, Landwirte, Bundesrat, Bundesregierung, Umsatzsteuer, Ertragsteuer",
        ),
        (
            "Salt, pepper, oil and a little bread on a table, seen from above, by the window, in the sun, at "
            "noon, today",
            "苹果、梨、香蕉、橙子、葡萄、草莓、樱桃",
            "number #1 of a #trend",
            "Мама, папа и я, дружная семья",
            "Butter, chocolate, eggs, sugar, flour, vanilla, and pecans.",
            "Tomaten, Gurken, Salat, Radieschen, Krautsalat, Oliven, Käse und Zwiebeln",
            "https://example.org/images/mgl/s6/2022/a/series/photo.jpg",
            None,
        ),
    )

    min_separators: int = Field(default=6, ge=1, description="Separators from which a caption is a list.")
    max_units_per_fragment: float = Field(default=2.5, gt=0, description="Mean fragment that is still a list.")
    min_connected: int = Field(default=3, ge=0, description="Function words from which an enumeration is a sentence.")
    max_hashtags: int = Field(default=2, ge=0, description="Most hashtags kept, inclusive.")

    def measured(self, captions: Captions) -> Measure:
        """Return how many separators there are between words, the number that decides at any threshold."""
        return _between_words(captions, self.max_units_per_fragment).astype(np.float32)

    def passes(self, captions: Captions) -> Mask:
        """Keep what is not a list."""
        rows = np.flatnonzero(self._listed(captions))
        listed = np.zeros(len(captions), dtype=bool)
        if len(rows):
            listed[rows] = self._listed(_without(captions, rows))
            rows = np.flatnonzero(listed)
            connected = function_words(captions)[rows] + np.minimum(participles(captions)[rows], 1)
            unspaced = pc.count_substring(captions.text.take(pa.array(rows)), " ").to_numpy() == 0
            listed[rows] = (connected < self.min_connected) | unspaced
            listed &= ~captions.matches(_CLOSED, among=listed)
        return ~listed & (hashtags(captions) <= self.max_hashtags)

    def _listed(self, captions: Captions) -> Bools:
        fragments = units(captions) / (separators(captions) + 1)
        return np.asarray((separators(captions) >= self.min_separators) & (fragments < self.max_units_per_fragment))
