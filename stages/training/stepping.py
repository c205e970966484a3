"""The steps of a training, one after the other: the gradients of a global batch, the guard's word, the optimizer."""

import math
from contextlib import closing

from models.grad_cache import accumulate
from models.objective import SAMPLE_LOSS, totals_of
from stages.training.audit import rows_digest
from stages.training.gang import Gang
from stages.training.guard import Act, Verdict
from stages.training.loading import Step, steps
from stages.training.optimizer import set_rates
from stages.training.order import Order
from stages.training.placing import Placed
from stages.training.states import States
from stages.training.task import Metrics, Task
from stages.training.watch import Watch
from stages.workspace import Workspace


def take_steps(
    gang: Gang, here: Workspace, task: Task, order: Order, placed: Placed, states: States
) -> tuple[Order, list[Metrics]]:
    """Take the steps that are left; return the order in which samples were read, and what all steps measured.

    Raises:
        Stopped: A process was asked to stop; the state is saved.
        ManifestError: A run in trouble cannot go back, or going back did not help.
    """
    restored = states.restore()
    history: list[Metrics] = restored.history if restored else []
    placed.module.train()
    with closing(Watch(gang, placed, task.batches)) as watch:
        watch.restore(len(history), restored.extras if restored else {})
        while (trouble := _stretch(gang, here, task, order, placed, states, watch, history)) is not None:
            restored = states.restore(trouble.first)
            if restored is None:
                raise watch.no_way_back(trouble)
            history[:] = restored.history
            watch.rolled_back(trouble, restored.step, restored.extras)
            states.save(restored.step, history, watch.extras())
        watch.publish(history)
        if restored is None or restored.step < gang.job.schedule.steps:
            # Where measuring or publishing fails, or is cut off, the same command begins there and not with training.
            states.secure(len(history), history, watch.extras())
        return order.around(watch.guard.detours), history


def _stretch(
    gang: Gang,
    here: Workspace,
    task: Task,
    order: Order,
    placed: Placed,
    states: States,
    watch: Watch,
    history: list[Metrics],
) -> Verdict | None:
    """Take steps until the last, or until the run must go back: then return why."""
    job, schedule = gang.job, gang.job.schedule
    with closing(steps(gang, task, order.around(watch.guard.detours), len(history))) as stretch:
        for step in stretch:
            gang.begin(step.number)
            last = history[-1]["rows_digest"] if history else 0.0
            measured, verdict = _one(gang, placed, step, states, watch)
            if verdict.act is Act.ROLL_BACK:
                return verdict
            history.append({**measured, "rows_digest": rows_digest(last, step.rows)})
            states.check(history[-1])
            done = step.number + 1
            if gang.is_first:
                note = f"skipped: {verdict.reason}" if verdict.reason else f"loss {measured['loss']:.3f}"
                here.progress(done, schedule.steps, "steps", f"{note}{states.note}")
            if done < schedule.steps and states.stopping:
                states.secure(done, history, watch.extras())
            if done < schedule.steps and done % job.placement.checkpoint_steps == 0:
                states.save(done, history, watch.extras())
                watch.publish(history)
    return None


def _one(gang: Gang, placed: Placed, step: Step, states: States, watch: Watch) -> tuple[Metrics, Verdict]:
    """Take one optimizer step, unless the guard is against it: weights and optimizer then stay as they were.

    Returns:
        What it measured, as far as it is finite, and what the guard said.

    Raises:
        ManifestError: The guard stops the run.
    """
    schedule = gang.job.schedule
    rate = schedule.factor(step.number) * schedule.learning_rate
    set_rates(placed.optimizer, rate)
    totals = totals_of(placed.objective, step.micro_batches)
    losses = accumulate(placed.module, step.micro_batches, totals, placed.backward, placed.no_sync)
    norm = placed.clip(schedule.max_grad_norm)
    scalars = {name: value for name, value in losses.items() if name != SAMPLE_LOSS}
    values = gang.mean({**scalars, "grad_norm": norm, **states.signals()})
    states.heed(values)
    verdict = watch.judge(step, rate, values, losses)
    if verdict.act is Act.TAKE:
        placed.step()
    else:
        placed.forgo()
        values["skipped"] = 1.0
    return recorded(step.number + 1, {"lr": rate, **values}), verdict


def recorded(step: int, values: Metrics) -> Metrics:
    """Return what the history holds of a step: its exact number, and six digits of all that is finite."""
    rounded = {name: float(f"{value:.6g}") for name, value in values.items() if math.isfinite(value)}
    return {"step": float(step), **rounded}
