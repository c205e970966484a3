"""Drop pairs whose caption does not describe their image."""

from typing import ClassVar

from pydantic import Field

from filters.base import AtLeast, Examples


class ClipSimilarity(AtLeast):
    """Keep pairs whose image and caption embeddings point the same way.

    Similarity is a cosine in [-1, 1], written by the score stage. Models are not comparable: a
    threshold belongs to the model that it was chosen for. A pair never scored is not kept.
    """

    reason: ClassVar[str] = "clip_similarity"
    reads: ClassVar[tuple[str, ...]] = ("clip_similarity",)
    unit: ClassVar[str] = "cosine"
    threshold: ClassVar[str] = "min_similarity"
    unknown_is_kept: ClassVar[bool] = False
    origin: ClassVar[str] = (
        "LAION-5B cut English captions at 0.28 with ViT-B/32 (arXiv:2210.08402), other languages at 0.26; ours is "
        "lower, because the light step drops extremes only and other models give other cosines"
    )
    examples: ClassVar[Examples] = Examples((0.1, 0.1999, float("nan"), float("inf")), (0.2, 0.35))

    min_similarity: float = Field(default=0.2, ge=-1, le=1, description="Lowest cosine kept, inclusive.")
