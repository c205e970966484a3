"""Drop captions that differ from many others by a word or two."""

from typing import ClassVar

from pydantic import Field

from filters.base import AtMost, Examples


class NearDuplicates(AtMost):
    """Keep captions that few rows of their source nearly repeat. A flag: in no policy of ours.

    The signal is the size of a caption's cluster by MinHash over character 5-grams.
    """

    reason: ClassVar[str] = "near_duplicates"
    reads: ClassVar[tuple[str, ...]] = ("near_duplicates",)
    unit: ClassVar[str] = "rows"
    threshold: ClassVar[str] = "max_rows"
    origin: ClassVar[str] = "ours; datatrove and Data-Juicer drop all but one at Jaccard 0.7 to 0.8"
    examples: ClassVar[Examples] = Examples((11, 700), (10, 1, float("nan")))

    max_rows: float = Field(default=10, ge=1, description="Most rows of one cluster kept, inclusive.")
