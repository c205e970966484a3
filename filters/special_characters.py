"""Drop captions made of signs rather than words."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from filters.base import CaptionFilter, Examples, Mask, Measure
from filters.text.captions import Captions
from filters.text.characters import share, signs


class SpecialCharacters(CaptionFilter):
    """Keep captions in which few characters are neither letter, digit, mark nor space."""

    reason: ClassVar[str] = "special_characters"
    unit: ClassVar[str] = "share"
    threshold: ClassVar[str] = "max_share"
    origin: ClassVar[str] = (
        "Data-Juicer's default is 0.25, but it also counts digits and spaces as special; ours does not, so the same "
        "number is laxer"
    )
    examples: ClassVar[Examples] = Examples(
        ("*** sale *** !!! @@@ ### $$$", "→ → → ok", "☆☆☆ 猫 ☆☆☆", "«...» — «...» да"),
        ("Well, well: it's a dog!", "«Да», — сказал он и вышел", "猫、犬、鳥がいる公園", "हिन्दी में लिखा हुआ", None),
    )

    max_share: float = Field(default=0.25, ge=0, le=1, description="Highest share kept, inclusive.")

    def measured(self, captions: Captions) -> Measure:
        """Return the share of signs."""
        return share(signs(captions), captions.length)

    def passes(self, captions: Captions) -> Mask:
        """Keep what has few signs."""
        return self.measured(captions) <= np.float32(self.max_share)
