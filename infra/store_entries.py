"""What every kind of store lists, and what every kind of store can fail with."""

from dataclasses import dataclass


class StorageError(RuntimeError):
    """The store cannot do what was asked; the message names the key and the next move."""


class StoreUnavailable(StorageError):
    """The store did not answer in time; the same command may work later."""


@dataclass(frozen=True)
class Entry:
    """One file of a store by its key; or a multipart upload that was never completed, which no reader sees."""

    key: str
    bytes: int
    modified: float
    """Seconds since 1970 by the store's own clock."""
    upload: str = ""
