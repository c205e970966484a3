"""A short text in a file that is made once and is this user's alone: a token, a name that must not change."""

import contextlib
import os
import uuid
from collections.abc import Callable
from pathlib import Path

from infra.storage import StorageError


def kept(path: Path, make: Callable[[], str]) -> str:
    """Return what a file holds, made where none stands; of two that make it one wins, and both get its text.

    Raises:
        StorageError: The file is empty.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        # Whole or absent: a process that is killed here must not leave an empty token, which would open a door.
        temporary = path.with_name(f".{path.name}-{uuid.uuid4().hex}.tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(make())
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    return read_kept(path)


def read_kept(path: Path) -> str:
    """Return what a file holds.

    Raises:
        FileNotFoundError: It does not stand.
        StorageError: It is empty.
    """
    if not (text := path.read_text(encoding="ascii").strip()):
        raise StorageError(f"{path} is empty; remove it and run `internvl up` again, which makes it anew")
    return text
