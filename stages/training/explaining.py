"""Computes one step of a training run again, on this machine alone: who lost how much, and where it broke."""

import logging
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from infra.cluster import InlineCluster
from infra.storage import Store
from models.objective import SAMPLE_LOSS
from models.renaming import State, above, fill
from stages.batches import ShardedSamples
from stages.checkpoints import fetch
from stages.manifest import ManifestError, find
from stages.ref import Ref
from stages.training.accumulating import Cutting
from stages.training.detours import Detour, position
from stages.training.flight_records import flight_records, job_of, run_of
from stages.training.gang import Gang
from stages.training.job import Job
from stages.training.layer_norms import gradient_norms, parts_of
from stages.training.loading import order_of
from stages.training.order import Order
from stages.training.placing import Placed, place
from stages.training.replaying import replay, row_losses
from stages.training.states import States
from stages.training.stopping import StopRequest
from stages.training.task import SampleFacts, Task
from stages.training.workers import Maker
from stages.weight_files import open_weights
from stages.workspace import Placement, Workspace

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SampleLoss:
    """One sample of the batch."""

    row: int
    facts: SampleFacts
    loss: float | None
    caption: str
    picture: bytes | None


@dataclass(frozen=True)
class Explanation:
    """One step, computed again."""

    step: int
    """Counted from 1, as in the history."""
    batch: int
    """Which global batch of the run's order it read, counted from 0."""
    weights: str
    """Which weights it was computed with."""
    terms: dict[str, float]
    norms: dict[str, float]
    """Of each layer's gradient, before clipping."""
    culprits: str
    samples: list[SampleLoss]
    """Those with the highest losses first; those with none that is finite before them."""


def explain(
    store: Store, ref: Ref, step: int, scratch: Path, *, shown: int = 16, micro_batch_size: int | None = None
) -> Explanation:
    """Compute a step again.

    Args:
        store: Holds the run.
        ref: The checkpoint that it trains or trained.
        step: Counted from 1, as the history and the messages have it.
        scratch: A folder for inputs and weights.
        shown: How many samples to tell of.
        micro_batch_size: Samples in the model at once; all where left out.

    Raises:
        ManifestError: No such run or step, or no weights to compute it with.
    """
    job = job_of(store, ref, Placement(micro_batch_size=micro_batch_size))
    if not 1 <= step <= job.schedule.steps:
        raise ManifestError(f"{ref} has steps 1 to {job.schedule.steps}; there is no step {step}")
    here = Workspace(
        store=store,
        cluster=InlineCluster(),
        scratch=scratch,
        inputs=job.inputs,
        placement=job.placement,
        on_corrupt=job.schedule.on_corrupt,
    )
    torch.manual_seed(job.schedule.seed)
    gang = Gang(job)
    task = job.build(job.parameters, here)
    order = order_of(gang, task)
    placed = place(gang, task)
    weights, detours = _restore(gang, task, order, placed, scratch, step - 1)
    batch = _batch_of(job, step, detours)
    return _computed(gang, task, order, placed, step - 1, batch, weights, shown)


def _restore(
    gang: Gang, task: Task, order: Order, placed: Placed, scratch: Path, done: int
) -> tuple[str, tuple[Detour, ...]]:
    """Put the weights nearest to a step into the model; return which they are and where the run went back."""
    job = gang.job
    store, ref = job.output.store, job.output.ref
    with closing(States(gang, placed, scratch, order, StopRequest())) as states:
        restored = states.restore(done)
    if restored is not None:
        detours = tuple(Detour(*each) for each in restored.extras.get("guard", {}).get("detours", ()))
        away = f", {done - restored.step} steps before it" if restored.step < done else ""
        return f"the state after step {restored.step}{away}", detours
    manifest = find(store, ref)
    if manifest is None:
        raise ManifestError(
            f"{ref} has no state of step {done} or before and is not finished, so there are no weights to compute "
            f"step {done + 1} with; let it train until it saves one, with a smaller placement.checkpoint_steps"
        )
    found = open_weights(fetch(store, manifest, scratch / "final"))
    missing = _load(task.module, found)
    if missing:
        raise ManifestError(
            f"the finished checkpoint {ref} does not hold all that its objective trained ({', '.join(missing[:4])}), "
            "so no step can be computed with it; explain such a run from its states, while it trains"
        )
    told = manifest.parts[0].facts.get("order", {}).get("detours", ())
    return "the finished checkpoint (states of a finished run are removed)", tuple(Detour(**each) for each in told)


def _load(objective: nn.Module, found: State) -> list[str]:
    """Load what has the same name; return what the objective trains, beside its model too, that is not there."""
    inside = isinstance(getattr(objective, "model", None), nn.Module)
    named = above(found, "model.") if inside else found
    fill(objective, named, "the objective", optional=objective.state_dict())
    return [name for name, value in objective.named_parameters() if value.requires_grad and name not in named]


def _batch_of(job: Job, step: int, detours: tuple[Detour, ...]) -> int:
    """Return the global batch that a step read: the flight record's word, where there is one, is the last."""
    written = flight_records(job.output.store, job.output.ref, run_of(job.output))
    records = [record for record in written if record["step"] == step]
    return int(records[-1]["batch"]) if records else position(detours, step - 1)


def _computed(
    gang: Gang, task: Task, order: Order, placed: Placed, number: int, batch: int, weights: str, shown: int
) -> Explanation:
    schedule = gang.job.schedule
    size = schedule.global_batch_size
    # Rows are those of the batch, what is drawn for them is that of the step.
    moved = order.around([Detour(number, number, number, batch - 1)] if batch != number else [])
    maker = Maker(
        task.batches,
        moved,
        steps=schedule.steps,
        global_batch_size=size,
        cutting=Cutting.of(gang.job.placement, gang.processes, task.batches),
    )
    made = [maker[asked] for asked in maker.asked(number, number + 1)]
    for each in made:
        if each.refusal:
            raise ManifestError(each.refusal)
    gang.begin(number)
    placed.module.train()
    losses, culprits = replay(
        placed.module, [gang.move(each.batch) for each in made], placed.backward, lambda: nullcontext()
    )
    norms = gradient_norms(parts_of(placed.bare.named_parameters(), layers=True))
    rows = [row for each in made for row in each.rows]
    own: list[float] | list[None] = row_losses(losses) or [None] * len(rows)
    ranked = sorted(zip(rows, own, strict=True), key=lambda pair: -_badness(pair[1]))
    return Explanation(
        number + 1,
        batch,
        weights,
        {name: float(value) for name, value in losses.items() if name != SAMPLE_LOSS},
        norms,
        culprits.told(),
        [_sample(task.batches, row, loss) for row, loss in ranked[:shown]],
    )


def _badness(loss: float | None) -> float:
    if loss is None:
        return float("-inf")
    return loss if abs(loss) < float("inf") else float("inf")


def _sample(batches: Any, row: int, loss: float | None) -> SampleLoss:
    """Return a sample with its caption and picture, where its batches are made from shards of pairs."""
    samples, rows = getattr(batches, "samples", None), getattr(batches, "rows", None)
    caption, picture = "", None
    if isinstance(samples, ShardedSamples):
        number = row if rows is None else int(rows[row])
        caption, picture = samples.read(number, "txt").decode(errors="replace"), samples.read(number, "jpg")
    return SampleLoss(row, batches.facts(row), loss, caption, picture)
