"""What decides a study: its budget and grid, how each variant is trained, and on what all are measured."""

import math
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.variants import Variant, grid
from stages import contrastive_parameters
from stages.manifest import ManifestError
from stages.sources.captions import LANGUAGES
from stages.study.stability import WATCHING
from stages.training.schedule import Schedule

TRAINING = contrastive_parameters.Parameters(
    image_size=32,
    # The study is of the vision tower: a text tower that stays as it is costs a third and moves with nothing.
    text_learning_rate_scale=0.0,
    held_out=64,
    schedule=Schedule(global_batch_size=96, steps=160, learning_rate=3e-3, warmup_steps=20),
)

HELD = {"final_ratio": 1.0, "rewarm_at": None, "rewarm_steps": 0}
"""A trial is too short to let its rate fall: it would be over before it was raised for long."""


class Parameters(BaseModel):
    """A study; the defaults are those of the tiny one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    budget: float = Field(
        default=3e5, gt=0, allow_inf_nan=False, description="Wanted weights of all blocks; the paper has 6e9."
    )
    depths: tuple[int, ...] = Field(default=(2, 4, 6), min_length=1, description="Blocks; paper: 32, 48, 64, 80.")
    head_dims: tuple[int, ...] = Field(default=(8, 16), min_length=1, description="Paper: 64, 128.")
    mlp_ratios: tuple[int, ...] = Field(default=(4, 8), min_length=1, description="Paper: 4, 8.")
    tolerance: float = Field(
        default=0.05,
        gt=0,
        allow_inf_nan=False,
        description="Farthest that rounding to whole heads may lead off; ours: the paper's whole grid keeps to it.",
    )
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1, description="Of weights and data order.")
    training: contrastive_parameters.Parameters = Field(
        default=TRAINING,
        description="How each variant is trained; width, depth, heads, MLP and seed are the study's to set.",
    )
    raised: tuple[float, ...] = Field(
        default=(4.0, 16.0),
        description="Factors of the learning rate at which each variant is tried, with every seed.",
    )
    raised_steps: int = Field(
        default=48, ge=1, description="Steps of such a trial: the same warm-up, and then the raised rate throughout."
    )
    screen_steps: int = Field(
        default=0,
        ge=0,
        description="Early stopping, off at 0: first train each variant for so many steps on the first seed, and go "
        "on with the best. It saves time and can lose a variant that learns slowly at first.",
    )
    screen_keep: float = Field(default=0.5, gt=0, le=1, description="Share of the variants that go on, two at least.")
    scenes: int = Field(
        default=128, ge=0, description="Drawn scenes of each split; 0 measures on pictures kept aside."
    )
    languages: tuple[str, ...] = Field(default=LANGUAGES, min_length=1, description="Of the drawn scenes' captions.")
    world_seed: int = Field(default=0, description="Seed of the drawn world.")
    batches: tuple[int, ...] = Field(
        default=(1, 8, 32, 128), min_length=2, description="Pictures at once when speed is timed; paper: 1, 128."
    )
    rounds: int = Field(default=5, ge=1, description="How often each is timed, all variants in turn.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for name in ("depths", "head_dims", "mlp_ratios", "seeds", "raised", "batches"):
            values = getattr(self, name)
            if len(set(values)) != len(values) or any(value < (name != "seeds") for value in values):
                raise ValueError(
                    f"{name} {list(values)} must be different numbers, {int(name != 'seeds')} or more each"
                )
        if not all(math.isfinite(factor) and factor > 1 for factor in self.raised):
            raise ValueError(f"raised {list(self.raised)} must be factors above 1: 1 is the study's own rate")
        warmup = self.training.schedule.warmup_steps
        if self.raised and self.raised_steps <= warmup:
            raise ValueError(f"raised_steps {self.raised_steps} end before the warm-up of {warmup} steps; raise them")
        if 0 < self.screen_steps <= warmup:
            raise ValueError(f"screen_steps {self.screen_steps} end before the warm-up of {warmup} steps; raise them")
        if not self.scenes and self.training.held_out < 2:
            raise ValueError("nothing to measure on: give scenes >= 2 (drawn world), or training.held_out >= 2")
        return self

    @property
    def guessing(self) -> float | None:
        """Return the loss of a model that tells no pairs apart; None with a sigmoid loss, where its bias decides."""
        return math.log(self.training.schedule.global_batch_size) if self.training.loss == "softmax" else None

    def variants(self) -> tuple[list[Variant], list[str]]:
        """Return the variants, and a sentence for each that rounding leads too far from the budget.

        Raises:
            ManifestError: There are fewer than two to compare.
        """
        found, left_out = grid(self.budget, self.depths, self.head_dims, self.mlp_ratios, self.tolerance)
        if len(found) < 2:
            raise ManifestError(
                f"only {len(found)} of {len(found) + len(left_out)} variants come near {self.budget:g} parameters: "
                f"{'; '.join(left_out) or 'the grid has no more'}; "
                "widen the grid, take smaller heads or raise tolerance"
            )
        return found, left_out

    def trained(
        self, variant: Variant, seed: int, factor: float = 1.0, steps: int | None = None
    ) -> contrastive_parameters.Parameters:
        """Return how one variant is trained.

        Args:
            variant: Its shape.
            seed: Of weights and data order.
            factor: Of the learning rate; raised, it is held after the warm-up.
            steps: Fewer than the study's own.
        """
        schedule = self.training.schedule
        own = schedule.model_copy(
            update={
                "seed": seed,
                "learning_rate": schedule.learning_rate * factor,
                "steps": steps or schedule.steps,
                "guard": WATCHING,
                **(HELD if factor != 1 else {}),
            }
        )
        return self.training.model_copy(update={**variant.fields, "schedule": own})


def paper_study() -> Parameters:
    """Return the paper's study (arXiv:2312.14238, section 3.2 and table 11): its whole grid, of which it trained six.

    10,000 steps on 100 million pairs are published. Ours, because it is not: one pass over them, hence the batch; the
    warm-up; full pictures of 224 pixels without masking; raised rates and how long they are tried. The paper's text
    tower was a CLIP-L drawn at random; here it is the language model that the study is given, and learns.
    """
    paper = contrastive_parameters.paper_parameters()
    schedule = paper.schedule.model_copy(
        update={
            "global_batch_size": 10_240,
            "steps": 10_000,
            "warmup_steps": 500,
            "rewarm_at": None,
            "rewarm_steps": 0,
        }
    )
    whole = {"masked_image_size": None, "mask_ratio": 0.0, "unmasked_steps": 0}
    return Parameters(
        budget=6e9,
        depths=(32, 48, 64, 80),
        head_dims=(64, 128),
        mlp_ratios=(4, 8),
        seeds=(0,),
        training=paper.model_copy(update={**whole, "held_out": 4096, "held_out_share": 1e-4, "schedule": schedule}),
        raised_steps=1000,
        scenes=0,
        batches=(1, 128),
    )
