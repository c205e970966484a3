"""Drop markup and program text."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from filters.base import Columns, Filter, Mask
from filters.text import matches

_KINDS = (
    r"(?i)</?[a-z][a-z0-9]*(?:\s[^<>]*)?/?>",
    r"(?:function|def|var|const|let)\s+[A-Za-z_$][A-Za-z0-9_$]*\s*[=(]|function\s*\(|=>\s*[{(]|#include\s*<",
    r"&(?:[a-z]{2,8}|#\d{2,5});|\\u[0-9a-fA-F]{4}|:\s*\d+px|=\d+px",
    r"[{;]\s*(?:return|if|for|while)[ (]|\);",
)


class SourceCode(Filter):
    """Keep captions with fewer than two kinds of structural tokens: "I <3 you" is a caption."""

    reason: ClassVar[str] = "source_code"
    reads: ClassVar[tuple[str, ...]] = ("caption",)

    min_kinds: int = Field(default=2, ge=1, description="Kinds of tokens from which a caption is code.")

    def keep(self, columns: Columns) -> Mask:
        """Keep what shows too few kinds."""
        kinds = sum(matches(columns["caption"], pattern).astype(np.int32) for pattern in _KINDS)
        return np.asarray(kinds < self.min_kinds)
