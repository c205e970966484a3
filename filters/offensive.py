"""Drop captions with strong abuse."""

from functools import cache
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from filters.base import CaptionFilter, Examples, Mask, Measure
from filters.text.captions import Captions, Ints, remembered
from filters.text.characters import unspaced
from filters.text.lexicon import Role, with_role
from filters.text.strong_words import ALLOWED_UNSPACED, STRONG_UNSPACED
from filters.text.words import Lookup, keys_of, words_of


@cache
def _lookup(words: tuple[str, ...]) -> Lookup:
    return Lookup({int(key): 1 for key in keys_of(words)})


def _extra(captions: Captions, listed: tuple[str, ...]) -> Ints:
    words = words_of(captions)
    positions, _ = _lookup(listed).find(words.keys)
    return np.asarray(np.bincount(words.rows[positions], minlength=len(captions)))


@remembered
def _hits(captions: Captions) -> Ints:
    """Return listed words of each caption, of all languages."""
    found = np.bincount(words_of(captions).rows[with_role(captions, Role.STRONG)], minlength=len(captions))
    rows = np.flatnonzero(unspaced(captions))
    if len(rows):
        text = pc.replace_substring_regex(captions.text.take(pa.array(rows)), "|".join(ALLOWED_UNSPACED), "")
        found[rows] += pc.count_substring_regex(text, "|".join(STRONG_UNSPACED)).to_numpy(zero_copy_only=False)
    return found


class Offensive(CaptionFilter):
    """Keep captions without a word of the lists; matched as whole words, so place names survive.

    Words about bodies, faiths and origins are not abuse, and are not listed.
    """

    reason: ClassVar[str] = "offensive"
    unit: ClassVar[str] = "listed words"
    threshold: ClassVar[str] = "max_words"
    origin: ClassVar[str] = (
        "ours, strong words of 16 languages; COYO-700M used three English lists and C4 lists of 28 languages, which "
        "take medicine and place names too"
    )
    examples: ClassVar[Examples] = Examples(
        (
            "This is a fucking red circle.",
            "das ist scheiße",
            "Вот сука, сказал он",
            "这个傻逼又来了",
            "quelle salope",
        ),
        (
            "A view of Scunthorpe station in the early morning light.",
            "A cock crows on a farm in Sussex",
            "breast cancer awareness walk",
            "性别平等的海报挂在墙上",
            "Essex and Middlesex on a map",
            None,
        ),
    )

    max_words: int = Field(default=0, ge=0, description="Most listed words kept, inclusive.")
    extra_words: tuple[str, ...] = Field(default=(), description="Words beside the lists, for spaced scripts.")

    def measured(self, captions: Captions) -> Measure:
        """Return how many listed words there are."""
        extra = _extra(captions, self.extra_words) if self.extra_words else 0
        return (_hits(captions) + extra).astype(np.float32)

    def passes(self, captions: Captions) -> Mask:
        """Keep what holds few enough listed words."""
        return self.measured(captions) <= self.max_words
