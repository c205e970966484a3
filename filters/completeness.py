"""Drop captions that are no sentence, or were cut."""

from typing import ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from filters.base import Columns, Filter, Mask
from filters.text import count, matches, word_count

_FUNCTION_WORDS = (
    # English
    "a an the of in on at with to by for from is are was were be has have this that there and his her its over under",
    "above below left right near behind between into",
    # German, French, Spanish, Italian, Portuguese, Dutch
    "der die das ein eine einem einen einer im in auf mit von zu ist sind und hier für über unter am an des dem den",
    "le la les un une des du de en avec sur dans est sont et au aux pour par",
    "el los las una de del en con por para es son y que",
    "il lo gli uno di da con su per che sono e al della nel",
    "o os um uma do da no na com para em ao",
    "het een van op met voor te zijn is en bij",
    # Russian, Vietnamese
    "и в на с по из для от у это за",
    "là một của và trên trong với đang các những có để cho không này bên đến từ",
)
_WORDS = frozenset(" ".join(_FUNCTION_WORDS).split())
# Particles that sentences of these languages hardly do without.
_UNSPACED = r"[的了在是着有]|[はがをにでのと]|[은는이가을를에의]|ที่|ของ|และ"
_OPEN_END = r"(?:\.\.\.|…|[,，、:;\-–—|/&(\[{])\s*$"
_DANGLING = r"(?i)(?:^|\s)(?:and|or|with|of|the|a|an|for|to|in|by|at|und|oder|mit|von|der|die|das|ein|eine)\s*$"


class Completeness(Filter):
    """Keep captions with enough function words, and that do not end in the middle.

    Google's rules for CC3M asked for determiner, noun and preposition, and kept 3 % of alt-text
    (Sharma et al. 2018); ours counts closed-class words of ten languages, and particles in scripts
    without spaces. Languages that do without such words are counted as unknown and kept.
    """

    reason: ClassVar[str] = "completeness"
    reads: ClassVar[tuple[str, ...]] = ("caption",)
    unit: ClassVar[str] = "function words"
    threshold: ClassVar[str] = "min_function_words"

    min_function_words: int = Field(default=2, ge=0, description="Fewest function words kept, inclusive.")

    def measure(self, columns: Columns) -> npt.NDArray[np.float32]:
        """Return how many function words or particles there are."""
        return word_count(columns["caption"], _WORDS) + count(columns["caption"], _UNSPACED)

    def keep(self, columns: Columns) -> Mask:
        """Keep whole sentences."""
        cut = matches(columns["caption"], _OPEN_END) | matches(columns["caption"], _DANGLING)
        known = matches(
            columns["caption"], r"[\p{Latin}\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Cyrillic}\p{Thai}]"
        )
        enough = self.measure(columns) >= self.min_function_words
        return np.asarray((enough | ~known) & ~cut)
