"""Drop a picture that many rows of one source share."""

from typing import ClassVar

from pydantic import Field

from filters.base import AtMost, Examples


class Duplicates(AtMost):
    """Keep pictures that few rows share."""

    reason: ClassVar[str] = "duplicates"
    reads: ClassVar[tuple[str, ...]] = ("duplicates",)
    unit: ClassVar[str] = "rows"
    threshold: ClassVar[str] = "max_rows"
    origin: ClassVar[str] = "ours, as many as COYO-700M allows one caption"
    examples: ClassVar[Examples] = Examples((11, 4000), (10, 1, float("nan")))

    max_rows: float = Field(default=10, ge=1, description="Most rows that may share one picture, inclusive.")
