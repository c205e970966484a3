"""Drop pictures that carry a watermark."""

from typing import ClassVar

from pydantic import Field

from filters.base import AtMost


class Watermark(AtMost):
    """Keep pictures whose watermark probability is low, or that nobody scored.

    The paper names the signal and no threshold (arXiv:2312.14238, section 3.1).
    """

    reason: ClassVar[str] = "watermark"
    reads: ClassVar[tuple[str, ...]] = ("watermark",)
    unit: ClassVar[str] = "probability"
    threshold: ClassVar[str] = "max_probability"

    max_probability: float = Field(ge=0, le=1, description="Highest probability kept, inclusive.")
