"""The flight recorder: what a run saw when a step was not taken, and in the steps around it.

Normal steps leave references to what is there anyway. When something happens all processes bring together
which samples lost how much, and where nothing is finite any more the batch is computed once more, watched.
"""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.objective import SAMPLE_LOSS
from stages.aside import store_aside
from stages.checkpoints import jsonl
from stages.training.flight_records import flight_key, flight_records, run_of
from stages.training.gang import Gang
from stages.training.guard import Verdict
from stages.training.layer_norms import gradient_norms, parts_of
from stages.training.loading import Step
from stages.training.placing import Placed
from stages.training.replaying import replay
from stages.training.task import BatchMaker, Metrics

BEFORE, AFTER = 4, 2
"""Steps around an event that are recorded too."""
MOST_RECORDS, MOST_SAMPLES = 400, 128
"""Lines of the file, the oldest go first; samples of a line, those with the highest loss."""


@dataclass(frozen=True)
class Seen:
    """One step as a process saw it."""

    step: int
    batch: int
    share: Sequence[int]
    sample_loss: Tensor | None
    rate: float
    values: Metrics


class Recorder:
    """Keeps the last steps, and writes down those around an event."""

    def __init__(self, gang: Gang, placed: Placed, batches: BatchMaker) -> None:
        """Go on with the records that this run left, not with those of another one under the same name."""
        self._gang, self._placed, self._batches = gang, placed, batches
        self._parts = parts_of(placed.bare.named_parameters(), layers=True)
        self._store, self._key = gang.job.output.store, flight_key(gang.job.output.ref)
        self._last: deque[Seen] = deque(maxlen=BEFORE)
        self._after, self._event = 0, 0
        self._run = run_of(gang.job.output)
        self._records = flight_records(self._store, gang.job.output.ref, self._run) if gang.is_first else []

    def took(self, seen: Seen) -> None:
        """Remember a step that was taken; write it down where something just happened. Gradients still lie there."""
        if self._after:
            self._after -= 1
            self._write([self._record(seen, {"kind": "after", "event": self._event + 1}, norms=True)])
        self._last.append(seen)

    def event(self, step: Step, seen: Seen, verdict: Verdict) -> list[str]:
        """Write down a step that is not taken; its gradients must still lie on the weights. All call it together.

        Returns:
            The samples with the highest losses by their uid, the same on all processes.
        """
        event = {"event": seen.step + 1}
        records = [self._record(each, {"kind": "before", **event}) for each in self._last]
        self._last.clear()
        told = {"kind": "event", **event, "act": str(verdict.act), "reason": verdict.reason}
        found = self._record(seen, told, norms=True)
        if not all(map(math.isfinite, seen.values.values())):
            found["first_not_finite"] = self._culprits(step)
        self._write([*records, found])
        self._after, self._event = AFTER, seen.step
        return [sample["uid"] for sample in found["samples"][:4]]

    def _record(self, seen: Seen, told: Mapping[str, Any], *, norms: bool = False) -> dict[str, Any]:
        """Return a step's record, with the samples of all processes."""
        losses = None if seen.sample_loss is None else seen.sample_loss.float().tolist()
        shares = self._gang.gathered((list(seen.share), losses))
        samples = [
            (row, process, own[place] if own is not None else None)
            for process, (rows, own) in enumerate(shares)
            for place, row in enumerate(rows)
        ]
        samples.sort(key=lambda each: -_badness(each[2]))
        return {
            **told,
            "run": self._run,
            "step": seen.step + 1,
            "batch": seen.batch,
            "seed": self._gang.job.schedule.seed,
            "lr": seen.rate,
            "values": {name: plain(value) for name, value in seen.values.items()},
            "gradient_norms": self._norms(seen) if norms else {},
            "samples": [self._sample(*each) for each in samples[:MOST_SAMPLES]],
            "samples_left_out": max(0, len(samples) - MOST_SAMPLES),
        }

    def _norms(self, seen: Seen) -> dict[str, float | str]:
        """Return the norm of each layer's gradient as it was before clipping."""
        norm = seen.values["grad_norm"]
        clipped = max(1.0, norm / self._gang.job.schedule.max_grad_norm) if math.isfinite(norm) else 1.0
        return {name: plain(value * clipped) for name, value in gradient_norms(self._parts).items()}

    def _sample(self, row: int, process: int, loss: float | None) -> dict[str, Any]:
        return {
            **self._batches.facts(row)._asdict(),
            "row": row,
            "process": process,
            "loss": None if loss is None else plain(loss),
        }

    def _culprits(self, step: Step) -> list[str]:
        """Return for each process which module broke; what this pass draws and leaves is not part of the run."""
        state = torch.get_rng_state()
        self._gang.begin(step.number)
        placed = self._placed
        # Gradients of all processes lie there, and those of this one alone would add to them.
        placed.optimizer.zero_grad(set_to_none=True)
        _, culprits = replay(placed.module, step.micro_batches, placed.backward, placed.no_sync)
        torch.set_rng_state(state)
        return [f"process {place}: {told}" for place, told in enumerate(self._gang.gathered(culprits.told()))]

    def _write(self, records: Sequence[dict[str, Any]]) -> None:
        """Add records; a step that came again, after a restart, replaces what it had left."""
        if not self._gang.is_first:
            return
        names = {_name(record) for record in records}
        kept = [record for record in self._records if _name(record) not in names]
        self._records = [*kept, *records][-MOST_RECORDS:]
        store_aside(self._store, self._key, jsonl(self._records))


def seen_of(step: Step, batch: int, rate: float, values: Metrics, losses: Mapping[str, Tensor]) -> Seen:
    """Return a step as a process saw it."""
    return Seen(step.number, batch, step.share, losses.get(SAMPLE_LOSS), rate, dict(values))


def plain(value: float) -> float | str:
    """Return a number as JSON can hold it: `nan`, `inf` and `-inf` as words."""
    return float(f"{value:.6g}") if math.isfinite(value) else str(value)


def _badness(loss: float | None) -> float:
    if loss is None:
        return -math.inf
    return loss if math.isfinite(loss) else math.inf


def _name(record: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(record[part] for part in ("kind", "event", "step", "batch"))
