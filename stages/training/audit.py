"""Proof that each sample was trained on exactly once per epoch, from a finished run or from a plan alone."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from infra.storage import Store
from stages.manifest import Manifest, ManifestError
from stages.training.detours import position
from stages.training.order import Order, Source
from stages.workspace import read_file

DIGEST_BYTES = 6
"""48 bits are a whole number that JSON and float64 hold exactly, and too many to be met by chance."""


def rows_digest(before: float, rows: Sequence[int]) -> float:
    """Return a number that stands for all rows so far: of those before (0 at the start) and of this step's."""
    said = int(before).to_bytes(8, "big") + np.asarray(rows, dtype=">i8").tobytes()
    return float(int.from_bytes(hashlib.sha256(said).digest()[:DIGEST_BYTES], "big"))


@dataclass(frozen=True)
class SourceAudit:
    """What was read of one source: whole epochs, and the samples of the one that was begun."""

    name: str
    samples: int
    read: int
    repeated: tuple[int, ...]
    """Samples that came twice in one epoch: none, or the order is broken."""
    missing: tuple[int, ...]
    """Samples that a whole epoch did not have."""

    @property
    def epochs(self) -> int:
        """Epochs that ended."""
        return self.read // self.samples


@dataclass(frozen=True)
class Audit:
    """What a run read, and whether it was what its order says."""

    steps: int
    sources: tuple[SourceAudit, ...]
    differs_at: int | None
    """First step whose rows were not those of the order, counted from 1; None where all were."""
    compared: int
    """Steps of which the run has told what it read."""
    left_out: int = 0
    """Samples in global batches that a detour left out: they count as read, since they do not come again."""

    @property
    def sound(self) -> bool:
        """Whether every sample came exactly once per epoch, as far as was asked."""
        return self.differs_at is None and not any(each.repeated or each.missing for each in self.sources)


class _Epochs:
    """Counts the samples of one source, epoch after epoch; it knows nothing of how their order came about."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._seen = np.zeros(source.samples, dtype=bool)
        self._read = 0
        self._repeated: set[int] = set()
        self._missing: set[int] = set()

    def owns(self, row: int) -> bool:
        return self._source.first <= row < self._source.first + self._source.samples

    def saw(self, row: int) -> None:
        at = row - self._source.first
        if self._seen[at]:
            self._repeated.add(row)
        self._seen[at] = True
        self._read += 1
        if self._read % self._source.samples == 0:
            self._missing |= {int(gap) + self._source.first for gap in np.flatnonzero(~self._seen)}
            self._seen[:] = False

    def told(self) -> SourceAudit:
        repeated, missing = tuple(sorted(self._repeated)), tuple(sorted(self._missing))
        return SourceAudit(self._source.name, self._source.samples, self._read, repeated, missing)


def audit(order: Order, steps: int, global_batch_size: int, digests: Sequence[float] = ()) -> Audit:
    """Go through the rows of all steps and count.

    Args:
        order: Of the run.
        steps: How many were taken.
        global_batch_size: Samples per step.
        digests: What the run wrote down of the rows it read, one per step; empty audits the plan alone.

    Raises:
        ManifestError: The order names a row that no source has.
    """
    counters = [_Epochs(source) for source in order.sources]
    digest, differs, expected, left_out = 0.0, None, 0, 0
    for step in range(steps):
        batch = position(order.detours, step)
        rows = order.rows(step, global_batch_size)
        passed = [row for each in range(expected, batch) for row in order.batch(each, global_batch_size)]
        expected, left_out = batch + 1, left_out + len(passed)
        for row in [*passed, *rows]:
            owner = next((each for each in counters if each.owns(row)), None)
            if owner is None:
                raise ManifestError(
                    f"step {step + 1} reads row {row}, which no source has; make the checkpoint again"
                )
            owner.saw(row)
        digest = rows_digest(digest, rows)
        if differs is None and step < len(digests) and digests[step] != digest:
            differs = step + 1
    return Audit(steps, tuple(each.told() for each in counters), differs, min(steps, len(digests)), left_out)


def audit_run(store: Store, checkpoint: Manifest) -> Audit:
    """Audit a finished training run: its order as the checkpoint tells it against its history.

    Raises:
        ManifestError: The checkpoint was not trained here, or before runs wrote down what they read.
    """
    part = checkpoint.parts[0]
    told = part.facts.get("order")
    if told is None or "history" not in part.files:
        raise ManifestError(
            f"{checkpoint.ref} does not tell in which order its samples were read: it was made by stage "
            f"{checkpoint.stage} of an earlier version, or was not trained here; train it again to audit it"
        )
    lines = read_file(store, checkpoint, part.files["history"]).decode().splitlines()
    digests = [json.loads(line)["rows_digest"] for line in lines]
    return audit(Order.read(told), len(lines), told["global_batch_size"], digests)
