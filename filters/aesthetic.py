"""Drop pictures that an aesthetic predictor finds extremely bad."""

from typing import ClassVar

from pydantic import Field

from filters.base import AtLeast, Examples


class Aesthetic(AtLeast):
    """Keep pictures whose predicted aesthetic score (0 to 10) is not extremely low, or that nobody scored.

    By LAION's own histograms a cut at 2.0 takes 1.3 % of LAION-2B-en, one at 5 would take 57 %:
    only a low cut fits the paper's kept share of 84.3 %.
    """

    reason: ClassVar[str] = "aesthetic"
    reads: ClassVar[tuple[str, ...]] = ("aesthetic",)
    unit: ClassVar[str] = "score 0-10"
    threshold: ClassVar[str] = "min_score"
    origin: ClassVar[str] = "ours, from LAION's histograms; their subsets for image generation cut at 4.5 to 6.5"
    examples: ClassVar[Examples] = Examples((1.99, 0.3), (2.0, 5.5, float("nan"), float("inf")))

    min_score: float = Field(default=2.0, ge=0, le=10, description="Lowest score kept, inclusive.")
