"""What was looked up last, up to a number of things: a memory that does not grow with the data."""

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

KEPT = 1 << 16
"""Things kept in each process: some ten megabytes of captions or numbers."""

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """Values by key, the least lately used forgotten first; picklable, as a cached method is not."""

    def __init__(self, kept: int = KEPT) -> None:
        """Keep up to so many."""
        self._kept = kept
        self._found: dict[Key, Value] = {}

    def __len__(self) -> int:
        """Return how many are kept now."""
        return len(self._found)

    def get(self, key: Key, make: Callable[[Key], Value]) -> Value:
        """Return the value of a key, made now unless it is kept."""
        value = self._found.pop(key) if key in self._found else make(key)
        self._found[key] = value
        if len(self._found) > self._kept:
            del self._found[next(iter(self._found))]
        return value
