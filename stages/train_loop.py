"""The one training loop: a stage brings its model, its batches and its loss; the loop does the rest.

It runs as a plain process, under `torchrun`, and as workers of Ray Train, and gives the same
numbers in all three. What decides the result is in `Schedule`; workers and GPUs are placement.

    build -> batches -> objective -> gradients of the global batch -> optimizer -> meters, state
"""

import math
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from infra.cluster import InlineCluster
from models.objective import SAMPLE_LOSS
from stages.checkpoints import FINAL
from stages.manifest import Manifest, ManifestError, digest_of
from stages.training import states
from stages.training.audit import rows_digest
from stages.training.gang import Gang, Refused
from stages.training.job import Job
from stages.training.loading import Step, order_of, steps
from stages.training.order import Order
from stages.training.placing import Placed, place, set_rates
from stages.training.publishing import curve_table, publish_checkpoint
from stages.training.task import Metrics, Task
from stages.workspace import Opened, Output, Progress, Workspace


def train(build: Callable[[Any, Workspace], Task], parameters: Any, output: Output, here: Workspace) -> Manifest:
    """Train to the end on the cluster and commit the checkpoint; a stopped run goes on where it was.

    Args:
        build: Makes the task inside each worker: a top-level function `(parameters, workspace) -> Task`.
        parameters: The stage's parameters; `parameters.schedule` is a `Schedule`.
        output: Where the checkpoint is published, as the part `final`.
        here: Inputs and cluster.

    Raises:
        ManifestError: The data or the parameters do not allow training; the message says the next move.
    """
    digest = digest_of({name: manifest.digest for name, manifest in here.inputs.items()})
    job = Job(build, parameters, here.inputs, output, here.placement, digest)
    part = output.done(FINAL, digest)
    # Under `torchrun` every process comes through here; what is removed is removed by the first alone.
    first = int(os.environ.get("RANK", "0")) == 0
    if part is None:
        if first:
            output.store.remove(job.refusal)
        here.cluster.train(
            _work,
            {"job": job},
            workers=here.placement.workers,
            gpus_per_worker=here.placement.gpus_per_worker,
            name=f"{output.ref.folder.replace('/', '-')}-{output.config_digest[:12]}",
        )
        if output.store.exists(job.refusal):
            raise ManifestError(output.store.read(job.refusal).decode())
        part = output.done(FINAL, digest)
        if part is None:
            raise ManifestError(f"training of {output.ref} ended without a checkpoint; read the job's log")
    if first:
        output.store.remove(job.state)
    totals = {**part.facts["metrics"], "markdown": curve_table(part.facts)}
    return output.commit([part], totals=totals)


def _work(config: dict[str, Any]) -> None:
    """Run one process of a training job."""
    job: Job = config["job"]
    scratch = Path(tempfile.mkdtemp(prefix=f"internvl-{job.output.stage}-"))
    here = Workspace(
        store=job.output.store,
        cluster=InlineCluster(),
        scratch=scratch,
        inputs=job.inputs,
        placement=job.placement,
        progress=Progress(job.output.store, job.output.ref),
        on_corrupt=job.schedule.on_corrupt,
    )
    gang = None
    try:
        gang = Gang(job)
        _loop(gang, here)
    except ManifestError as error:
        # A refusal is final: trying again, as after a lost machine, would say the same.
        job.output.store.write(job.refusal, str(error).encode())
    except Refused:
        pass
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _loop(gang: Gang, here: Workspace) -> None:
    job, schedule = gang.job, gang.job.schedule
    torch.manual_seed(schedule.seed)
    if gang.is_first:
        here.progress(0, schedule.steps, "steps", "reading data")
    task = gang.together(partial(job.build, job.parameters, here))
    order = gang.together(partial(order_of, gang, task, here.opened))
    state = states.restore(job)
    history: list[Metrics] = []
    first = 0
    if state is not None:
        task.module.load_state_dict(state["module"], strict=False)
        history, first = state["history"], state["step"]
    placed = place(gang, task)
    if state is not None:
        placed.optimizer.load_state_dict(state["optimizer"])
    placed.module.train()
    for step in steps(gang, task, order, first):
        gang.seed(step.number)
        last = history[-1]["rows_digest"] if history else 0.0
        history.append({**_one(gang, placed, step), "rows_digest": rows_digest(last, step.rows)})
        done = step.number + 1
        if gang.is_first:
            here.progress(done, schedule.steps, "steps", f"loss {history[-1]['loss']:.3f}")
            if done % job.placement.checkpoint_steps == 0 and done < schedule.steps:
                states.save(job, placed.bare, placed.optimizer, history, done)
    if gang.is_first:
        here.progress(schedule.steps, schedule.steps, "steps", "measuring")
    gang.together(partial(_finish, job, task, order, here.opened, history) if gang.is_first else _nothing)


def _one(gang: Gang, placed: Placed, step: Step) -> Metrics:
    """Take one optimizer step and return what it measured.

    Raises:
        ManifestError: Loss or gradient is not finite; the weights are as before.
    """
    schedule = gang.job.schedule
    rate = schedule.factor(step.number) * schedule.learning_rate
    set_rates(placed.optimizer, rate)
    (batch,) = step.micro_batches
    losses = placed.module(batch)
    gang.accelerator.backward(losses["loss"])
    norm = float(gang.accelerator.clip_grad_norm_(placed.trained, schedule.max_grad_norm))
    values = gang.mean({name: value for name, value in losses.items() if name != SAMPLE_LOSS})
    if not all(map(math.isfinite, [*values.values(), norm])):
        raise ManifestError(
            f"{gang.job.output.ref}: loss or gradient is not finite at step {step.number + 1} "
            f"(samples {step.rows[:8]} ...); lower the learning rate ({schedule.learning_rate:g}) "
            "or look at these samples"
        )
    placed.optimizer.step()
    placed.optimizer.zero_grad(set_to_none=True)
    record = {"step": step.number + 1, "lr": rate, "grad_norm": norm, **values}
    return {name: float(f"{value:.6g}") for name, value in record.items()}


def _finish(job: Job, task: Task, order: Order, opened: Sequence[Opened], history: list[Metrics]) -> None:
    task.module.eval()
    with torch.no_grad():
        done = task.finish()
    if damaged := {each.name: len(each.left_out) for each in opened if each.left_out}:
        done.metrics["damaged_samples_left_out"] = damaged
    publish_checkpoint(job, done, history, order)


def _nothing() -> None:
    """What the other processes do while the first one measures."""
