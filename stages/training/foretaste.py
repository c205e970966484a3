"""What a recipe's own data cost to train on, told by the batches of its first steps."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from models.frozen_towers import Passed
from models.generative_objective import GenerativeObjective
from models.step_cost import step_cost
from stages.training.accumulating import Cutting
from stages.training.order import Order, Source
from stages.training.schedule import Schedule
from stages.training.task import Task
from stages.workspace import Workspace

STEPS = 2


def sample_flops(
    build: Callable[[Any, Workspace], Task], parameters: Any, here: Workspace, steps: int = STEPS
) -> float:
    """Return the FLOPs that training computes for a sample, padding among them, on the mean of a few steps.

    Args:
        build: Makes the stage's task.
        parameters: Of the stage, with its `schedule`.
        here: Its inputs, and the placement that says how many rows are computed at once.
        steps: As many from the first one, by the rows of the first process.

    Raises:
        ManifestError: The data or the parameters do not allow training.
    """
    task, schedule = build(parameters, here), Schedule.model_validate(parameters.schedule)
    sources = [Source("samples", (task.samples,))] if isinstance(task.samples, int) else task.samples
    order = Order(schedule.seed, sources, schedule.shuffle_window)
    cutting = Cutting.of(here.placement, here.placement.workers, task.batches)
    # A sample is new once in the run; what frozen towers saw of it then is remembered.
    new = min(1.0, sum(each.samples for each in sources) / (schedule.steps * schedule.global_batch_size))
    cost, rows = 0.0, 0
    for step in range(steps):
        for piece in cutting.micro_batches(order.rows(step, schedule.global_batch_size), 0):
            batch = task.batches(piece, step)
            first = step_cost(task.module, batch).computed
            later = step_cost(task.module, batch).computed if _remembered(task.module, batch) else first
            cost += new * first + (1 - new) * later
            rows += len(piece)
    return cost / rows


def _remembered(objective: nn.Module, batch: Mapping[str, Any]) -> bool:
    """Note of a batch that towers which remember need not see it again; say whether there are any."""
    if not isinstance(objective, GenerativeObjective) or not objective.towers.visions.room_bytes:
        return False
    objective.passed[batch["row"]] = Passed(0, 0, [], [])
    return True
