"""How a segmenter is trained and applied: four modes of the paper, and what each leaves open.

- `linear`: the encoder is frozen, one affine map over one block.
- `head`: the encoder is frozen, UperNet over four blocks.
- `full`: the same, and the encoder learns too.
- `few_shot`: the encoder learns under a linear head over its last block, from a share of the training data.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.segmentation_heads import taps
from stages.evaluations.segment_training import Plan
from stages.manifest import ManifestError

Mode = Literal["linear", "head", "full", "few_shot"]
ITERATIONS = 80_000
WARMUP, SHORTER_WARMUP = 1_500, 0.02
"""Iterations of 80,000, and the share of fewer: the released few-shot runs have 100 of 5,000, 800 of 40,000."""
LINEAR_BLOCK = 45 / 48
"""Of the depth: the linear head of the paper reads block 45 of 48."""


class Settings(BaseModel):
    """How a segmenter is trained and applied; what is left out is the paper's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Mode = "linear"
    crop_size: int = Field(
        default=504, ge=1, description="Side of crops and windows, and the short side of pictures."
    )
    stride: int | None = Field(
        default=None, ge=1, description="Between windows; 322 of 504, the same share of others."
    )
    batch_size: int = Field(default=16, ge=2)
    iterations: int | None = Field(
        default=None, ge=1, description="80,000; few_shot: as large a share as of the data."
    )
    warmup: int | None = Field(default=None, ge=0, description="Iterations; 1,500 of 80,000, a fiftieth of others.")
    learning_rate: float = Field(default=4e-5, gt=0)
    power: float = Field(default=1.0, gt=0, description="Of the polynomial by which the rate falls to 0.")
    weight_decay: float | None = Field(default=None, ge=0, description="0 for the linear head, else 0.05.")
    drop_path_rate: float = Field(default=0.4, ge=0, lt=1, description="Where the encoder learns.")
    layer_decay: float = Field(default=0.95, gt=0, le=1, description="Where the encoder learns.")
    channels: int = Field(default=1536, ge=1, description="Of UperNet.")
    block: int | None = Field(
        default=None, ge=1, description="Which block a linear head reads; 45 of 48 where it is frozen, else the last."
    )
    train_share: float = Field(default=1.0, gt=0, le=1, description="Of training pictures, by a hash of their keys.")
    baselines: bool = Field(
        default=True, description="With `linear`: the same head on raw pixels and on a random encoder too."
    )
    seed: int = 0

    @model_validator(mode="after")
    def _fits(self) -> "Settings":
        if self.stride is not None and self.stride > self.crop_size:
            raise ValueError(f"stride {self.stride} leaves pixels out between windows of {self.crop_size}")
        if self.warmup is not None and self.warmup >= self.resolved_iterations:
            raise ValueError(f"warmup {self.warmup} must be shorter than {self.resolved_iterations} iterations")
        return self

    @property
    def learns(self) -> bool:
        """Return whether the encoder is trained too."""
        return self.mode in ("full", "few_shot")

    @property
    def resolved_iterations(self) -> int:
        """Return how many iterations there are."""
        share = self.train_share if self.mode == "few_shot" else 1.0
        return self.iterations or max(1, round(ITERATIONS * share))

    @property
    def resolved_stride(self) -> int:
        """Return the step from window to window."""
        return self.stride or max(1, round(self.crop_size * 322 / 504))

    @property
    def resolved_warmup(self) -> int:
        """Return in how many iterations the rate rises."""
        usual = WARMUP if self.resolved_iterations == ITERATIONS else round(self.resolved_iterations * SHORTER_WARMUP)
        return usual if self.warmup is None else self.warmup

    def plan(self) -> Plan:
        """Return how training goes."""
        iterations = self.resolved_iterations
        decay = 0.0 if self.mode == "linear" else 0.05
        return Plan(
            iterations=iterations,
            warmup=self.resolved_warmup,
            learning_rate=self.learning_rate,
            power=self.power,
            weight_decay=decay if self.weight_decay is None else self.weight_decay,
            layer_decay=self.layer_decay if self.learns else 1.0,
            crop_size=self.crop_size,
            batch_size=self.batch_size,
            seed=self.seed,
        )

    def blocks(self, depth: int) -> list[int]:
        """Return which blocks of an encoder are read, counted from 1.

        Raises:
            ManifestError: The encoder has no such block.
        """
        if self.mode in ("head", "full"):
            return taps(depth)
        usual = max(1, round(depth * LINEAR_BLOCK)) if self.mode == "linear" else depth
        if (self.block or 1) > depth:
            raise ManifestError(
                f"block {self.block} is not there: the encoder has {depth}; set block to that at most"
            )
        return [self.block or usual]
