"""What decides a chat model: what is joined, how pictures are shown, what learns, and the schedule."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from models.config import Connector
from models.packing import Reduction
from stages.held_out import SHARE, Share
from stages.training.order import Weight
from stages.training.schedule import Schedule

Tower = Literal["vision", "language"]


class Lora(BaseModel):
    """Low-rank adapters in place of whole weights (`models.lora`); alpha is twice the rank."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vision: int = Field(default=0, ge=0, description="Rank in the encoder; 0 adapts nothing there.")
    language: int = Field(default=0, ge=0, description="Rank in the language model; 0 adapts nothing there.")
    dropout: float = Field(default=0.05, ge=0, lt=1, description="Before the adapters; the official code's.")
    merge: bool = Field(
        default=True, description="Publish a whole model; else adapters alone, with the name of their base."
    )


class Parameters(BaseModel):
    """What is joined, what learns, and the schedule; the defaults are those of the tiny recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoder: str = Field(
        default="checkpoints/contrastive",
        description="Checkpoint whose encoder is shown, checkpoints/encoder being a distilled one; two_mlp needs "
        "checkpoints/generative, for its queries.",
    )
    start: str | None = Field(
        default=None,
        description="Chat checkpoint to go on from, such as checkpoints/align; left out: an encoder and a language "
        "model are joined anew.",
    )
    connector: Connector = Field(default="unshuffle_mlp", description="See `models.connectors`.")
    train_vision: bool = True
    train_connector: bool = True
    train_language: bool = True
    lora: Lora = Field(default=Lora(), description="What learns of a trained tower, if not all.")
    vision_learning_rate_scale: float = Field(default=1.0, gt=0, description="Of the encoder, times the peak.")
    drop_path_rate: float = Field(default=0.0, ge=0, lt=1, description="Of the encoder while it learns.")
    untrained_vision: bool = Field(
        default=False,
        description="Start from a new encoder of the same shape: its twin tells what the stages before are worth.",
    )
    blind: bool = Field(
        default=False,
        description="Train with the pictures of other samples: the twin beside which grounding is measured.",
    )
    most_layers: int | None = Field(
        default=None, ge=1, description="Blocks of the encoder that are kept at most; those behind are dropped."
    )
    image_size: int | None = Field(
        default=None,
        ge=1,
        description="Side of a tile; positions are interpolated. The encoder's when left out.",
    )
    downsample_ratio: float = Field(default=0.5, gt=0, le=1)
    ps_version: Literal["v1", "v2"] = "v2"
    select_layer: int = Field(default=-1, description="Hidden state of the encoder that is shown.")
    max_dynamic_patch: int = Field(default=1, ge=1, description="Most tiles per picture.")
    use_thumbnail: bool = True
    template: str = Field(default="Hermes-2", description="Hermes-2, internlm2-chat, internvl2_5, ...")
    system_message: str = Field(default="", description="Opens conversations that bring none of their own.")
    context_length: int = Field(default=512, ge=16, description="Most tokens; the right end is cut off.")
    loss_reduction: Reduction = Field(
        default="token",
        description="Weight of each learned token of an answer with x of them: 1 (token), 1/x (sample), 1/sqrt(x) "
        "(square, the choice of InternVL 2.5).",
    )
    held_out_share: Annotated[Share, Field(gt=0)] = SHARE  # it is measured, always
    held_out: int = Field(
        default=256, ge=1, description="Most samples kept aside of each artifact that are measured on at the end."
    )
    mixture: tuple[Weight, ...] = Field(
        default=(), description="How much comes from which artifact below conversations/; all once when left out."
    )
    # Many small steps: as many pictures in half as many teach the hard kinds of question less.
    schedule: Schedule = Schedule(
        global_batch_size=32, steps=800, learning_rate=2e-3, warmup_steps=60, weight_decay=0.05
    )

    def rank(self, tower: Tower) -> int:
        """Return the rank of a tower's adapters; 0 where it learns as a whole, or not at all."""
        return getattr(self.lora, tower) if self.trains(tower) else 0

    def trains(self, tower: Tower) -> bool:
        """Return whether anything of a tower learns."""
        return self.train_vision if tower == "vision" else self.train_language
