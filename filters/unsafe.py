"""Drop pictures that are probably not safe to look at."""

from typing import ClassVar

from pydantic import Field

from filters.base import AtMost


class Unsafe(AtMost):
    """Keep pictures whose unsafe probability is low, or that nobody scored.

    The paper names the signal and no threshold (arXiv:2312.14238, section 3.1).
    """

    reason: ClassVar[str] = "unsafe"
    reads: ClassVar[tuple[str, ...]] = ("unsafe",)
    unit: ClassVar[str] = "probability"
    threshold: ClassVar[str] = "max_probability"

    max_probability: float = Field(ge=0, le=1, description="Highest probability kept, inclusive.")
