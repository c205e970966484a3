"""How a model lies over the processes: whole on each (DDP) or in shards (FSDP2)."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from models.objective import Objective
from stages.manifest import ManifestError
from stages.training.gang import Gang
from stages.training.optimizer import optimizer_of
from stages.training.sharding import average_whole, clip_shards, compile_layers, or_nothing, shard
from stages.training.task import Task


@dataclass
class Placed:
    """A model ready to train."""

    module: nn.Module
    """What is called: it averages gradients over the processes."""
    bare: nn.Module
    """The same without what was put around it."""
    optimizer: Any
    trained: list[nn.Parameter]
    backward: Callable[[Tensor], Any]
    sharded: bool = False

    @property
    def objective(self) -> Objective:
        """What says over how many units its terms are means."""
        return cast(Objective, self.bare)

    def no_sync(self) -> AbstractContextManager[Any]:
        """Open a context in which gradients stay on this process until the next backward pass outside it.

        With shards they are averaged in every micro batch: keeping them would take the memory of a whole
        model's gradients, which sharding is there to save.
        """
        if isinstance(self.module, nn.parallel.DistributedDataParallel):
            return self.module.no_sync()
        return nullcontext()

    def clip(self, max_norm: float) -> Tensor:
        """Finish the step's gradients: average what is not yet, limit the norm if finite; return the norm before."""
        if self.sharded:
            average_whole(self.trained)
            return clip_shards(self.trained, max_norm)
        norm = nn.utils.get_total_norm([p.grad for p in self.trained if p.grad is not None])
        nn.utils.clip_grads_with_norm_(self.trained, max_norm, or_nothing(norm))
        return norm

    def step(self) -> None:
        """Move the weights, and let go of the gradients."""
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        # What an objective keeps in bounds, such as the logit scale.
        if after := getattr(self.bare, "after_step", None):
            after()

    def forgo(self) -> None:
        """Let go of the gradients, and leave weights and optimizer as they are."""
        self.optimizer.zero_grad(set_to_none=True)


def place(gang: Gang, task: Task) -> Placed:
    """Put a task's model onto the devices and give it its optimizer.

    Raises:
        ManifestError: The placement asks for what this model cannot do.
    """
    placement, schedule = gang.job.placement, gang.job.schedule
    bare = task.module.to(gang.device)
    if placement.activation_checkpointing:
        _checkpoint_activations(bare)
    if placement.compile:
        compile_layers(bare)
    sharded = placement.sharding == "fsdp2" and gang.processes > 1
    if sharded:
        bf16 = schedule.precision == "bf16"
        shard(bare, gang.device, bf16=bf16)
        if bf16:
            autocast = torch.autocast(gang.device.type, torch.bfloat16)
            bare.forward = autocast(bare.forward)  # type: ignore[method-assign]
    groups = task.groups(schedule.weight_decay)
    optimizer: Any = optimizer_of(groups, schedule)
    module: nn.Module = bare
    if not sharded:
        module, optimizer = gang.accelerator.prepare(bare, optimizer)
    trained = [parameter for group in groups for parameter in group["params"]]
    return Placed(module, bare, optimizer, trained, gang.accelerator.backward, sharded)


def _checkpoint_activations(module: nn.Module) -> None:
    able = [part for part in module.modules() if hasattr(part, "gradient_checkpointing")]
    if not able:
        raise ManifestError(
            "this model has no layers that can be computed again; leave activation_checkpointing out of its placement"
        )
    for part in able:
        part.gradient_checkpointing = True  # type: ignore[assignment]
