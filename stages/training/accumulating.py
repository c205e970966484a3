"""How a step's rows are cut over processes and micro batches; how many there are decides nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stages.batches import share_of
from stages.manifest import ManifestError
from stages.training.balancing import ENDLESS, Load, Room, balanced
from stages.training.task import BatchMaker, Weighing
from stages.workspace import Placement


def cut(share: list[int], micro_batch_size: int | None) -> list[list[int]]:
    """Return a process's rows as micro batches of equal size.

    Raises:
        ManifestError: They do not divide.
    """
    size = micro_batch_size or len(share)
    if len(share) % size:
        fitting = [number for number in range(1, len(share)) if len(share) % number == 0]
        raise ManifestError(
            f"{len(share)} samples per process and step do not divide into micro batches of {size}; "
            f"choose a micro_batch_size of {', '.join(map(str, fitting[-4:])) or 1}, or leave it out"
        )
    return [share[start : start + size] for start in range(0, len(share), size)]


@dataclass(frozen=True)
class Cutting:
    """Who computes which rows of a step, and which of them at once."""

    processes: int = 1
    micro_batch_size: int | None = None
    room: Room = ENDLESS
    load: Callable[[int], Load] | None = None
    """What a row takes, where rows are shared out by it; else all count alike."""

    def __post_init__(self) -> None:
        """Refuse limits that nobody could keep.

        Raises:
            ManifestError: Packs are limited in what rows do not tell.
        """
        if self.load is None and self.room != ENDLESS:
            raise ManifestError(
                "max_packed_tokens and max_packed_tiles are for stages that weigh their samples (instruct); "
                "limit this one by micro_batch_size"
            )

    @classmethod
    def of(cls, placement: Placement, processes: int, batches: BatchMaker) -> "Cutting":
        """Return how a placement cuts the rows of a stage."""
        load = batches.load if isinstance(batches, Weighing) else None
        return cls(processes, placement.micro_batch_size, Room.of(placement), load)

    def pieces(self, rows: Sequence[int], rank: int) -> list[list[int]]:
        """Return the rows of a process in contiguous pieces of equal length.

        Raises:
            ManifestError: Rows do not divide by the processes, or a share into micro batches.
        """
        return cut(share_of(rows, rank, self.processes), self.micro_batch_size)

    def micro_batches(self, rows: Sequence[int], rank: int) -> list[list[int]]:
        """Return the rows of a process by micro batch: pieces, or packs of equal cost where rows are weighed.

        Raises:
            ManifestError: Rows do not divide by the processes, or a share into micro batches.
            ValueError: A row is larger than what is computed at once may be.
        """
        pieces = self.pieces(rows, rank)
        if self.load is None:
            return pieces
        packs = balanced([self.load(row) for row in rows], self.processes, len(pieces), self.room)
        return [[rows[place] for place in pack] for pack in packs[rank]]


PLAIN = Cutting()
"""One process, all rows at once."""


def check(placement: Placement, global_batch_size: int) -> None:
    """Refuse, before anything starts, a range of workers that the global batch does not divide by.

    Raises:
        ManifestError: Some number of workers in the range leaves a rest, or their shares do not divide into
            micro batches.
    """
    if placement.min_workers is None:
        return  # a fixed gang meets the same refusals at its first step; under torchrun its size is not known here
    for workers in range(placement.min_workers, placement.workers + 1):
        if global_batch_size % workers:
            raise ManifestError(
                f"with {placement.min_workers} to {placement.workers} workers there may be {workers}, and "
                f"global_batch_size {global_batch_size} does not divide by it; raise min_workers or lower workers"
            )
        cut(list(range(global_batch_size // workers)), placement.micro_batch_size)
