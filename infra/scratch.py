"""A stage's folder on the local disk: it goes with the process, and is known for dead when the process is."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "internvl-"
LOCK = ".in-use"
"""Held locked for as long as the folder is in use; the kernel lets go when the process ends, however it ends."""


@contextmanager
def scratch_folder(stage: str) -> Iterator[Path]:
    """Yield an empty folder that is removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{stage}-"))
    lock = os.open(folder / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def left_behind(grace_seconds: float) -> list[tuple[Path, int]]:
    """Return the scratch folders of killed processes of ours that are older than the grace, with their bytes."""
    found = []
    for lock in sorted(Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{LOCK}")):
        folder = lock.parent
        if folder.is_symlink() or folder.stat().st_uid != os.getuid():
            continue
        if time.time() - lock.stat().st_mtime >= grace_seconds and not _in_use(lock):
            found.append((folder, sum(file.lstat().st_size for file in folder.rglob("*") if file.is_file())))
    return found


def _in_use(lock: Path) -> bool:
    descriptor = os.open(lock, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
