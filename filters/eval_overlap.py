"""Drop copies of evaluation pictures."""

from typing import ClassVar

from pydantic import Field

from filters.base import AtMost, Examples


class EvalOverlap(AtMost):
    """Keep pictures that resemble no evaluation picture too closely, or where none was given.

    The paper removes duplicates of ImageNet, Flickr30K and COCO and names no method
    (arXiv:2312.14238, appendix).
    """

    reason: ClassVar[str] = "eval_overlap"
    reads: ClassVar[tuple[str, ...]] = ("eval_similarity",)
    unit: ClassVar[str] = "cosine"
    threshold: ClassVar[str] = "max_similarity"
    origin: ClassVar[str] = "ours: exact copies score 1, recompressed ones a little less"
    examples: ClassVar[Examples] = Examples((0.975, 1.0), (0.97, 0.4, float("nan")))

    max_similarity: float = Field(
        default=0.97, ge=-1, le=1, description="Highest cosine to any evaluation picture kept, inclusive."
    )
