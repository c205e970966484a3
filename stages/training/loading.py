"""The batches of a process, step after step, made in this process or ahead of time by data workers."""

import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from stages.manifest import ManifestError
from stages.training.accumulating import Cutting
from stages.training.gang import Gang
from stages.training.order import Order, Source
from stages.training.task import Batch, Task
from stages.training.workers import Made, Maker, made_in_order


@dataclass(frozen=True)
class Step:
    """What one step trains on."""

    number: int
    rows: list[int]
    """The global batch: the same on all processes."""
    share: list[int]
    """This process's rows of it."""
    micro_batches: list[Batch]
    waited_seconds: float
    """How long this process stood still for its data."""


def order_of(gang: Gang, task: Task) -> Order:
    """Return the order of a run: of the sources that a task tells of, or of samples that lie in no shards.

    Raises:
        ManifestError: Shards are to be shuffled in windows, and there are none.
    """
    schedule = gang.job.schedule
    if not isinstance(task.samples, int):
        return Order(schedule.seed, task.samples, schedule.shuffle_window)
    if schedule.shuffle_window:
        raise ManifestError(
            f"shuffle_window {schedule.shuffle_window} needs samples that lie in shards, and what this stage trains "
            "on lies in none; set schedule.shuffle_window to 0"
        )
    return Order(schedule.seed, [Source("samples", (task.samples,))])


def check_order(orders: Sequence[str], samples: Sequence[int]) -> None:
    """Refuse processes that would read other samples than the first one; each is given what all of them told.

    Args:
        orders: What decides the order, as a digest, by rank.
        samples: How many samples each has.

    Raises:
        ManifestError: They differ.
    """
    other = [rank for rank, order in enumerate(orders) if order != orders[0]]
    if other:
        raise ManifestError(
            f"processes would read their samples in different orders: process {other[0]} has {samples[other[0]]} "
            f"samples and process 0 has {samples[0]}. With schedule.on_corrupt skip a machine that reads damaged "
            "copies leaves samples out that others have: put its copies right (`internvl verify` finds them there)"
        )


def steps(gang: Gang, task: Task, order: Order, first: int) -> Generator[Step, None, None]:
    """Yield the steps from `first` to the last, batches on the device.

    Raises:
        Refused: The data of this process or another cannot be read; why is in the store by then.
    """
    schedule, placement = gang.job.schedule, gang.job.placement
    maker = Maker(
        task.batches,
        order,
        steps=schedule.steps,
        global_batch_size=schedule.global_batch_size,
        rank=gang.rank,
        cutting=Cutting.of(placement, gang.processes, task.batches),
    )
    source = made_in_order(maker, first, placement.data_workers, pin=gang.device.type == "cuda")

    def taken(micro_batches: int) -> tuple[list[Made], float]:
        start = time.perf_counter()
        return [next(source) for _ in range(micro_batches)], time.perf_counter() - start

    with closing(source):
        for number in range(first, schedule.steps):
            wanted = maker.cut(number)
            made, waited = gang.together(partial(taken, len(wanted)))
            if [each.rows for each in made] != wanted or {each.step for each in made} != {number}:
                raise RuntimeError(
                    f"the batches of step {number + 1} came out of order: {made[0].step}, {wanted[:2]}"
                )
            share = [row for each in made for row in each.rows]
            yield Step(number, maker.rows(number), share, [gang.move(each.batch) for each in made], waited)
