"""Drop pictures that are too small to show anything."""

from typing import ClassVar

from pydantic import Field

from filters.base import AtLeast


class MinSide(AtLeast):
    """Keep pictures whose shorter side, as published, has enough pixels."""

    reason: ClassVar[str] = "min_side"
    reads: ClassVar[tuple[str, ...]] = ("min_side",)
    unit: ClassVar[str] = "pixels"
    threshold: ClassVar[str] = "min_pixels"

    min_pixels: float = Field(ge=1, description="Shortest side kept, in pixels, inclusive.")
