"""Data workers: processes that make batches ahead of time, handed out in order, replaced when they die.

A batch is a pure function of rows and step, so a worker has nothing to save: whoever is asked for
number k makes the same batch, this worker, another one, or one after a restart.
"""

import logging
from collections.abc import Generator, Iterable, Iterator
from multiprocessing import context, get_context
from typing import NamedTuple, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from stages.manifest import ManifestError
from stages.training.accumulating import PLAIN, Cutting
from stages.training.order import Order
from stages.training.task import Batch, BatchMaker

AHEAD = 2
"""Batches that each worker makes ahead; memory holds as many for each worker."""
RESTARTS = 3
"""Times per run that dead workers are replaced; where they die again and again the machine lacks memory."""
DEATHS = ("DataLoader worker (pid", "Pin memory thread exited unexpectedly")
"""How torch's loader says that what it needs is gone: the thread that pins falls to what a dead worker held."""

T = TypeVar("T")
log = logging.getLogger(__name__)


class Asked(NamedTuple):
    """One micro batch that is to be made."""

    step: int
    number: int
    """Which of this process's micro batches of the step."""
    rows: list[int]


class Made(NamedTuple):
    """One micro batch, and what it was made from."""

    step: int
    number: int
    rows: list[int]
    batch: Batch
    refusal: str = ""
    """Why it could not be made, in the words meant for the user."""


class Maker(Dataset[Made]):
    """The micro batches of one process, each made from what `asked` tells of it."""

    def __init__(
        self,
        batches: BatchMaker,
        order: Order,
        *,
        steps: int,
        global_batch_size: int,
        rank: int = 0,
        cutting: Cutting = PLAIN,
    ) -> None:
        """Settle how a step is cut.

        Raises:
            ManifestError: The global batch does not divide by the processes, or a share into micro batches.
        """
        self.batches, self.order, self.steps = batches, order, steps
        self._global_batch_size, self._rank, self._cutting = global_batch_size, rank, cutting
        cutting.pieces(range(global_batch_size), rank)  # refuses before the first step

    def rows(self, step: int) -> list[int]:
        """Return the rows of a step's global batch."""
        return self.order.rows(step, self._global_batch_size)

    def cut(self, step: int) -> list[list[int]]:
        """Return this process's rows of a step, micro batch by micro batch."""
        return self._cutting.micro_batches(self.rows(step), self._rank)

    def asked(self, first: int, end: int, number: int = 0) -> Iterator[Asked]:
        """Yield the micro batches of some steps, from a micro batch of the first one on."""
        for step in range(first, end):
            for place, rows in enumerate(self.cut(step)):
                if step > first or place >= number:
                    yield Asked(step, place, rows)

    def __getitem__(self, asked: Asked) -> Made:
        """Make one micro batch; a refusal is told and not raised, so that it arrives as it was written."""
        try:
            return Made(*asked, self.batches(asked.rows, asked.step))
        except ManifestError as error:
            return Made(*asked, {}, str(error))


def made_in_order(maker: Maker, first_step: int, workers: int, pin: bool = False) -> Generator[Made, None, None]:
    """Yield the micro batches from a step on, in order, each once, whatever becomes of the workers.

    Args:
        maker: Makes them.
        first_step: Where to begin.
        workers: Processes that make them ahead; 0 makes each when it is asked for.
        pin: Put them into page-locked memory, from which a GPU copies while it computes.

    Raises:
        ManifestError: One could not be made, for a reason that the user can put right.
        RuntimeError: Workers died more than `RESTARTS` times; or a worker met an error of the program.
    """
    step, number, deaths = first_step, 0, 0
    while True:
        try:
            for made in _loader(maker, maker.asked(step, maker.steps, number), workers, pin):
                if made.refusal:
                    raise ManifestError(made.refusal)
                yield made
                step, number = made.step, made.number + 1
            return
        except (RuntimeError, OSError, EOFError) as error:
            if not (workers and _is_death(error)):
                raise
            deaths += 1
            at = f"micro batch {number + 1} of step {step + 1}"
            if deaths > RESTARTS:
                raise RuntimeError(
                    f"data workers died {deaths} times, the last time before {at} ({error}); most often they lack "
                    "memory: lower data_workers or micro_batch_size"
                ) from error
            log.warning("%s; data workers start anew at %s (restart %d of %d)", error, at, deaths, RESTARTS)


def _is_death(error: Exception) -> bool:
    """Whether torch's loader tells of a worker that is gone: it has no error type of its own for that.

    A worker also takes with it the tensors that it still held: fetching one meets a closed connection.
    """
    if str(error).startswith("Caught "):
        return False  # raised inside a worker that lives, and brought here
    return not isinstance(error, RuntimeError) or str(error).startswith(DEATHS)


def _loader(maker: Maker, asked: Iterable[Asked], workers: int, pin: bool) -> DataLoader[Made]:
    """Return torch's loader of whole micro batches: it keeps the order and brings tensors through shared memory."""
    return DataLoader(
        maker,
        batch_size=None,
        sampler=asked,
        collate_fn=_as_it_is,
        num_workers=workers,
        prefetch_factor=AHEAD if workers else None,
        multiprocessing_context=_processes() if workers else None,
        pin_memory=pin,
        generator=torch.Generator(),  # else it would draw from the generator that training is seeded with
    )


def _processes() -> context.BaseContext:
    """Return how workers are started: never as a copy of this process, which has threads and maybe a GPU."""
    found = get_context("forkserver")
    found.set_forkserver_preload(["torch"])
    return found


def _as_it_is(made: T) -> T:
    return made
