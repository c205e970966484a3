"""Drop banners and strips."""

from typing import ClassVar

from pydantic import Field

from filters.base import AtMost, Examples


class Aspect(AtMost):
    """Keep pictures whose longer side is not many times the shorter one."""

    reason: ClassVar[str] = "aspect"
    reads: ClassVar[tuple[str, ...]] = ("aspect",)
    unit: ClassVar[str] = "long/short"
    threshold: ClassVar[str] = "max_ratio"
    origin: ClassVar[str] = (
        "DataComp and COYO-700M cut at 3, CC12M at 2.5; ours is wider, because skylines and infographics are fine"
    )
    examples: ClassVar[Examples] = Examples((5.01, 30), (5, 1.5, float("nan")))

    max_ratio: float = Field(default=5, ge=1, description="Largest long/short ratio kept, inclusive.")
