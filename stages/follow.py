"""Measure a training while it goes on: states as they are saved, one at a time, and the best of them is kept.

The training is neither asked nor stopped, and its numbers are the same with and without. Of each state that is
measured a snapshot is taken, a checkpoint of its own (`stages.training.snapshots`); evaluations and benchmarks of the
user's choice run on it as on any other. Where they take longer than the training takes to its next state, the newest
state is measured next, and the ones between are passed over and counted. A run that is stopped goes on where it was.
"""

import logging
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from infra.cluster import InlineCluster
from infra.scratch import scratch_folder
from stages.aside import store_aside
from stages.catalogue import checkpoints
from stages.evaluations.memory import folder_of
from stages.follow_points import (
    Point,
    best_of,
    check_metric,
    curve_key,
    curve_lines,
    metrics_of,
    page,
    table,
)
from stages.follow_source import Candidate, Reached, Source
from stages.manifest import Ledger, Manifest, Part, digest_of, find, load
from stages.materialize import StageSpec, materialize
from stages.output import Output
from stages.ref import Ref
from stages.training.flight_records import job_of
from stages.training.job import Job
from stages.training.sinks import Sinks
from stages.training.snapshots import remove_snapshot, snapshot_ref, take_snapshot
from stages.training.state_files import Damaged
from stages.workspace import Placement, Workspace

VERSION = 1
log = logging.getLogger(__name__)


class Parameters(BaseModel):
    """Which training is measured, with what, and which state is the best."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    training: Ref = Field(description="The checkpoint that is trained.")
    trained: dict[str, Any] = Field(
        default_factory=dict, description="Parameters of the run that is meant; empty: whichever has this name."
    )
    evaluations: tuple[StageSpec, ...] = Field(
        default=(), description="Stages that measure the checkpoint; each is run on the snapshots in its place."
    )
    every: int = Field(default=0, ge=0, description="Fewest steps between two states that are measured.")
    best: str | None = Field(default=None, description="Metric of the best; the latest is kept when left out.")
    best_is: Literal["higher", "lower"] = "higher"
    patience_seconds: float = Field(
        default=1800.0, gt=0, description="The run counts as gone when it gives no sign of life for so long."
    )


@dataclass(frozen=True)
class Work:
    """What a worker needs to measure any state."""

    output: Output
    parameters: Parameters
    placement: Placement
    digest: str


def measure(asked: tuple[Candidate, int], work: Work) -> Part | None:
    """Measure one state and publish the point; None where the state is gone or damaged.

    Args:
        asked: The state, and how many states were passed over before it.
        work: What is measured.

    Raises:
        ManifestError: It cannot be measured, or the metric of the best is not among what was.
    """
    candidate, passed_over = asked
    store, given = work.output.store, work.parameters
    try:
        checkpoint = _checkpoint(candidate, work)
    except Damaged as damage:
        log.warning("a state of %s is passed over: %s", given.training, damage)
        return None
    version = snapshot_ref(given.training, candidate.step).version
    specs = [on_snapshot(each, given.training, checkpoint.ref, version) for each in given.evaluations]
    made = [materialize(each, store, InlineCluster(), progress=False) for each in specs]
    metrics = metrics_of(checkpoint, made)
    check_metric(metrics, given.best, checkpoint.ref)
    point = Point(
        step=candidate.step,
        number=candidate.number,
        passed_over=passed_over,
        checkpoint=checkpoint.ref,
        metrics=metrics,
    )
    ledger = Ledger(listed=1 + passed_over, kept=1, rejected=passed_over)
    return work.output.part(_key(candidate.step), work.digest, ledger, {}, point.model_dump(mode="json"))


def _checkpoint(candidate: Candidate, work: Work) -> Manifest:
    store, training = work.output.store, work.parameters.training
    if candidate.folder is None:
        return load(store, training)
    placement = Placement(gpus_per_worker=work.placement.gpus_per_worker)
    with scratch_folder("follow") as scratch:
        return take_snapshot(job_of(store, training, placement), candidate.folder, scratch)


def on_snapshot(spec: StageSpec, training: Ref, checkpoint: Ref, version: str) -> StageSpec:
    """Return a stage that measures a finished training, as one that measures a checkpoint in its place."""
    inputs = tuple(checkpoint if ref == training else ref for ref in spec.inputs)
    artifact = Ref(name=spec.artifact.name, version=version)
    return spec.model_copy(update={"inputs": inputs, "artifact": artifact})


def _key(step: int) -> str:
    return f"step-{step:08d}"


class _Following:
    """One training, from the first state that is found to its end."""

    def __init__(self, parameters: Parameters, output: Output, here: Workspace) -> None:
        self._given, self._output, self._here = parameters, output, here
        self._source = Source(
            here.store, parameters.training, parameters.trained, parameters.every, parameters.patience_seconds
        )
        self._sinks = Sinks(output.ref, first=True)
        self._said = ""
        self.parts: list[Part] = []

    def __call__(self) -> Manifest:
        job = self._source.job(self._wait)
        work = Work(self._output, self._given, self._here.placement, digest_of(job.output.identity))
        self.parts = self._standing(work.digest)
        if self.parts:
            self._keep_best()
        while (candidate := self._source.next(job, self._reached(), self._wait)) is not None:
            self._tell(job, candidate)
            passed = max(0, candidate.number - self._reached().number - 1)
            (made,) = self._here.cluster.map(
                partial(measure, work=work),
                [(candidate, passed)],
                cpus=self._here.placement.cpus_per_task,
                gpus=self._here.placement.gpus_per_worker,
                resources=self._here.placement.resources,
            )
            if made is None:
                self._source.refuse(candidate)
                continue
            self.parts.append(made)
            point = Point.of(made)
            self._sinks.write(point.step, point.metrics)
            self._sinks.flush()
            self._keep_best()
        self._sinks.close()
        return self._committed()

    def _standing(self, digest: str) -> list[Part]:
        """Return the points of an earlier attempt."""
        markers = self._output.store.keys(self._output.ref.key("markers"))
        steps = {int(key.rpartition("/")[2].split("-")[1]) for key in markers}
        return sorted(self._output.standing((_key(step), digest) for step in steps), key=lambda part: part.key)

    def _points(self) -> list[Point]:
        return [Point.of(part) for part in self.parts]

    def _reached(self) -> Reached:
        last = max(self._points(), key=lambda point: point.number, default=None)
        return Reached(last.step, last.number) if last is not None else Reached()

    def _best(self) -> Point:
        return best_of(self._points(), self._given.best, self._given.best_is)

    def _keep_best(self) -> None:
        """Write the curve, and remove what is not the best; what a name was given to stays."""
        store, points, best = self._here.store, self._points(), self._best()
        store_aside(store, curve_key(self._given.training), curve_lines(points))
        named = {each.ref for each in checkpoints(store) if each.aliases}
        for point in points:
            if point.checkpoint not in (best.checkpoint, self._given.training, *named):
                self._remove(point)

    def _remove(self, point: Point) -> None:
        store = self._here.store
        if (snapshot := find(store, point.checkpoint)) is None:
            return
        for each in self._given.evaluations:
            remove_snapshot(store, Ref(name=each.artifact.name, version=point.checkpoint.version))
        store.remove(folder_of(snapshot.digest))
        remove_snapshot(store, point.checkpoint)

    def _wait(self, note: str) -> None:
        if note != self._said:
            self._here.progress(len(self.parts), 0, "states measured", note)
        self._said = note

    def _tell(self, job: Job, candidate: Candidate) -> None:
        self._here.progress(candidate.step, job.schedule.steps, "steps", f"measuring step {candidate.step}")
        self._said = ""

    def _committed(self) -> Manifest:
        points, best, given = self._points(), self._best(), self._given
        passed = sum(point.passed_over for point in points)
        said = [f"States of {given.training}: {len(points)} measured, {passed} passed over."]
        if given.best is not None:
            said.append(
                f"The best {given.best} ({best.metrics[given.best]:.4g}) is that of {best.checkpoint}; to go on with "
                f"it: `internvl checkpoints promote {best.checkpoint}`."
            )
        totals = {
            "measured": len(points),
            "passed_over": passed,
            "best_step": best.step,
            "best_checkpoint": str(best.checkpoint),
            "markdown": "\n\n".join([" ".join(said), table(points, best, given.best)]),
        }
        if given.best is not None:
            totals["best_value"] = round(best.metrics[given.best], 6)
        reports = {"page": ("measured.html", page(given.training, points, best, given.best).encode())}
        return self._output.commit(self.parts, totals=totals, reports=reports)


def run(parameters: Parameters, output: Output, here: Workspace) -> Manifest:
    """Measure a training until it ends.

    Raises:
        ManifestError: It does not begin, is refused or gone, or a state cannot be measured.
    """
    return _Following(parameters, output, here)()


def follow_ref(training: Ref, version: str = "") -> Ref:
    """Return what the points of a training are called: `curves/contrastive@tiny`."""
    return Ref(name=f"curves/{training.name.rpartition('/')[2]}", version=version or training.version)
