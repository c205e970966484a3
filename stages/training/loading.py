"""The batches of a process, step after step."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from stages.batches import rows_of, share_of
from stages.training.accumulating import cut
from stages.training.gang import Gang
from stages.training.task import Batch, Task


@dataclass(frozen=True)
class Step:
    """What one step trains on."""

    number: int
    rows: list[int]
    """The global batch: the same on all processes."""
    share: list[int]
    """This process's rows of it."""
    micro_batches: list[Batch]


def steps(gang: Gang, task: Task, first: int) -> Iterator[Step]:
    """Yield the steps from `first` to the last, batches on the device."""
    schedule = gang.job.schedule
    for number in range(first, schedule.steps):
        rows = rows_of(number, seed=schedule.seed, samples=task.samples, global_batch_size=schedule.global_batch_size)
        share = share_of(rows, gang.rank, gang.processes)
        pieces = cut(share, gang.job.placement.micro_batch_size)
        batches = gang.together(partial(_made, task, pieces, number))
        yield Step(number, rows, share, [gang.move(batch) for batch in batches])


def _made(task: Task, pieces: list[list[int]], number: int) -> list[Batch]:
    return [task.batches(piece, number) for piece in pieces]
