"""Drop captions with one character many times in a row."""

from typing import ClassVar

from pydantic import Field

from filters.base import CaptionFilter, Examples, Mask
from filters.text.captions import Captions
from filters.text.characters import has_run, same_as_next
from filters.text.code_points import DIGIT, SPACE


class CharacterRuns(CaptionFilter):
    """Keep captions without long runs of one letter or sign; digits and spaces may repeat."""

    reason: ClassVar[str] = "character_runs"
    unit: ClassVar[str] = "characters"
    threshold: ClassVar[str] = "max_run"
    origin: ClassVar[str] = "ours; Data-Juicer's share of repeated 10-grams is nearly always 0 on captions"
    examples: ClassVar[Examples] = Examples(
        ("wow!!!!!!!!! what a picture this is", "======= sale =======", "哈哈哈哈哈哈哈哈", "Нееееееет, сказал он"),
        ("Hmmm... that is nice!!!", "room 1000000 of a hotel", "哈哈哈,真好笑", "Schifffahrt", None),
    )

    max_run: int = Field(default=5, ge=2, description="Longest run kept, inclusive.")

    def passes(self, captions: Captions) -> Mask:
        """Keep what has no longer run."""
        same = same_as_next(captions) & (captions.kinds != DIGIT) & (captions.kinds != SPACE)
        return ~has_run(captions, same, self.max_run)
