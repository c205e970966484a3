"""Where a run went back: from there on it reads later batches of its order than its steps count."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Detour:
    """A run went back: `step` was in trouble, `at` came again, and global batches `first` to `last` are left out."""

    step: int
    at: int
    first: int
    last: int


def position(detours: Sequence[Detour], step: int) -> int:
    """Return which global batch of its order a run reads at a step: without detours batch n at step n."""
    for detour in reversed(detours):
        if step >= detour.at:
            return detour.last + 1 + step - detour.at
    return step
