"""Drop pictures that are too large to decode safely."""

from typing import ClassVar

from pydantic import Field

from filters.base import AtMost, Examples


class MaxPixels(AtMost):
    """Keep pictures whose area does not ask for gigabytes of memory when decoded."""

    reason: ClassVar[str] = "max_pixels"
    reads: ClassVar[tuple[str, ...]] = ("pixels",)
    unit: ClassVar[str] = "pixels"
    threshold: ClassVar[str] = "max_area"
    origin: ClassVar[str] = "Pillow warns of decompression bombs from 89,478,485 pixels on"
    examples: ClassVar[Examples] = Examples((1e8, 4e9), (8.9e7, 2e6, float("nan")))

    max_area: float = Field(default=89_478_485, ge=1, description="Largest width times height kept, inclusive.")
