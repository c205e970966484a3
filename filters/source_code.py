"""Drop markup and program text."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from filters.base import CaptionFilter, Examples, Mask, Measure
from filters.text import code_points
from filters.text.captions import Captions, Ints, remembered

_KINDS = (
    # All tags but the line break, which agencies leave in credits of photos.
    r"(?i)</?(?:[ac-z][a-z0-9]*|b|b[a-qs-z0-9][a-z0-9]*)(?:\s[^<>]*)?/?>",
    r"(?:function|def|var|const|let)\s+[A-Za-z_$][A-Za-z0-9_$]*\s*[=(]|function\s*\(|=>\s*[{(]|#include\s*<",
    r"&(?:[a-z]{2,8}|#\d{2,5});|\\u[0-9a-fA-F]{4}|:\s*\d+px|=\d+px",
    r"[{;]\s*(?:return|if|for|while)[ (]|\);",
    r"\\(?:frac|begin|end|mathbb|mathrm|displaystyle|left|right|sum|int)[^a-z]",
    r"\{\\|\}\{",
    r"[a-z-]+\s*:\s*[^;{}]+;\s*[a-z-]+\s*:",
)


@remembered
def _kinds(captions: Captions) -> Ints:
    signs = np.flatnonzero(captions.kinds == code_points.MARKUP)
    points, after = captions.points[signs], captions.points[signs + 1]
    # Prices and "this & that" are most of it, and no code.
    signs = signs[(points != ord("$")) & ((points != ord("&")) | (after != ord(" ")))]
    among = np.zeros(len(captions), dtype=bool)
    among[captions.rows_of(signs)] = True
    found = np.zeros(len(captions), dtype=np.int64)
    for pattern in _KINDS:
        found += captions.matches(pattern, among)
    return found


class SourceCode(CaptionFilter):
    """Keep captions with fewer than two kinds of structural tokens: "I <3 you" is a caption.

    Kinds are tags, definitions and calls, entities and lengths in pixels, statements, commands and braces of
    TeX, and style declarations.
    """

    reason: ClassVar[str] = "source_code"
    unit: ClassVar[str] = "kinds"
    threshold: ClassVar[str] = "min_kinds"
    stops: ClassVar[tuple[float, ...]] = (4, 3, 2, 1)
    on_threshold_is_kept: ClassVar[bool] = False
    origin: ClassVar[str] = 'ours; C4 drops any page with a brace, which captions such as ":-{" do not deserve'
    examples: ClassVar[Examples] = Examples(
        (
            '<div class="x"><img width=10px></div> function show() { return 1; }',
            "<b>Распродажа</b> <img width=10px>",
            "var x = 1; if (x) { return x; }",
            r"{\displaystyle x=\frac{1}{2}}",
        ),
        (
            'He wrote "I <3 you" on the wall of the house in red paint.',
            "Salt &amp; pepper",
            "Anna Lee at the Players<br /> Picture: Golffile<br /> All use must carry credit (&copy; Golffile)",
            "Größe < 3 cm, Preis > 5 €",
            "Let me (your guide) show you around",
            "三只猫 <3",
            None,
        ),
    )

    min_kinds: int = Field(default=2, ge=1, description="Kinds of tokens from which a caption is code.")

    def measured(self, captions: Captions) -> Measure:
        """Return how many kinds of structural tokens there are."""
        return _kinds(captions).astype(np.float32)

    def passes(self, captions: Captions) -> Mask:
        """Keep what shows too few kinds."""
        return _kinds(captions) < self.min_kinds
