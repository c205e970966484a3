"""Drop pictures that are too small to show anything."""

from typing import ClassVar

from pydantic import Field

from filters.base import AtLeast, Examples


class MinSide(AtLeast):
    """Keep pictures whose shorter side, as published, has enough pixels."""

    reason: ClassVar[str] = "min_side"
    reads: ClassVar[tuple[str, ...]] = ("min_side",)
    unit: ClassVar[str] = "pixels"
    threshold: ClassVar[str] = "min_pixels"
    origin: ClassVar[str] = "LAION cut at 64 at its source; COYO-700M and DataComp at 200, CC12M at 400"
    examples: ClassVar[Examples] = Examples((63, 1), (64, 1080, float("nan")))

    min_pixels: float = Field(default=64, ge=1, description="Shortest side kept, in pixels, inclusive.")
