"""How a step's rows are cut over processes and micro batches; how many there are decides nothing."""

from stages.manifest import ManifestError
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
