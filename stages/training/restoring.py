"""Finds the state that a run goes on from: the newest whole one, the same for all processes."""

import logging
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from stages.manifest import ManifestError, digest_of
from stages.training.gang import Gang
from stages.training.order import Order
from stages.training.placing import Placed
from stages.training.rng import set_rng_states
from stages.training.state_files import Damaged, Folder, State, find_states
from stages.training.state_reader import Reading, history_of, opened

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Restored:
    """Where a run goes on."""

    step: int
    """Steps that are done."""
    history: list[dict[str, float]]
    extras: dict[str, Any] = field(default_factory=dict)
    """What other parts of the loop asked to keep, as they gave it to `save`."""


@dataclass(frozen=True)
class Identity:
    """What a state must have been saved under to be gone on from."""

    schedule: str
    data: dict[str, Any]

    @classmethod
    def of(cls, gang: Gang, order: Order) -> "Identity":
        """Return the identity of a run over samples in this order."""
        schedule = gang.job.schedule
        sizes = {"samples": order.samples, "global_batch_size": schedule.global_batch_size}
        data = {**sizes, "seed": schedule.seed, "order": digest_of(order.described())}
        return cls(digest_of(schedule.model_dump(mode="json")), data)


class Restorer:
    """Tries the states of a run, the newest first; all processes take the same one or none does."""

    def __init__(self, gang: Gang, placed: Placed, identity: Identity) -> None:
        """Restore into a placed model."""
        self._gang, self._placed, self._identity = gang, placed, identity
        self._store, self._root, self._ref = gang.job.output.store, gang.job.state, gang.job.output.ref
        self.highest = 0
        """The highest number that a state has or had: the next save's is above it."""
        self.refused: set[int] = set()
        """Numbers of states that were found damaged."""
        self.reasons: list[str] = []
        """Why, for the last call."""

    def newest(self, last_step: int | None) -> Restored | None:
        """Restore the newest whole state, of no later step than this one; None where there is none.

        Raises:
            ManifestError: There are states and none is whole, or it is one of another model or other data.
        """
        found = find_states(self._store, self._root)
        everything = [*found.whole.values(), *found.partial]
        self.highest = max(self.highest, self._of_first(max((each.number for each in everything), default=0)))
        wanted = {number: each for number, each in found.whole.items() if last_step is None or each.step <= last_step}
        self.reasons = []
        number = self._of_first(max(wanted, default=0))
        while number:
            reading, reason = self._open(wanted.get(number), number)
            if reading is not None:
                with reading:
                    return self._load(reading)
            self.refused.add(number)
            self.reasons.append(reason)
            log.warning("state %d of %s is refused: %s", number, self._ref, reason)
            number = self._of_first(max((each for each in wanted if each < number), default=0))
        if self.reasons:
            raise ManifestError(
                f"no state of {self._ref} is whole ({'; '.join(self.reasons)}); "
                f"remove {self._root} to train from the start"
            )
        return None

    def _open(self, folder: Folder | None, number: int) -> tuple[Reading | None, str]:
        """Verify all that this process needs of a state; None with the reason where any process found damage.

        Hashing takes the processes as long as it takes: they wait for each other patiently.
        """
        reading, reason = self._gang.together(partial(self._verified, folder, number), patient=True)
        damaged = torch.tensor(float(reading is None), device=self._gang.device)
        if self._gang.mean({"damaged": damaged})["damaged"] > 0:
            if reading is not None:
                reading.close()
            return None, reason or "another process found it damaged"
        return reading, ""

    def _verified(self, folder: Folder | None, number: int) -> tuple[Reading | None, str]:
        if folder is None:
            return None, f"state {number} is missing"
        try:
            return opened(folder, self._placed), ""
        except Damaged as damage:
            return None, str(damage)

    def _load(self, reading: Reading) -> Restored:
        self._check(reading.state)
        reading.fill(self._placed)
        generators = [shard.generators for shard in reading.shards]
        if len(generators) == self._gang.processes:
            # Under another number of processes no generator has a successor: a step draws by its number instead.
            set_rng_states(generators[self._gang.rank])
        log.info("%s goes on from step %d", self._ref, reading.state.step)
        history = history_of(reading.folder, reading.state)
        return Restored(reading.state.step, history, reading.shards[0].extras)

    def _check(self, state: State) -> None:
        if (state.schedule, state.data) != (self._identity.schedule, self._identity.data):
            raise ManifestError(
                f"the state in {self._root} is of another schedule or other data ({state.data}, now "
                f"{self._identity.data}); remove {self._root} to train from the start"
            )

    def _of_first(self, number: int) -> int:
        """Return the first process's number to all of them."""
        told = float(number if self._gang.is_first else 0)
        mean = self._gang.mean({"number": torch.tensor(told, device=self._gang.device)})
        return round(mean["number"] * self._gang.processes)
