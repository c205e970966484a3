"""What a recipe says about signals."""

from pydantic import BaseModel, ConfigDict, Field, field_validator

from stages.signals import repeats
from stages.signals.pixels import Facts

SHIPPED = ("aesthetic", "unsafe", "watermark")
"""Scores that sources ship; a head of that name takes their place."""


class Parameters(BaseModel):
    """Which models score, what counts as an evaluation picture, and what is computed beside."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    clip_model: str | None = Field(
        default=None,
        description="A pre-trained CLIP as clip-retrieval names it, of one language or many (open_clip:"
        "xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k); the filtering network when left out.",
    )
    batch_size: int = Field(default=128, ge=1)
    heads: dict[str, str] = Field(
        default_factory=dict,
        description="Signal to a safetensors file of linear layers on the picture's embedding; aesthetic, unsafe and "
        "watermark are the source's own scores where they have no head.",
    )
    keep_embeddings: bool = Field(default=True, description="Publish embeddings, so that nothing is decoded again.")
    max_unscored: float = Field(
        default=0.01, ge=0, le=1, description="Share of pictures that may come out of the model without a score."
    )
    evaluation_scenes: int = Field(default=0, ge=0, description="Scenes of each evaluation split that are indexed.")
    evaluation_folder: str | None = Field(default=None, description="Folder or tar of evaluation pictures.")
    evaluation_sets: dict[str, str] = Field(
        default_factory=dict,
        description="Name of an evaluation set to a folder, tar or parquet file of its pictures, or a list "
        "(.csv, .txt, .parquet) of their sha256 or 64-bit perceptual hashes.",
    )
    min_hit_similarity: float = Field(
        default=0.95, ge=-1, le=1, description="Cosine from which eval_hit names the nearest evaluation picture."
    )
    pixel_facts: bool = Field(
        default=False,
        description="Decode each stored picture for entropy, sharpness, gray variance and perceptual duplicates.",
    )
    near_duplicates: bool = Field(default=False, description="Look for captions of one host that nearly repeat.")
    image_size: int = Field(default=48, ge=16, description="Size that evaluation scenes are drawn at.")
    seed: int = Field(default=0, description="Seed of the world that evaluation scenes are from.")

    @field_validator("heads")
    @classmethod
    def _free_names(cls, heads: dict[str, str]) -> dict[str, str]:
        for name in heads:
            if not name.isidentifier() or (name in COMPUTED and name not in SHIPPED):
                raise ValueError(f"a head cannot be named {name!r}; take a plain word that no other signal has")
        return heads

    @property
    def sets(self) -> dict[str, str]:
        """All evaluation sets in the user's hands."""
        return ({"evaluation": self.evaluation_folder} if self.evaluation_folder else {}) | self.evaluation_sets


COMPUTED = frozenset(
    {
        "caption",
        "language",
        "clip_similarity",
        "eval_similarity",
        "eval_hit",
        *SHIPPED,
        "min_side",
        "aspect",
        "pixels",
    }
    | {"image_bytes", "frames", "decoded_share", "phash", "length_spike", "image_embedding", "text_embedding"}
    | {*repeats.kinds(True, True), *Facts._fields}
)
"""Every signal that there is, without heads."""
