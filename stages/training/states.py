"""What a stopped run goes on from: saved at a step's boundary, whole or unknown, restored under any placement."""

import json
import logging
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from infra.storage import StoreUnavailable
from stages.manifest import ManifestError, digest_of
from stages.training.gang import Gang, Refused
from stages.training.pieces import own_pieces
from stages.training.placing import Placed
from stages.training.rng import rng_states, set_rng_states
from stages.training.state_files import HISTORY, Damaged, Folder, Piece, State, find_states
from stages.training.state_reader import Reading, opened
from stages.training.state_writer import Keeping, Snapshot, Writer
from stages.training.stopping import Stopped, StopRequest

log = logging.getLogger(__name__)

STOP, WRITTEN, FAILED = "stop_asked", "state_written", "state_failed"


@dataclass(frozen=True)
class Restored:
    """Where a run goes on."""

    step: int
    """Steps that are done."""
    history: list[dict[str, float]]
    extras: dict[str, Any] = field(default_factory=dict)
    """What other parts of the loop asked to keep, as they gave it to `save`."""


class States:
    """Saves and restores one process's part of a run's state; all processes call the same, in the same order.

    What the processes must agree on (is it written, did one fail, is one asked to stop) travels with
    the step's other scalars: `signals` goes into the reduction and `heed` reads what comes out.
    """

    def __init__(self, gang: Gang, placed: Placed, scratch: Path, samples: int, stop: StopRequest) -> None:
        """Watch over a placed model.

        Args:
            gang: The processes that train together.
            placed: The model and its optimizer.
            scratch: A folder on this machine with room for what this process writes.
            samples: How many samples there are to train on.
            stop: Whether this process was asked to stop.
        """
        self._gang, self._placed, self._stop = gang, placed, stop
        job = gang.job
        self._store, self._root = job.output.store, job.state
        self._schedule = digest_of(job.schedule.model_dump(mode="json"))
        batch, seed = job.schedule.global_batch_size, job.schedule.seed
        self._data = {"samples": samples, "seed": seed, "global_batch_size": batch}
        self._writer = Writer(scratch)
        self._number = 0
        self._refused: set[int] = set()
        self._snapshot: Snapshot | None = None
        self._writing: Future[None] | None = None
        self._publishing: Future[None] | None = None
        self.stopping = False
        """Whether a process was asked to stop: the same on all, after `heed`."""
        self.note = ""
        """What went wrong with states, for the progress line."""

    def restore(self) -> Restored | None:
        """Put the newest whole state into the model, its optimizer and the generators; None where there is none.

        A damaged state is refused by its hashes before anything of it is parsed, and the one before it is taken.

        Raises:
            ManifestError: There are states and none is whole, or it is one of another model or other data.
        """
        found = find_states(self._store, self._root)
        highest = max([0, *found.whole, *(each.number for each in found.partial)])
        self._number = max(self._number, self._of_first(highest))
        reasons: list[str] = []
        number = self._of_first(max(found.whole, default=0))
        while number:
            reading, reason = self._open(found.whole.get(number), number)
            if reading is not None:
                with reading:
                    return self._load(reading, reasons)
            self._refused.add(number)
            reasons.append(reason)
            log.warning("state %d of %s is refused: %s", number, self._gang.job.output.ref, reason)
            number = self._of_first(max((each for each in found.whole if each < number), default=0))
        if reasons:
            raise ManifestError(
                f"no state of {self._gang.job.output.ref} is whole ({'; '.join(reasons)}); "
                f"remove {self._root} to train from the start"
            )
        return None

    def save(self, step: int, history: list[dict[str, float]], extras: dict[str, Any] | None = None) -> None:
        """Copy the state after `step` steps and begin to write it; waits first for the save before it.

        Args:
            step: Steps that are done.
            history: What each of them measured.
            extras: JSON that other parts of the loop want back from `restore`.

        Raises:
            ManifestError: The save before it failed and the placement says `stop`; or the metric that
                picks the best state is not measured.
        """
        self.settle()
        metric = self._gang.job.placement.best_metric
        if metric is not None and metric not in history[-1]:
            known = ", ".join(sorted(history[-1]))
            raise ManifestError(f"placement.best_metric {metric!r} is not measured by a step; choose one of {known}")
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
            schedule=self._schedule,
            data=self._data,
        )
        self._writing = self._writer.write(self._snapshot, self._keeping())

    def signals(self) -> dict[str, Tensor]:
        """Return what this process has to say to the others, to be averaged with the step's scalars."""
        works = [each for each in (self._writing, self._publishing) if each is not None and each.done()]
        failed = any(each.exception() is not None for each in works)
        written = self._writing is not None and self._writing.done() and not failed
        values = {STOP: bool(self._stop), WRITTEN: written, FAILED: failed}
        return {name: torch.tensor(float(value), device=self._gang.device) for name, value in values.items()}

    def heed(self, values: dict[str, float]) -> None:
        """Act on what all processes said, and take it out of `values`.

        Raises:
            ManifestError: This process's save failed and the placement says `stop`.
            StoreUnavailable: It failed because the store did not answer, and the placement says `stop`.
            Refused: Another process's save failed and the placement says `stop`.
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
        elif self._publishing is not None and self._publishing.done():
            self._publishing = None

    def settle(self) -> None:
        """Wait until the save in flight is published, or known to have failed: the same on all processes."""
        for _ in ("written", "published"):
            for work in (self._writing, self._publishing):
                if work is not None:
                    work.exception()
            self.heed(self._gang.mean(self.signals()))

    def leave(self, step: int, history: list[dict[str, float]], extras: dict[str, Any] | None = None) -> None:
        """Save, wait until it stands, and stop.

        Raises:
            Stopped: Always, where the save did not fail.
        """
        self.save(step, history, extras)
        self.settle()
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
        if not errors:
            raise Refused
        if isinstance(errors[0], StoreUnavailable):
            raise errors[0]
        raise ManifestError(
            f"the state of {ref} at {step} was not saved: {why}; the one before it stands. Put that right and run "
            "the same command again, or train on without states (placement on_failed_save: go_on)"
        ) from errors[0]

    def _keeping(self) -> Keeping:
        placement = self._gang.job.placement
        return Keeping(
            placement.states_kept, placement.best_metric, placement.best_is == "lower", frozenset(self._refused)
        )

    def _open(self, folder: Folder | None, number: int) -> tuple[Reading | None, str]:
        """Verify all that this process needs of a state; None with the reason where any process found damage."""
        reading, reason = None, "another process found it damaged"
        try:
            if folder is None:
                raise Damaged(f"state {number} is missing")
            reading = opened(folder, self._placed)
        except Damaged as damage:
            reason = str(damage)
        damaged = torch.tensor(float(reading is None), device=self._gang.device)
        if self._gang.mean({"damaged": damaged})["damaged"] > 0:
            if reading is not None:
                reading.close()
            return None, reason
        return reading, ""

    def _load(self, reading: Reading, reasons: list[str]) -> Restored:
        self._check(reading.state)
        reading.fill(self._placed)
        generators = [shard.generators for shard in reading.shards]
        if len(generators) == self._gang.processes:
            # Under another number of processes no generator has a successor: a step draws by its number instead.
            set_rng_states(generators[self._gang.rank])
        step = reading.state.step
        if reasons:
            self.note = f"; went on from step {step}, a newer state is damaged: {'; '.join(reasons)}"
        log.info("%s goes on from step %d", self._gang.job.output.ref, step)
        lines = reading.folder.checked(HISTORY, reading.state).splitlines()
        return Restored(step, [json.loads(line) for line in lines], reading.shards[0].extras)

    def _check(self, state: State) -> None:
        if (state.schedule, state.data) != (self._schedule, self._data):
            raise ManifestError(
                f"the state in {self._root} is of another schedule or other data ({state.data}, now {self._data}); "
                f"remove {self._root} to train from the start"
            )

    def _of_first(self, number: int) -> int:
        """Return the first process's number to all of them."""
        told = float(number if self._gang.is_first else 0)
        mean = self._gang.mean({"number": torch.tensor(told, device=self._gang.device)})
        return round(mean["number"] * self._gang.processes)
