"""Drop pictures that are probably not safe to look at."""

from typing import ClassVar

from pydantic import Field

from filters.base import AtMost, Examples


class Unsafe(AtMost):
    """Keep pictures whose unsafe probability is low, or that nobody scored.

    The paper names the signal and no threshold (arXiv:2312.14238, section 3.1).
    """

    reason: ClassVar[str] = "unsafe"
    reads: ClassVar[tuple[str, ...]] = ("unsafe",)
    unit: ClassVar[str] = "probability"
    threshold: ClassVar[str] = "max_probability"
    origin: ClassVar[str] = (
        "LAION's aesthetic subsets, COYO-700M and Data-Juicer cut at 0.5; ours is higher, because LAION's classifier "
        "is wrong on 5 to 8 % of safe pictures at 0.5 and the light step drops extremes"
    )
    examples: ClassVar[Examples] = Examples((0.91, 1.0), (0.9, 0.02, float("nan"), float("inf")))

    max_probability: float = Field(default=0.9, ge=0, le=1, description="Highest probability kept, inclusive.")
