"""Drop captions with one character many times in a row."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from filters.base import CaptionFilter, Examples, Mask
from filters.text.captions import Bools, Captions, remembered
from filters.text.characters import has_run, same_as_next
from filters.text.code_points import DIGIT, SPACE


@remembered
def _same(captions: Captions) -> Bools:
    return np.asarray(same_as_next(captions) & (captions.kinds != DIGIT) & (captions.kinds != SPACE))


class CharacterRuns(CaptionFilter):
    """Keep captions without long runs of one letter or sign; digits and spaces may repeat."""

    reason: ClassVar[str] = "character_runs"
    unit: ClassVar[str] = "characters"
    threshold: ClassVar[str] = "max_run"
    stops: ClassVar[tuple[float, ...]] = (20, 10, 7, 5, 4, 3)
    origin: ClassVar[str] = "ours; Data-Juicer's share of repeated 10-grams is nearly always 0 on captions"
    examples: ClassVar[Examples] = Examples(
        ("wow!!!!!!!!! what a picture this is", "======= sale =======", "哈哈哈哈哈哈哈哈", "Нееееееет, сказал он"),
        ("Hmmm... that is nice!!!", "room 1000000 of a hotel", "哈哈哈,真好笑", "Schifffahrt", None),
    )

    max_run: int = Field(default=5, ge=2, description="Longest run kept, inclusive.")

    def passes(self, captions: Captions) -> Mask:
        """Keep what has no longer run."""
        return ~has_run(captions, _same(captions), self.max_run)
