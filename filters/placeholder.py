"""Drop captions that stand in for one."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from filters.base import CaptionFilter, Examples, Mask, Measure
from filters.text import code_points
from filters.text.captions import Captions, Floats, remembered
from filters.text.page_text import coverage, covered

_TEMPLATE = r"\{\{[^}]*\}\}|\$\{|%[sd](?:$|\s)|<%|%>"


@remembered
def _coverage(captions: Captions) -> Floats:
    found = coverage(captions, "stand_ins")
    template = captions.matches(_TEMPLATE, captions.having(captions.kinds == code_points.MARKUP))
    found[(covered(captions)["stand_ins_anywhere"] > 0) | template] = 1
    return found


class Placeholder(CaptionFilter):
    """Keep captions that are no template text and no word such as "untitled" alone, with a number or not."""

    reason: ClassVar[str] = "placeholder"
    unit: ClassVar[str] = "share covered"
    threshold: ClassVar[str] = "max_coverage"
    origin: ClassVar[str] = "ours: C4 drops pages with lorem ipsum; single words must cover nearly all"
    examples: ClassVar[Examples] = Examples(
        (
            "lorem ipsum dolor sit amet",
            "untitled",
            "image placeholder 4",
            "Photo 12",
            "{{ product.title }}",
            "图片",
            "Bild 3",
        ),
        (
            "An untitled painting of a woman by the sea",
            "Das Bild zeigt zwei Kinder im Schnee",
            "the logo of a bank on a wall",
            "图片里有三个黄色的十字",
            "I gave 100 % of it",
            None,
        ),
    )

    max_coverage: float = Field(default=0.8, ge=0, le=1, description="Highest covered share kept, inclusive.")

    def measured(self, captions: Captions) -> Measure:
        """Return the share of the caption's letters that stand-ins cover; 1 for templates."""
        return _coverage(captions)

    def passes(self, captions: Captions) -> Mask:
        """Keep what stand-ins cover little of."""
        return _coverage(captions) <= np.float32(self.max_coverage)
