"""Drop captions with strong abuse."""

from typing import ClassVar

import numpy as np

from filters.base import Columns, Filter, Mask
from filters.text import matches, word_count

# Strong words only, as whole words in spaced scripts and of two or more characters in Chinese and
# Japanese, where one character alone has innocent meanings. Deployments bring lists of their own.
_SPACED = frozenset((
    "fuck", "fucking", "fucked", "fucker", "motherfucker", "shit", "bullshit", "cunt", "asshole", "whore", "slut",
    "scheiße", "scheisse", "arschloch", "hurensohn", "fotze", "putain", "mierda", "puta", "cazzo", "блядь", "сука",
))  # fmt: skip
_UNSPACED = ("他妈的", "操你", "傻逼", "婊子", "くそったれ")


class Offensive(Filter):
    """Keep captions without a word of the list; matched as whole words, so place names survive."""

    reason: ClassVar[str] = "offensive"
    reads: ClassVar[tuple[str, ...]] = ("caption",)

    extra_words: tuple[str, ...] = ()

    def keep(self, columns: Columns) -> Mask:
        """Keep what holds no listed word."""
        listed = word_count(columns["caption"], _SPACED | frozenset(word.lower() for word in self.extra_words))
        return np.asarray((listed == 0) & ~matches(columns["caption"], "|".join(_UNSPACED)))
