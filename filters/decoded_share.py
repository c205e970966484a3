"""Drop pictures whose file breaks off."""

from typing import ClassVar

from pydantic import Field

from filters.base import AtLeast, Examples


class DecodedShare(AtLeast):
    """Keep pictures of which nearly all rows could be decoded."""

    reason: ClassVar[str] = "decoded_share"
    reads: ClassVar[tuple[str, ...]] = ("decoded_share",)
    unit: ClassVar[str] = "share"
    threshold: ClassVar[str] = "min_share"
    origin: ClassVar[str] = "ours: a missing strip of one twentieth hides little"
    examples: ClassVar[Examples] = Examples((0.94, 0.0), (0.95, 1.0, float("nan")))

    min_share: float = Field(default=0.95, ge=0, le=1, description="Smallest decoded share kept, inclusive.")
