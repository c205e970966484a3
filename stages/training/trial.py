"""A few real training steps on drawn data, timed and weighed part by part: what a plan is calibrated by.

They go through the parts of the training loop (gradients of micro batches, clipping, the optimizer) on one process.
What several processes tell each other is not in it.
"""

import gc
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from models.grad_cache import accumulate
from models.objective import totals_of
from models.step_cost import step_cost
from models.step_shape import Shape
from models.step_work import StepCost
from models.trials import batches, objective_of
from stages.placement import Placement
from stages.training.optimizer import optimizer_of
from stages.training.schedule import Schedule
from stages.training.sharding import compile_layers
from stages.training.task import parameter_groups


@dataclass(frozen=True)
class Held:
    """What a step was seen to hold of a GPU, in bytes."""

    weights: int
    batch: int
    optimizer: int
    gradients: int
    """After the backward pass."""
    forward_and_backward: int
    """Most during both, beside weights, batch and optimizer: gradients, activations, losses."""
    update: int
    """The same while norms are taken and the optimizer steps."""
    peak: int
    """All together, at the worst moment."""


class Seconds(NamedTuple):
    """What one step took."""

    gradients: float
    update: float


class Trial:
    """Steps of a shape, on this process's share of a batch."""

    def __init__(
        self, shape: Shape, rows: int, pieces: int, *, device: torch.device, schedule: Schedule, placement: Placement
    ) -> None:
        """Build the model and its data on the device.

        Args:
            shape: What is trained.
            rows: Computed at once.
            pieces: Micro batches of a step.
            device: Where.
            schedule: Its optimizer and precision.
            placement: Whether activations are computed again, and layers compiled.
        """
        self._device = device
        if device.type == "cpu":
            torch.set_num_threads(1)  # as training processes have it
        free = _allocated(device)
        torch.manual_seed(0)
        with torch.device(device):
            self._objective = objective_of(shape)
            self.module = cast(nn.Module, self._objective)
            weights = _allocated(device)
            self._batches = batches(shape, rows, pieces)
        self._free, self._weights, self._states = free, weights - free, _allocated(device)
        for part in self.module.modules():
            if hasattr(part, "gradient_checkpointing"):
                part.gradient_checkpointing = placement.activation_checkpointing  # type: ignore[assignment]
        if placement.compile:
            compile_layers(self.module)
        if schedule.precision == "bf16":
            # Around each forward pass alone, as accelerate does it: copies of weights are let go of after it.
            self.module.forward = torch.autocast(device.type, torch.bfloat16)(self.module.forward)
        groups = parameter_groups(self.module.named_parameters(), schedule.weight_decay)
        self._trained = [parameter for group in groups for parameter in group["params"]]
        self._optimizer = optimizer_of(groups, schedule)
        self._norm = schedule.max_grad_norm

    @property
    def parameters(self) -> int:
        """Return all of the model's."""
        return sum(each.numel() for each in self.module.parameters())

    @property
    def trained(self) -> int:
        """Return those that learn."""
        return sum(each.numel() for each in self._trained)

    def flops(self) -> float:
        """Return the useful FLOPs of a step, as `models.step_cost` counts them."""
        return sum((step_cost(self._objective, batch) for batch in self._batches), start=StepCost()).useful

    def gradients(self) -> float:
        """Compute the gradients of a step, and return its loss."""
        # What frozen towers saw of a batch is remembered by its rows' numbers, as long as these are there.
        fresh = [{**each, "row": each["row"].clone()} if "row" in each else each for each in self._batches]
        losses = accumulate(self.module, fresh, totals_of(self._objective, fresh), Tensor.backward, nullcontext)
        return float(losses["loss"])

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """Return it, for states to be saved and restored."""
        return self._optimizer

    def update(self) -> None:
        """Move the weights, and let go of the gradients."""
        nn.utils.clip_grad_norm_(self._trained, self._norm)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def step(self) -> Seconds:
        """Take one step."""
        return Seconds(self._timed(self.gradients), self._timed(self.update))

    def take(self, rounds: int) -> Seconds:
        """Return the median seconds of some steps; the first, which allocates and compiles, is dropped."""
        found = [self.step() for _ in range(rounds + 1)][1:]
        return Seconds(median(each.gradients for each in found), median(each.update for each in found))

    def held(self) -> Held | None:
        """Return what one more step holds of a GPU; None on a CPU, whose allocator tells nothing.

        Steps were taken before, so that the optimizer has its moments.
        """
        if self._device.type != "cuda":
            return None
        before = _allocated(self._device)
        most = _most(self._device, self.gradients)
        gradients = _allocated(self._device) - before
        update = _most(self._device, self.update)
        return Held(
            weights=self._weights,
            batch=self._states - self._weights - self._free,
            optimizer=before - self._states,
            gradients=gradients,
            forward_and_backward=most - before,
            update=update - before,
            peak=max(most, update) - self._free,
        )

    def _timed(self, work: Callable[[], object]) -> float:
        """Return seconds: on a CPU those that this process computed, whoever else is there."""
        if self._device.type == "cpu":
            start = time.process_time()
            work()
            return time.process_time() - start
        torch.cuda.synchronize(self._device)
        start = time.perf_counter()
        work()
        torch.cuda.synchronize(self._device)
        return time.perf_counter() - start


def forget(device: torch.device) -> None:
    """Let go of what an earlier trial left: compiled layers hold themselves, and only a collection finds them."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _allocated(device: torch.device) -> int:
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0


def _most(device: torch.device, work: Callable[[], object]) -> int:
    torch.cuda.reset_peak_memory_stats(device)
    work()
    return torch.cuda.max_memory_allocated(device)
