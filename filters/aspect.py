"""Drop banners and strips."""

from typing import ClassVar

from pydantic import Field

from filters.base import AtMost


class Aspect(AtMost):
    """Keep pictures whose longer side is not many times the shorter one."""

    reason: ClassVar[str] = "aspect"
    reads: ClassVar[tuple[str, ...]] = ("aspect",)
    unit: ClassVar[str] = "long/short"
    threshold: ClassVar[str] = "max_ratio"

    max_ratio: float = Field(ge=1, description="Largest long/short ratio kept, inclusive.")
