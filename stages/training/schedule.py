"""What a training stage decides about its steps: part of a result's identity."""

import math
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from stages.training.guard import GuardPolicy


class Schedule(BaseModel):
    """Steps, batch, learning rate and optimizer; workers, GPUs and micro batches are placement instead."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    global_batch_size: int = Field(ge=1, description="Samples per step over all processes.")
    steps: int = Field(ge=1, description="Optimizer steps.")
    learning_rate: float = Field(gt=0, description="Peak, after the warm-up.")
    warmup_steps: int = Field(default=0, ge=0, description="Steps of linear rise.")
    final_ratio: float = Field(
        default=0.05, ge=0, le=1, description="Last learning rate as a share of the peak; cosine in between."
    )
    rewarm_at: int | None = Field(
        default=None, ge=1, description="Step from which the rate rises once more, as after a change of resolution."
    )
    rewarm_steps: int = Field(default=0, ge=0, description="Steps of that rise, back to the cosine.")
    optimizer: Literal["adamw", "stable_adamw"] = Field(
        default="adamw", description="stable_adamw clips each tensor's update (arXiv:2304.13013, section 3.5)."
    )
    weight_decay: float = Field(default=0.05, ge=0, description="Of matrices; vectors and scalars have none.")
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.95, ge=0, lt=1)
    max_grad_norm: float = Field(default=1.0, gt=0)
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: int = 0
    shuffle_window: int = Field(
        default=0,
        ge=0,
        description="Shards shuffled together, so that reads from afar stay close together; 0 shuffles everything.",
    )
    on_corrupt: Literal["fail", "skip"] = Field(
        default="fail", description="What damaged samples do: stop the run, or be left out, counted in the metrics."
    )

    guard: GuardPolicy = Field(default=GuardPolicy(), description="When a step is not taken, and a run goes back.")

    @model_validator(mode="after")
    def _rises_inside(self) -> Self:
        if (self.rewarm_at is None) != (self.rewarm_steps == 0):
            raise ValueError("rewarm_at and rewarm_steps belong together; give both or neither")
        if self.rewarm_at is not None and not self.warmup_steps <= self.rewarm_at < self.steps:
            raise ValueError(
                f"rewarm_at {self.rewarm_at} must lie between the warm-up ({self.warmup_steps}) "
                f"and the last step ({self.steps})"
            )
        return self

    def factor(self, step: int) -> float:
        """Return the learning rate of a step as a share of the peak.

        It rises linearly, falls as a cosine, and from `rewarm_at` climbs back onto the cosine.
        """
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        run = max(1, self.steps - self.warmup_steps)
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, (step - self.warmup_steps) / run)))
        share = self.final_ratio + (1 - self.final_ratio) * cosine
        if self.rewarm_at is not None and 0 <= step - self.rewarm_at < self.rewarm_steps:
            share *= (step - self.rewarm_at + 1) / self.rewarm_steps
        return share
