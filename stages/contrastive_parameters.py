"""What decides the contrastive stage: sizes, how pictures are shown, rates; and the paper's values."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from models.config import InternVLConfig, TextConfig, VisionConfig
from models.contrastive_objective import Loss
from stages.held_out import SHARE, Share
from stages.manifest import ManifestError
from stages.pair_batches import Switch, View
from stages.training.schedule import Schedule


class Parameters(BaseModel):
    """Sizes and schedule; the defaults are those of the tiny recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shards: str = Field(default="shards/clean", description="Artifact to train on.")
    image_size: int = Field(default=48, ge=8)
    patch_size: int = Field(default=8, ge=1)
    hidden_size: int = Field(default=96, ge=8, description="Width of the vision tower.")
    intermediate_size: int = Field(default=384, ge=8)
    num_hidden_layers: int = Field(default=4, ge=1)
    num_attention_heads: int = Field(default=3, ge=1)
    norm_type: Literal["rms_norm", "layer_norm"] = Field(
        default="rms_norm", description="Of the vision tower's blocks; InternViT-300M has layer_norm."
    )
    qk_normalization: bool = Field(default=True, description="Of queries and keys; InternViT-300M has none.")
    qkv_bias: bool = Field(default=False, description="Of queries, keys and values; InternViT-300M has them.")
    start_vision: str | None = Field(
        default=None,
        description="A trained vision tower to start from instead of nothing: a folder that all machines see, or a "
        ".pth, of an InternViT of this shape, official or transformers' own; positions are interpolated.",
    )
    layer_scale: float = Field(
        default=1.0,
        gt=0,
        description="First value of the layer scales; InternViT-6B has 0.1, few layers learn with 1.",
    )
    drop_path_rate: float = Field(default=0.0, ge=0, lt=1, description="The same in every block; the paper has 0.2.")
    embed_dim: int = Field(default=64, ge=2, description="Width of the shared space; the paper has 768.")
    attn_pool_num_heads: int = Field(default=4, ge=1)
    context_length: int = Field(
        default=80, ge=4, description="Most tokens of a caption with its prefix and both ends."
    )
    text_learning_rate_scale: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="Of the text tower, whose language the next stages need intact; the paper has 0.1, "
        "0.5 destroyed it at the tiny size; 0 freezes it.",
    )
    patch_learning_rate_scale: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Of the projection of patches, where loss spikes begin (arXiv:2304.13013); 0.5 calms them.",
    )
    layer_decay: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Factor of the learning rate from each layer to the one below, in both towers; the paper "
        "has none before fine-tuning.",
    )
    masked_image_size: int | None = Field(
        default=None,
        ge=8,
        description="Side of the pictures before the last unmasked_steps; image_size when left out, the paper has "
        "196 of 224. Positions are kept for image_size and interpolated to this.",
    )
    mask_ratio: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of the patches left out at random before the last unmasked_steps (FLIP); paper: 0.5.",
    )
    unmasked_steps: int = Field(
        default=0, ge=0, description="Last steps, which see all patches of pictures of image_size."
    )
    smallest_crop: float = Field(
        default=1.0, gt=0, le=1, description="Smallest share of a picture that a random crop shows; 1 shows all."
    )
    loss: Loss = Field(
        default="softmax", description="The paper's symmetric softmax, or SigLIP's sigmoid (arXiv:2303.15343)."
    )
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    held_out_share: Share = SHARE
    held_out: int = Field(
        default=256, ge=0, description="Most of the samples kept aside that are measured on at the end."
    )
    schedule: Schedule = Schedule(global_batch_size=192, steps=300, learning_rate=2e-3, warmup_steps=30)

    def views(self) -> Switch:
        """Return how pictures are shown, step by step."""
        late = View(self.image_size, self.patch_size)
        early = View(self.masked_image_size or self.image_size, self.patch_size, self.mask_ratio)
        return Switch(early, late, self.schedule.steps - self.unmasked_steps)

    def vision(self) -> VisionConfig:
        """Return the shape of the vision tower."""
        return VisionConfig(
            image_size=self.image_size,
            patch_size=self.patch_size,
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            intermediate_size=self.intermediate_size,
            norm_type=self.norm_type,
            qk_normalization=self.qk_normalization,
            qkv_bias=self.qkv_bias,
            initializer_factor=self.layer_scale,
            drop_path_rate=self.drop_path_rate,
            drop_path_schedule="uniform",
        )


def paper_parameters() -> Parameters:
    """Return the paper's stage 1 (arXiv:2312.14238, section 3.3 and the appendix's table of training settings).

    "164K" is 163,840 pairs, 256 for each of 640 GPUs; 175,000 such steps see the 28.7 billion samples of section 3.3.
    Ours, because it is not published: the smallest crop, the last learning rate, the 3,052 steps that its "last
    0.5 billion samples" without masking come to, and the 500 steps in which the rate rises once more when they begin.
    """
    return Parameters(
        image_size=224,
        patch_size=14,
        hidden_size=3200,
        intermediate_size=12800,
        num_hidden_layers=48,
        num_attention_heads=25,
        layer_scale=0.1,
        drop_path_rate=0.2,
        embed_dim=768,
        attn_pool_num_heads=16,
        text_learning_rate_scale=0.1,
        masked_image_size=196,
        mask_ratio=0.5,
        unmasked_steps=3052,
        smallest_crop=0.5,
        schedule=Schedule(
            global_batch_size=163_840,
            steps=175_000,
            learning_rate=1e-3,
            warmup_steps=5000,
            final_ratio=0.0,
            rewarm_at=175_000 - 3052,
            rewarm_steps=500,
            weight_decay=0.1,
            precision="bf16",
        ),
    )


def config_of(parameters: Parameters, text: TextConfig) -> InternVLConfig:
    """Return the shape of InternVL-C on top of a language model.

    Raises:
        ManifestError: Sizes do not fit together.
    """
    _check_views(parameters)
    for name, heads in (
        ("num_attention_heads", parameters.num_attention_heads),
        ("attn_pool_num_heads", parameters.attn_pool_num_heads),
    ):
        if parameters.hidden_size % heads:
            raise ManifestError(f"hidden_size {parameters.hidden_size} does not divide into {name} {heads}")
    return InternVLConfig(
        vision=parameters.vision(),
        text=text,
        embed_dim=parameters.embed_dim,
        attn_pool_num_heads=parameters.attn_pool_num_heads,
        context_length=min(parameters.context_length, text.max_position_embeddings),
        label_smoothing=parameters.label_smoothing,
    )


def _check_views(given: Parameters) -> None:
    """Refuse pictures and steps that do not fit together.

    Raises:
        ManifestError: As it says.
    """
    for name, size in (("image_size", given.image_size), ("masked_image_size", given.masked_image_size)):
        if size is not None and size % given.patch_size:
            raise ManifestError(
                f"{name} {size} does not divide into patches of {given.patch_size}; choose a multiple"
            )
    if given.unmasked_steps > given.schedule.steps:
        raise ManifestError(
            f"unmasked_steps {given.unmasked_steps} are more than the {given.schedule.steps} steps of the schedule; "
            "lower unmasked_steps or raise schedule.steps"
        )
    changes = given.mask_ratio > 0 or given.masked_image_size not in (None, given.image_size)
    if given.unmasked_steps and not changes:
        raise ManifestError(
            f"unmasked_steps {given.unmasked_steps} end nothing: no patch is masked and no picture is smaller before "
            "them; set mask_ratio or masked_image_size, or unmasked_steps to 0"
        )
