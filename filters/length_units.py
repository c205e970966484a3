"""Drop captions with too few words to teach a language model."""

from typing import ClassVar

from pydantic import Field

from filters.base import CaptionFilter, Examples, Mask, Measure
from filters.text.captions import Captions
from filters.text.characters import units


class LengthUnits(CaptionFilter):
    """Keep captions of enough words, in units that also count scripts without spaces.

    A run of letters or digits is a unit; characters of scripts without spaces are 1/1.7 each. The strict
    policy asks for more than others do because captions become targets of generation
    (arXiv:2312.14238, section 3.3).
    """

    reason: ClassVar[str] = "length_units"
    unit: ClassVar[str] = "units"
    threshold: ClassVar[str] = "min_units"
    origin: ClassVar[str] = (
        "COYO-700M and CC12M keep 3 to 256 words, Data-Juicer 10 and more; ours is six words or ten characters "
        "without spaces, below which web captions are mostly names of things"
    )
    examples: ClassVar[Examples] = Examples(
        (None, "", "red moon", "圆环", "two nice blue squares", "красная площадь", "赤い月と青い空"),
        (
            "A dog runs across a frozen lake.",
            "图片里有三个黄色的十字。",
            "Ein Hund läuft über den See.",
            "公園のベンチに座っている老人",
        ),
    )

    min_units: float = Field(default=5.8, ge=0, description="Fewest units kept, inclusive.")
    max_units: float = Field(default=80, ge=1, description="Most units kept, inclusive.")

    def measured(self, captions: Captions) -> Measure:
        """Return units."""
        return units(captions)

    def passes(self, captions: Captions) -> Mask:
        """Keep captions within both bounds."""
        size = units(captions)
        return (size >= self.min_units) & (size <= self.max_units)
