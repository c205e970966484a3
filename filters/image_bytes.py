"""Drop files that are too small to be photographs."""

from typing import ClassVar

from pydantic import Field

from filters.base import AtLeast, Examples


class ImageBytes(AtLeast):
    """Keep pictures whose file, as the web sent it, has enough bytes."""

    reason: ClassVar[str] = "image_bytes"
    reads: ClassVar[tuple[str, ...]] = ("image_bytes",)
    unit: ClassVar[str] = "bytes"
    threshold: ClassVar[str] = "min_bytes"
    stops: ClassVar[tuple[float, ...]] = (0, 512, 1024, 2048, 3072, 4096, 5120, 8192, 10_240, 16_384, 20_480, 40_960)
    origin: ClassVar[str] = "COYO-700M cut at 5 KB; ours is less than half: the light step drops extremes only"
    examples: ClassVar[Examples] = Examples((2047, 43), (2048, 90_000, float("nan")))

    min_bytes: float = Field(default=2048, ge=0, description="Smallest file kept, in bytes, inclusive.")
