"""Data workers: processes that make batches ahead of time, handed out in order, replaced when they die.

A batch is a pure function of rows and step, so a worker has nothing to save: whoever is asked for
number k makes the same batch, this worker, another one, or one after a restart.
"""

import logging
from collections.abc import Generator
from multiprocessing import context, get_context
from typing import NamedTuple, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from stages.batches import share_of
from stages.manifest import ManifestError
from stages.training.accumulating import cut
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


class Made(NamedTuple):
    """One micro batch, and what it was made from."""

    step: int
    rows: list[int]
    batch: Batch
    refusal: str = ""
    """Why it could not be made, in the words meant for the user."""


class Maker(Dataset[Made]):
    """The micro batches of one process: number k is micro batch `k % chunks` of step `k // chunks`."""

    def __init__(
        self,
        batches: BatchMaker,
        order: Order,
        *,
        steps: int,
        global_batch_size: int,
        rank: int = 0,
        processes: int = 1,
        micro_batch_size: int | None = None,
    ) -> None:
        """Settle how a step is cut.

        Raises:
            ManifestError: The global batch does not divide by the processes, or a share into micro batches.
        """
        self.batches, self.order, self.steps = batches, order, steps
        self._global_batch_size, self._rank, self._processes = global_batch_size, rank, processes
        self._micro_batch_size = micro_batch_size
        self.chunks = len(cut(share_of(range(global_batch_size), rank, processes), micro_batch_size))

    def __len__(self) -> int:
        """Return the number of micro batches of the run."""
        return self.steps * self.chunks

    def rows(self, step: int) -> list[int]:
        """Return the rows of a step's global batch."""
        return self.order.rows(step, self._global_batch_size)

    def share(self, step: int) -> list[int]:
        """Return this process's rows of a step."""
        return share_of(self.rows(step), self._rank, self._processes)

    def __getitem__(self, number: int) -> Made:
        """Make one micro batch; a refusal is told and not raised, so that it arrives as it was written."""
        step, chunk = divmod(number, self.chunks)
        rows = cut(self.share(step), self._micro_batch_size)[chunk]
        try:
            return Made(step, rows, self.batches(rows, step))
        except ManifestError as error:
            return Made(step, rows, {}, str(error))


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
    place, deaths = first_step * maker.chunks, 0
    while place < len(maker):
        try:
            for made in _loader(maker, range(place, len(maker)), workers, pin):
                if made.refusal:
                    raise ManifestError(made.refusal)
                yield made
                place += 1
        except (RuntimeError, OSError, EOFError) as error:
            if not (workers and _is_death(error)):
                raise
            deaths += 1
            at = f"micro batch {place % maker.chunks + 1} of step {place // maker.chunks + 1}"
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


def _loader(maker: Maker, numbers: range, workers: int, pin: bool) -> DataLoader[Made]:
    """Return torch's loader of whole micro batches: it keeps the order and brings tensors through shared memory."""
    return DataLoader(
        maker,
        batch_size=None,
        sampler=numbers,
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
