"""How a step's rows are cut over processes and micro batches; how many there are decides nothing."""

from stages.manifest import ManifestError


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
