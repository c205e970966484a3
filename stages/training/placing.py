"""How a model lies over the processes, and the optimizer that moves it."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from stages.training.gang import Gang
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


def place(gang: Gang, task: Task) -> Placed:
    """Put a task's model onto the devices and give it its optimizer."""
    schedule = gang.job.schedule
    groups = task.groups(schedule.weight_decay)
    optimizer = torch.optim.AdamW(
        groups,
        lr=schedule.learning_rate,
        betas=(schedule.beta1, schedule.beta2),
        fused=gang.device.type == "cuda",
    )
    module, optimizer = gang.accelerator.prepare(task.module, optimizer)
    return Placed(module, task.module, optimizer, [p for group in groups for p in group["params"]])


def set_rates(optimizer: Any, rate: float) -> None:
    """Give each group its learning rate: the schedule's, times the group's own scale."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("scale", 1.0)
