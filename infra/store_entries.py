"""What every kind of store has in common: its names, what it lists, what it can fail with."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath


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


def checked_root(root: str) -> tuple[str, bool]:
    """Return a store's root in its one spelling, and whether it is an object store's.

    Raises:
        StorageError: It is neither a folder nor `s3://bucket/prefix`, or it climbs.
    """
    scheme, separator, rest = root.partition("://")
    if separator and (scheme not in ("s3", "file") or not rest.strip("/")):
        raise StorageError(f"store root {root!r}: only a folder or s3://bucket/prefix is known")
    remote = bool(separator) and scheme == "s3"
    if "\0" in root or (remote and _climbs(rest)):
        raise StorageError(f"store root {root!r} holds '..' or a control character; write it plainly")
    return (root.rstrip("/") if remote else str(Path(rest or root).resolve())), remote


def checked_key(key: str) -> str:
    """Return a key in its one spelling.

    Raises:
        StorageError: It is absolute, climbs out of the root or holds a control character.
    """
    parts = PurePosixPath(key).parts
    if not parts or key.startswith("/") or _climbs(key):
        raise StorageError(f"key {key!r} does not stay inside the store; use a relative path without '..'")
    return "/".join(parts)


def _climbs(path: str) -> bool:
    return ".." in PurePosixPath(path).parts or any(ord(letter) < 32 or ord(letter) == 127 for letter in path)
