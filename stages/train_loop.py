"""The one training loop: a stage brings its model, its batches and its loss; the loop does the rest.

It runs as a plain process, under `torchrun`, and as workers of Ray Train, and gives the same
numbers in all three. What decides the result is in `Schedule`; workers and GPUs are placement.

    build -> batches -> objective -> gradients of the global batch -> optimizer -> meters, state
"""

import gc
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import torch

from infra.cluster import InlineCluster
from infra.storage import StorageError
from stages.checkpoints import FINAL
from stages.manifest import Manifest, ManifestError, digest_of
from stages.training.accumulating import check
from stages.training.gang import Gang, Refused
from stages.training.job import Job
from stages.training.loading import check_order, order_of
from stages.training.lodging import lodge
from stages.training.order import Order
from stages.training.placing import place
from stages.training.publishing import around, curve_table, gather, publish_checkpoint
from stages.training.states import States
from stages.training.stepping import take_steps
from stages.training.stopping import stop_requests
from stages.training.task import Metrics, Task
from stages.workspace import Output, Progress, Workspace

WHOLE = "whole"
"""Folder of a process's own in which a model that lay in shards is put together."""


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
    check(here.placement, job.schedule.global_batch_size)
    part = output.done(FINAL, digest)
    # Under `torchrun` every process comes through here; what is removed is removed by the first alone.
    first = int(os.environ.get("RANK", "0")) == 0
    if part is None:
        if first:
            output.store.remove(job.refusal)
        here.cluster.train(
            _work,
            {"job": job},
            size=here.placement.gang,
            name=f"{output.ref.folder.replace('/', '-')}-{output.config_digest[:12]}",
            waiting=lambda note: here.progress(0, job.schedule.steps, "steps", note),
        )
        if output.store.exists(job.refusal):
            raise ManifestError(output.store.read(job.refusal).decode())
        part = output.done(FINAL, digest)
        if part is None:
            raise ManifestError(
                f"a process that trains {output.ref} refused, and the store did not take why; its log has it"
            )
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
        progress=Progress(job.output.store, job.output.ref, job.output.fence),
        on_corrupt=job.schedule.on_corrupt,
    )
    gang = None
    try:
        gang = Gang(job)
        _loop(gang, here)
    except ManifestError as error:
        try:
            job.refuse(error)
        except StorageError as full:
            raise error from full
    except Refused:
        pass  # `train` reads why
    except RuntimeError as error:
        lost = gang.lost(error) if gang is not None else None
        if lost is None:
            raise
        raise lost from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _loop(gang: Gang, here: Workspace) -> None:
    job, schedule = gang.job, gang.job.schedule
    torch.manual_seed(schedule.seed)
    if gang.is_first:
        here.progress(0, schedule.steps, "steps", "reading data")
    task = gang.together(partial(job.build, job.parameters, here), patient=True)
    order = gang.together(partial(order_of, gang, task))
    told = gang.gathered((digest_of(order.described()), order.samples))
    gang.together(partial(check_order, *zip(*told, strict=True)))
    order, history, sharded = _trained(gang, here, task, order)
    if gang.is_first:
        here.progress(schedule.steps, schedule.steps, "steps", "measuring")
    left = None if sharded else task
    del task  # with its shards, which make room for the whole model
    gc.collect()
    finish = partial(_finish, gang, here, left, order, history) if gang.is_first else _nothing
    gang.together(finish, patient=True)


def _trained(gang: Gang, here: Workspace, task: Task, order: Order) -> tuple[Order, list[Metrics], bool]:
    """Take all steps; return what `take_steps` does, and whether the model lies in shards: then it is in a file too.

    Optimizer and gradients are gone when it returns.
    """
    placed = place(gang, task)
    with stop_requests() as stop, closing(States(gang, placed, here.scratch, order, stop)) as states:
        order, history = take_steps(gang, here, task, order, placed, states)
    if placed.sharded:
        gang.together(partial(gather, placed.bare, here.scratch / WHOLE, keep=gang.is_first), patient=True)
    return order, history, placed.sharded


def _finish(
    gang: Gang,
    here: Workspace,
    task: Task | None,
    order: Order,
    history: list[Metrics],
) -> None:
    damaged = {each.name: len(each.left_out) for each in here.opened if each.left_out}
    if task is None:
        # A model in shards cannot run on one process alone: the task is built anew around the whole weights; what
        # is frozen and random is drawn again as it was when training began (`_loop`).
        torch.manual_seed(gang.job.schedule.seed)
        task = around(partial(gang.job.build, gang.job.parameters, here), here.scratch / WHOLE)
        if said := lodge(task.module, gang.device):
            here.progress(len(history), gang.job.schedule.steps, "steps", said)
    task.module.eval()
    with torch.no_grad():
        done = task.finish()
    if damaged:
        done.metrics["damaged_samples_left_out"] = damaged
    publish_checkpoint(gang.job, done, history, order, here.scratch)


def _nothing() -> None:
    """What the other processes do while the first one measures."""
