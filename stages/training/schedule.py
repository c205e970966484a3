"""What a training stage decides about its steps: part of a result's identity."""

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


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

    def factor(self, step: int) -> float:
        """Return the learning rate of a step as a share of the peak."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        run = max(1, self.steps - self.warmup_steps)
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, (step - self.warmup_steps) / run)))
        return self.final_ratio + (1 - self.final_ratio) * cosine
