"""Drop a picture that many rows of one source share."""

from typing import ClassVar

from pydantic import Field

from filters.base import AtMost


class Duplicates(AtMost):
    """Keep pictures that few rows share: "no longer available" pictures pass as successful downloads."""

    reason: ClassVar[str] = "duplicates"
    reads: ClassVar[tuple[str, ...]] = ("duplicates",)
    unit: ClassVar[str] = "rows"
    threshold: ClassVar[str] = "max_rows"

    max_rows: float = Field(ge=1, description="Most rows that may share one picture, inclusive.")
