"""The processes that train together: plain, under `torchrun`, or as workers of Ray Train."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor

from stages.manifest import ManifestError
from stages.training.job import Job

T = TypeVar("T")


class Refused(Exception):
    """A process of the gang refused, and has written why."""


class Gang:
    """This process among those that train together."""

    def __init__(self, job: Job) -> None:
        """Join the others; on one process there is nobody to join."""
        self.job = job
        cuda = torch.cuda.is_available()
        if not cuda:
            # On shared cores two threads per step are slower than one; more cores mean more workers.
            torch.set_num_threads(1)
        precision = "bf16" if job.schedule.precision == "bf16" else "no"
        self.accelerator = Accelerator(cpu=not cuda, mixed_precision=precision)
        self.rank: int = self.accelerator.process_index
        self.processes: int = self.accelerator.num_processes
        self.device: torch.device = self.accelerator.device

    @property
    def is_first(self) -> bool:
        """Whether this process speaks for all."""
        return self.rank == 0

    def seed(self, step: int) -> None:
        """Seed what is still drawn from torch's own generator, so that a restart draws the same."""
        path = f"{self.job.schedule.seed}/{step}/{self.rank}"
        torch.manual_seed(int.from_bytes(hashlib.sha256(path.encode()).digest()[:7]))

    def together(self, work: Callable[[], T]) -> T:
        """Do a work that may refuse; where one process refuses all stop, instead of waiting for it forever.

        Raises:
            Refused: This process or another refuses; why is in the store by then.
        """
        refused = 0.0
        try:
            done = work()
        except ManifestError as error:
            self.refuse(error)
            refused = 1.0
        if self.processes > 1:
            refused = float(self.accelerator.reduce(torch.tensor(refused, device=self.device), "sum"))
        if refused:
            raise Refused
        return done

    def refuse(self, error: ManifestError) -> None:
        """Write why this run cannot go on; a refusal is final, trying again would say the same."""
        self.job.output.store.write(self.job.refusal, str(error).encode())

    def mean(self, values: Mapping[str, Tensor]) -> dict[str, float]:
        """Return named scalars averaged over the processes."""
        names = sorted(values)
        stacked = torch.stack([values[name].detach().float() for name in names])
        return dict(zip(names, self.accelerator.reduce(stacked, "mean").tolist(), strict=True))

    def move(self, batch: Any) -> Any:
        """Return a batch on this process's device."""
        if isinstance(batch, Tensor):
            return batch.to(self.device, non_blocking=True)
        if isinstance(batch, Mapping):
            return {name: self.move(value) for name, value in batch.items()}
        if isinstance(batch, list | tuple):
            return [self.move(value) for value in batch]
        return batch
