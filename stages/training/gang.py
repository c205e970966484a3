"""The processes that train together: plain, under `torchrun`, or as workers of Ray Train."""

import hashlib
import logging
import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from itertools import count
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
from torch import Tensor
from torch.distributed import distributed_c10d

from infra.storage import StorageError, StoreUnavailable
from stages.manifest import ManifestError
from stages.training.job import Job
from stages.training.presence import LostPeer, Presence

log = logging.getLogger(__name__)

T = TypeVar("T")
PATIENCE = 12
"""Reading data and measuring take as long as they take: so many collective timeouts are waited for them."""
_numbers = count()


class Refused(Exception):
    """A process of the gang refused; why is in the store, where the store took it."""


class Gang:
    """This process among those that train together."""

    def __init__(self, job: Job) -> None:
        """Join the others; on one process there is nobody to join.

        Raises:
            LostPeer: They do not all come.
            ManifestError: There are more processes than GPUs on this machine.
        """
        self.job = job
        cuda = torch.cuda.is_available()
        if cuda:
            _check_gpus(torch.cuda.device_count())
            if job.placement.deterministic:
                _be_deterministic()
        if not cuda:
            # On shared cores two threads per step are slower than one; more cores mean more workers.
            torch.set_num_threads(1)
        precision = "bf16" if job.schedule.precision == "bf16" else "no"
        self._seconds = job.placement.collective_timeout_seconds
        handlers = [
            InitProcessGroupKwargs(timeout=timedelta(seconds=self._seconds)),
            # Buffers are tables that nothing writes to; gradients lie in what is sent, not beside it.
            DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True),
        ]
        try:
            self.accelerator = Accelerator(cpu=not cuda, mixed_precision=precision, kwargs_handlers=handlers)
        except dist.DistError as error:
            raise LostPeer(f"not all processes came within {self._seconds:g} s: {error}") from error
        self.rank: int = self.accelerator.process_index
        self.processes: int = self.accelerator.num_processes
        self.device: torch.device = self.accelerator.device
        self._presence: Presence | None = None
        if self.processes > 1:
            marks = distributed_c10d.PrefixStore(f"gang-{next(_numbers)}", distributed_c10d._get_default_store())
            self._presence = Presence(marks, self.rank, self.processes)

    @property
    def is_first(self) -> bool:
        """Whether this process speaks for all."""
        return self.rank == 0

    def begin(self, step: int) -> None:
        """Say that a step begins, and seed what torch itself still draws, so that a restart draws the same."""
        if self._presence is not None:
            self._presence.arrive(step)
        path = f"{self.job.schedule.seed}/{step}/{self.rank}"
        torch.manual_seed(int.from_bytes(hashlib.sha256(path.encode()).digest()[:7]))

    def together(self, work: Callable[[], T], *, patient: bool = False) -> T:
        """Do a work that may fail for a reason; where it does on one process all stop, none waits for it forever.

        Args:
            work: Done by each process.
            patient: It may take some processes far longer than others.

        Raises:
            Refused: This process or another refuses; why is in the store by then.
            ManifestError: This process refuses, and the store did not take why.
            StoreUnavailable: The store did not answer this process or another.
            LostPeer: Another process did not come to its end.
        """
        own: ManifestError | StoreUnavailable | None = None
        refusal = outage = 0.0
        try:
            done = work()
        except ManifestError as error:
            refusal, own = 1.0, None if self._written(error) else error
        except StoreUnavailable as error:
            outage, own = 1.0, error
        if self._presence is not None:
            if patient:
                self._presence.wait_for_all(PATIENCE * self._seconds)
            found = self.accelerator.reduce(torch.tensor([refusal, outage], device=self.device), "sum")
            refusal, outage = found.tolist()
        if own is not None:
            raise own
        if refusal:
            raise Refused
        if outage:
            raise StoreUnavailable(
                f"the store did not answer another process of {self.job.output.ref}; its log has the error. "
                "The same command goes on later"
            )
        return done

    def _written(self, refusal: ManifestError) -> bool:
        """Return whether the store took this process's refusal; where it did not, the process must say it itself."""
        try:
            self.job.refuse(refusal)
        except StorageError:
            log.exception("the store does not take why %s is refused: %s", self.job.output.ref, refusal)
            return False
        return True

    def lost(self, error: RuntimeError) -> LostPeer | None:
        """Return who is missing where this error is that of a collective, None where it is another."""
        broken = isinstance(error, dist.DistError) or "gloo" in str(error).lower()
        return self._presence.lost(self._seconds) if broken and self._presence is not None else None

    def mean(self, values: Mapping[str, Tensor]) -> dict[str, float]:
        """Return named scalars averaged over the processes."""
        names = sorted(values)
        stacked = torch.stack([values[name].detach().float() for name in names])
        return dict(zip(names, self.accelerator.reduce(stacked, "mean").tolist(), strict=True))

    def gathered(self, own: T) -> list[T]:
        """Return what each process has to tell, by rank; all call it together."""
        if self.processes == 1:
            return [own]
        told: list[Any] = [None] * self.processes
        dist.all_gather_object(told, own)
        return told

    def move(self, batch: Any) -> Any:
        """Return a batch on this process's device."""
        if isinstance(batch, Tensor):
            return batch.to(self.device, non_blocking=True)
        if isinstance(batch, Mapping):
            return {name: self.move(value) for name, value in batch.items()}
        if isinstance(batch, list | tuple):
            return [self.move(value) for value in batch]
        return batch


def _check_gpus(gpus: int) -> None:
    """Refuse two processes on one GPU, which NCCL would refuse later, in words of its own.

    Raises:
        ManifestError: They are too many.
    """
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if processes > gpus:
        raise ManifestError(
            f"{processes} processes are to train on this machine, one on each GPU, and it has {gpus}; "
            f"start {gpus}, or hide the GPUs to train on the CPU: CUDA_VISIBLE_DEVICES="
        )


def _be_deterministic() -> None:
    """Let kernels be chosen that add up in one order alone; where PyTorch has none it says so in an error."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts, which is later
    torch.use_deterministic_algorithms(True)
