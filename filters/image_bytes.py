"""Drop files that are too small to be photographs."""

from typing import ClassVar

from pydantic import Field

from filters.base import AtLeast


class ImageBytes(AtLeast):
    """Keep pictures whose stored file has enough bytes; COYO-700M cut at 5 KB."""

    reason: ClassVar[str] = "image_bytes"
    reads: ClassVar[tuple[str, ...]] = ("image_bytes",)
    unit: ClassVar[str] = "bytes"
    threshold: ClassVar[str] = "min_bytes"

    min_bytes: float = Field(ge=0, description="Smallest file kept, in bytes, inclusive.")
