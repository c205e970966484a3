"""What there is to measure of a training next, and whether it goes on."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from infra.storage import Store
from stages.manifest import Manifest, ManifestError, find
from stages.ref import Ref
from stages.training.flight_records import job_of, run_key
from stages.training.job import Job
from stages.training.snapshots import NUMBER, standing_snapshot, step_of
from stages.training.state_files import Folder, find_states
from stages.workspace import Placement

LOOK_SECONDS = 2.0


@dataclass(frozen=True)
class Candidate:
    """A state to measure, or the finished checkpoint."""

    step: int
    number: int
    folder: Folder | None
    """None: the run is over, and its checkpoint is measured itself."""


@dataclass(frozen=True)
class Reached:
    """The last state that was measured; before the first all is 0."""

    step: int = 0
    number: int = 0


class Source:
    """Looks at a training from outside; it writes nothing and asks nothing of it."""

    def __init__(self, store: Store, training: Ref, trained: Mapping[str, Any], every: int, patience: float) -> None:
        """Look at nothing yet.

        Args:
            store: Where the run saves.
            training: The checkpoint that is trained.
            trained: Parameters that the run must have to be the one that is meant; empty: whichever there is.
            every: Fewest steps between two states that are measured.
            patience: Seconds without a sign of life after which the run counts as gone.
        """
        self._store, self._training, self._trained = store, training, trained
        self._every, self._patience = every, patience
        self._refused: set[int] = set()
        self._highest = 0
        self._refusal: bytes | None = b""
        """What the run's refusal said at the last look, None where there was none; at first nobody has looked."""

    def job(self, wait: Callable[[str], None]) -> Job:
        """Return the run, once it has begun.

        Raises:
            ManifestError: It does not begin in time.
        """
        since = time.monotonic()
        while (job := self._told()) is None:
            if time.monotonic() - since > self._patience:
                raise ManifestError(
                    f"{self._training} was not trained within {self._patience:g} s, so there is nothing to follow; "
                    "start its training, then this again"
                )
            wait(f"waiting for the training of {self._training} to begin")
            time.sleep(LOOK_SECONDS)
        return job

    def _told(self) -> Job | None:
        if not self._store.exists(run_key(self._training)):
            return None
        job = job_of(self._store, self._training, Placement())
        # What an earlier run of the same name left is not what is followed.
        same = all(job.output.identity["parameters"].get(name) == value for name, value in self._trained.items())
        return job if same else None

    def refuse(self, candidate: Candidate) -> None:
        """Offer a state no more: it is gone or damaged."""
        self._refused.add(candidate.number)

    def next(self, job: Job, last: Reached, wait: Callable[[str], None]) -> Candidate | None:
        """Return what to measure next, waiting for it; None where the run is over and all is measured.

        A snapshot that was taken and not measured to the end, by a process that was killed, comes before all.

        Raises:
            ManifestError: The run was refused, or gives no sign of life any more.
        """
        since, sign = time.monotonic(), b""
        while True:
            finished = self._finished(job)  # before the states: when it stands they are removed
            newest = self._state(job, last)
            if (begun := self._begun(job, last)) is not None:
                return begun
            if finished is not None:
                step = int(finished.parts[0].facts["metrics"]["steps"])
                return Candidate(step, self._highest + 1, None) if step > last.step else None
            if newest is not None:
                return newest
            self._check_refusal(job)
            if (now := self._sign(job)) != sign:
                since, sign = time.monotonic(), now
            elif time.monotonic() - since > self._patience:
                raise ManifestError(
                    f"the training of {self._training} gave no sign of life for {self._patience:g} s; what was "
                    "measured is kept. Start it again, then this: both go on where they were"
                )
            wait(f"waiting for a state after step {last.step}")
            time.sleep(LOOK_SECONDS)

    def _finished(self, job: Job) -> Manifest | None:
        found = find(self._store, self._training)
        return found if found is not None and found.identity == job.output.identity else None

    def _begun(self, job: Job, last: Reached) -> Candidate | None:
        """Return what has a snapshot already and no point yet; its state may be gone meanwhile."""
        for version in self._store.folders(self._training.name):
            step = step_of(self._training, version)
            if step is None or step <= last.step or (found := standing_snapshot(job, step)) is None:
                continue
            number = int(found.totals[NUMBER])
            return Candidate(step, number, Folder(self._store, job.state, number, step))
        return None

    def _state(self, job: Job, last: Reached) -> Candidate | None:
        found = find_states(self._store, job.state)
        self._highest = max([self._highest, last.number, *found.whole])
        fitting = [
            each
            for number, each in found.whole.items()
            if number > last.number and number not in self._refused and each.step >= last.step + max(self._every, 1)
        ]
        newest = max(fitting, key=lambda each: each.number, default=None)
        return Candidate(newest.step, newest.number, newest) if newest is not None else None

    def _check_refusal(self, job: Job) -> None:
        """Raise where the run refused since we look; what stood at the first look may be of an earlier try."""
        now = self._store.read(job.refusal) if self._store.exists(job.refusal) else None
        before, self._refusal = self._refusal, now
        if now is not None and before is None:
            raise ManifestError(
                f"the training of {self._training} was refused ({now.decode()}); what was measured before is kept"
            )

    def _sign(self, job: Job) -> bytes:
        key = self._training.key("progress.json")
        told = self._store.read(key) if self._store.exists(key) else b""
        return told + str(self._highest).encode()
