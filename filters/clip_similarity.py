"""Drop pairs whose caption does not describe their image."""

from typing import ClassVar

from pydantic import Field

from filters.base import AtLeast


class ClipSimilarity(AtLeast):
    """Keep pairs whose image and caption embeddings point the same way.

    Similarity is a cosine in [-1, 1], written by the score stage. Models are not comparable: a
    threshold belongs to the model that it was chosen for. LAION-5B cut English captions at 0.28
    with ViT-B/32 (arXiv:2210.08402). A pair never scored is not kept.
    """

    reason: ClassVar[str] = "clip_similarity"
    reads: ClassVar[tuple[str, ...]] = ("clip_similarity",)
    unit: ClassVar[str] = "cosine"
    threshold: ClassVar[str] = "min_similarity"
    unknown_is_kept: ClassVar[bool] = False

    min_similarity: float = Field(ge=-1, le=1, description="Lowest cosine kept, inclusive.")
