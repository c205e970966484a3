"""A work that all processes of a machine need and one does: the first to come, while the others wait."""

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.private_folder import make_private


@contextmanager
def first_alone(work: str) -> Iterator[None]:
    """Let the first process that comes with a work in at once, and the others, all together, when it has left.

    Whoever is in looks for what the first left behind, and does the work where there is nothing. The kernel opens
    the door when the first process ends, however it ends, so nobody waits for the dead.

    Args:
        work: The same in all processes that need it.

    Raises:
        PermissionError: The folder of the locks is not ours alone.
    """
    folder = Path(tempfile.gettempdir()) / f"internvl-once-{os.getuid()}"
    make_private(folder, "the locks of works that one process does for all")
    # The file stays: where one were removed, a process that holds it open would wait for other ones than the next.
    name = folder / hashlib.sha256(work.encode()).hexdigest()[:32]
    lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(lock, fcntl.LOCK_SH)
        yield
    finally:
        os.close(lock)
