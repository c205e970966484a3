"""What a stopped run goes on from: saved at a step's boundary, whole or unknown, restored under any placement."""

import logging
from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from infra.storage import StoreUnavailable
from stages.manifest import ManifestError
from stages.training.gang import Gang
from stages.training.order import Order
from stages.training.pieces import own_pieces
from stages.training.placing import Placed
from stages.training.restoring import Identity, Restored, Restorer
from stages.training.rng import rng_states
from stages.training.state_files import Folder, Piece
from stages.training.state_writer import Keeping, Snapshot, Writer
from stages.training.stopping import Stopped, StopRequest
from stages.training.task import Metrics, taken

log = logging.getLogger(__name__)

STOP, WRITTEN, FAILED = "stop_asked", "state_written", "state_failed"


class States:
    """Saves and restores one process's part of a run's state; all processes call the same, in the same order.

    What the processes must agree on (is it written, did one fail, is one asked to stop) travels with
    the step's other scalars: `signals` goes into the reduction and `heed` reads what comes out.
    """

    def __init__(self, gang: Gang, placed: Placed, scratch: Path, order: Order, stop: StopRequest) -> None:
        """Watch over a placed model.

        Args:
            gang: The processes that train together.
            placed: The model and its optimizer.
            scratch: A folder on this machine with room for what this process writes.
            order: Which samples each step trains on.
            stop: Whether this process was asked to stop.
        """
        self._gang, self._placed, self._stop = gang, placed, stop
        job = gang.job
        self._store, self._root = job.output.store, job.state
        self._identity = Identity.of(gang, order)
        self._restorer = Restorer(gang, placed, self._identity)
        self._writer = Writer(scratch)
        self._number = 0
        self._snapshot: Snapshot | None = None
        self._writing: Future[None] | None = None
        self._publishing: Future[None] | None = None
        self.stopping = False
        """Whether a process was asked to stop: the same on all, after `heed`."""
        self.note = ""
        """What went wrong with states, for the progress line."""

    def restore(self, last_step: int | None = None) -> Restored | None:
        """Put the newest whole state into the model, its optimizer and the generators; None where there is none.

        A damaged state is refused by its hashes before anything of it is parsed, and the one before it is
        taken. May be called again to roll back; the save in flight is waited for.

        Args:
            last_step: Take none of a later step. What is saved afterwards counts as newer than all that stands.

        Raises:
            ManifestError: There are states and none is whole, or it is one of another model or other data.
        """
        self.settle()
        restored = self._restorer.newest(last_step)
        self._number = max(self._number, self._restorer.highest)
        if restored is not None and self._restorer.reasons:
            why = "; ".join(self._restorer.reasons)
            self.note = f"; went on from step {restored.step}, a newer state is damaged: {why}"
        return restored

    def check(self, measured: Metrics) -> None:
        """Refuse a placement whose best state cannot be told from what a step measures; asked after each step.

        Raises:
            ManifestError: The metric that picks the best state is not measured.
        """
        metric = self._gang.job.placement.best_metric
        if metric is not None and metric not in measured and taken([measured]):
            known = ", ".join(sorted(measured))
            raise ManifestError(f"placement.best_metric {metric!r} is not measured by a step; choose one of {known}")

    def save(self, step: int, history: list[dict[str, float]], extras: dict[str, Any] | None = None) -> None:
        """Copy the state after `step` steps and begin to write it; waits first for the save before it.

        Args:
            step: Steps that are done.
            history: What each of them measured.
            extras: JSON that other parts of the loop want back from `restore`.

        Raises:
            Refused: The save before it failed and the placement says `stop`; see `heed`.
        """
        self.settle()
        self._number += 1
        rank, processes = self._gang.rank, self._gang.processes
        own = own_pieces(self._placed, rank, processes)
        self._snapshot = Snapshot(
            folder=Folder(self._store, self._root, self._number, step),
            rank=rank,
            processes=processes,
            tensors={name: each.tensor.to("cpu", copy=True).contiguous() for name, each in own.items()},
            pieces={
                name: Piece(whole=each.whole, offset=each.box.offset, shape=each.box.shape)
                for name, each in own.items()
            },
            generators=rng_states(),
            history=list(history),
            extras=dict(extras or {}),
            schedule=self._identity.schedule,
            data=self._identity.data,
        )
        self._writing = self._writer.write(self._snapshot, self._keeping())

    def signals(self) -> dict[str, Tensor]:
        """Return what this process has to say to the others, to be averaged with the step's scalars."""
        # Each work is asked once: one that ends between two questions would be neither failed nor written.
        done = [work for work in (self._writing, self._publishing) if work is not None and work.done()]
        failed = any(work.exception() is not None for work in done)
        values = {STOP: bool(self._stop), WRITTEN: self._writing in done and not failed, FAILED: failed}
        return {name: torch.tensor(float(value), device=self._gang.device) for name, value in values.items()}

    def heed(self, values: dict[str, float]) -> None:
        """Act on what all processes said, and take it out of `values`.

        Raises:
            Refused: A process's save failed and the placement says `stop`; why is in the store.
            ManifestError: So did this one's, and the store did not take why.
            StoreUnavailable: It failed because the store did not answer, and the placement says `stop`.
        """
        self.stopping = values.pop(STOP) > 0 or self.stopping
        written = round(values.pop(WRITTEN) * self._gang.processes) == self._gang.processes
        if values.pop(FAILED) > 0:
            self._failed()
        elif written:
            self._writing = None
            if self._gang.is_first and self._gang.processes > 1 and self._snapshot is not None:
                self._publishing = self._writer.publish(self._snapshot, self._keeping())
            self._snapshot = None
        elif self._publishing is not None and self._publishing.done() and self._publishing.exception() is None:
            self._publishing = None  # one that failed since `signals` says so with the next step

    def settle(self) -> None:
        """Wait until the save in flight is published, or known to have failed: the same on all processes."""
        for _ in ("written", "published"):
            self._gang.together(self._wait, patient=True)
            self.heed(self._gang.mean(self.signals()))

    def secure(self, step: int, history: list[dict[str, float]], extras: dict[str, Any] | None = None) -> None:
        """Save and wait until it stands; then stop where a process was asked to.

        Raises:
            Stopped: One was, and the save did not fail.
        """
        self.save(step, history, extras)
        self.settle()
        if not self.stopping:
            return
        asked = self._stop.signal or "a signal to another process"
        saved = self._root if not self.note else f"{self._root} (but: {self.note.removeprefix('; ')})"
        raise Stopped(
            f"{self._gang.job.output.ref} stopped after step {step} at {asked}, its state is in {saved}; "
            "the same command goes on from there"
        )

    def close(self) -> None:
        """Wait for the thread; what it failed at is in the log."""
        self._writer.close()
        for work in (self._writing, self._publishing):
            if work is not None and (error := work.exception()) is not None:
                log.error("the last state of %s was not saved: %s", self._gang.job.output.ref, error)

    def _wait(self) -> None:
        for work in (self._writing, self._publishing):
            if work is not None:
                work.exception()

    def _failed(self) -> None:
        """Say that a state was not saved, then stop or go on as the placement wants it."""
        snapshot, errors = self._snapshot, []
        for work in (self._writing, self._publishing):
            if work is not None and (error := work.exception()) is not None:
                errors.append(error)
        self._writing = self._publishing = self._snapshot = None
        ref, why = self._gang.job.output.ref, "; ".join(map(str, errors)) or "another process could not write"
        step = f"step {snapshot.folder.step}" if snapshot else "an earlier step"
        log.error("the state of %s at %s was not saved: %s", ref, step, why)
        self.note = f"; state at {step} NOT saved: {why}"
        if self._gang.job.placement.on_failed_save == "go_on":
            return
        self._gang.together(partial(self._refuse, errors, step))

    def _refuse(self, errors: Sequence[BaseException], step: str) -> None:
        """Say why this process's save failed, where it did."""
        if not errors:
            return
        if isinstance(errors[0], StoreUnavailable):
            raise errors[0]
        ref, why = self._gang.job.output.ref, "; ".join(map(str, errors))
        raise ManifestError(
            f"the state of {ref} at {step} was not saved: {why}; the one before it stands. Put that right and run "
            "the same command again, or train on without states (placement on_failed_save: go_on)"
        ) from errors[0]

    def _keeping(self) -> Keeping:
        placement, guard = self._gang.job.placement, self._gang.job.schedule.guard
        return Keeping(
            placement.states_kept,
            max(guard.skips_within, guard.high_steps),
            placement.best_metric,
            placement.best_is == "lower",
            frozenset(self._restorer.refused),
        )
