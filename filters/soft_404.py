"""Drop the picture that hosts serve instead of the one that is gone."""

from typing import ClassVar

from pydantic import Field

from filters.base import AtMost, Examples


class SoftNotFound(AtMost):
    """Keep pictures that few unrelated captions share: "no longer available" pictures pass as downloads.

    The signal counts distinct captions on other hosts under the same picture, so that a press photograph
    with one caption on a hundred pages is not taken.
    """

    reason: ClassVar[str] = "soft_404"
    reads: ClassVar[tuple[str, ...]] = ("soft_404",)
    unit: ClassVar[str] = "captions"
    threshold: ClassVar[str] = "max_captions"
    stops: ClassVar[tuple[float, ...]] = (40, 30, 20, 15, 10, 7, 5, 4, 3, 2, 1)
    origin: ClassVar[str] = (
        "ours: repeated pictures are reported of LAION crawls and nobody runs such a rule; a product or press "
        "picture is described in a handful of ways, a stand-in has as many captions as there were pictures; ten lie "
        "well above the one and below the other"
    )
    examples: ClassVar[Examples] = Examples((11, 900), (10, 1, float("nan")))

    max_captions: float = Field(default=10, ge=1, description="Most unrelated captions kept, inclusive.")
