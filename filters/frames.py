"""Drop animations."""

from typing import ClassVar

from pydantic import Field

from filters.base import AtMost, Examples


class Frames(AtMost):
    """Keep still pictures; a caption of an animation rarely describes its first frame."""

    reason: ClassVar[str] = "frames"
    reads: ClassVar[tuple[str, ...]] = ("frames",)
    unit: ClassVar[str] = "frames"
    threshold: ClassVar[str] = "max_frames"
    origin: ClassVar[str] = "ours; nobody publishes one"
    examples: ClassVar[Examples] = Examples((2, 120), (1, float("nan")))

    max_frames: float = Field(default=1, ge=1, description="Most frames kept, inclusive.")
