"""Drop captions that a source repeats over and over."""

from typing import ClassVar

from pydantic import Field

from filters.base import AtMost


class CaptionFrequency(AtMost):
    """Keep captions that few rows of their source share (letters folded, digits alike); COYO-700M cut at 10."""

    reason: ClassVar[str] = "caption_frequency"
    reads: ClassVar[tuple[str, ...]] = ("caption_frequency",)
    unit: ClassVar[str] = "rows"
    threshold: ClassVar[str] = "max_rows"

    max_rows: float = Field(ge=1, description="Most rows that may share one caption, inclusive.")
