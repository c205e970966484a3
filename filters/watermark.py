"""Drop pictures that carry a watermark."""

from typing import ClassVar

from pydantic import Field

from filters.base import AtMost, Examples


class Watermark(AtMost):
    """Keep pictures whose watermark probability is low, or that nobody scored.

    The paper names the signal and no threshold (arXiv:2312.14238, section 3.1).
    """

    reason: ClassVar[str] = "watermark"
    reads: ClassVar[tuple[str, ...]] = ("watermark",)
    unit: ClassVar[str] = "probability"
    threshold: ClassVar[str] = "max_probability"
    origin: ClassVar[str] = (
        "LAION's aesthetic subsets and Data-Juicer cut at 0.8; ours is higher, because the light step drops extremes"
    )
    examples: ClassVar[Examples] = Examples((0.96, 1.0), (0.95, 0.1, float("nan"), float("inf")))

    max_probability: float = Field(default=0.95, ge=0, le=1, description="Highest probability kept, inclusive.")
