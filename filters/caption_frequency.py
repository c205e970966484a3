"""Drop captions that a source repeats over and over."""

from typing import ClassVar

from pydantic import Field

from filters.base import AtMost, Examples


class CaptionFrequency(AtMost):
    """Keep captions that few rows of their source share, letters folded and digits alike."""

    reason: ClassVar[str] = "caption_frequency"
    reads: ClassVar[tuple[str, ...]] = ("caption_frequency",)
    unit: ClassVar[str] = "rows"
    threshold: ClassVar[str] = "max_rows"
    origin: ClassVar[str] = "COYO-700M kept captions seen at most ten times"
    examples: ClassVar[Examples] = Examples((11, 50_000), (10, 1, float("nan")))

    max_rows: float = Field(default=10, ge=1, description="Most rows that may share one caption, inclusive.")
