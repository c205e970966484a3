"""Files on a disk that are whole or absent: a hidden temporary, flushed, then shown under its name at once."""

import errno
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath

from infra.failpoints import failpoint
from infra.store_entries import Entry, StorageError

CHUNK = 1 << 20
TEMPORARY = ".tmp"

_NEXT_MOVE = {
    errno.ENOSPC: "the disk is full: free space (`internvl sweep --apply` removes what killed runs left)",
    errno.EDQUOT: "your quota is used up: free space (`internvl sweep --apply` removes what killed runs left)",
    errno.EFBIG: "files may not grow so large here: raise the limit (ulimit -f)",
    errno.EROFS: "the disk is mounted read-only: set INTERNVL_STORE to a folder that you may write",
    errno.EACCES: "you may not write there: set INTERNVL_STORE to a folder that you may write",
    errno.EPERM: "you may not write there, or the disk knows no hard links: set INTERNVL_STORE to another folder",
    errno.ENOTSUP: "the disk knows no hard links, which make one writer win: set INTERNVL_STORE to another one",
    errno.ENOTDIR: "a file is in the place of a folder: move it away, or set INTERNVL_STORE to another folder",
    errno.EISDIR: "a folder is in the place of the file: move it away, or set INTERNVL_STORE to another folder",
    errno.ENAMETOOLONG: "the name is too long for this disk: give the artifact or its version a shorter one",
    errno.EIO: "the disk reports an error: look at the system's log before you trust it again",
}


def is_temporary(path: PurePath) -> bool:
    """Say whether a file is an attempt that was not shown yet, or never will be."""
    return path.name.startswith(".") and path.suffix == TEMPORARY


@contextmanager
def clear_errors(root: str, key: str) -> Iterator[None]:
    """Turn what a disk can fail with while writing into a sentence with the next move.

    Raises:
        StorageError: The disk is full, read-only, not ours ...
    """
    try:
        yield
    except OSError as error:
        if (advice := _NEXT_MOVE.get(error.errno or 0)) is None:
            raise
        raise StorageError(
            f"{root} did not take {key}: {error.strerror}; {advice}, then run the same command again: "
            "finished parts are kept"
        ) from error


def write(target: Path, data: bytes | Path, exclusive: bool) -> None:
    """Show all bytes under a name, in one instant.

    Raises:
        FileExistsError: It is there already and the write is exclusive.
    """
    temporary = _temporary(target, data)
    try:
        if exclusive:
            os.link(temporary, target)
        else:
            os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(target.parent)


def entries(root: Path, below: Path) -> Iterator[Entry]:
    """Yield all files below a folder, temporary ones too; one that goes away meanwhile is left out."""
    for folder, _, names in os.walk(below):
        for name in names:
            path = Path(folder) / name
            try:
                facts = path.lstat()
            except FileNotFoundError:
                continue
            yield Entry(path.relative_to(root).as_posix(), facts.st_size, facts.st_mtime)


def now(root: Path) -> float:
    """Return the time by the clock that dates the files: on a network disk the file server's, which may not be ours.

    Where nothing can be written, nothing is dated either, and our own clock has to do.
    """
    try:
        with tempfile.NamedTemporaryFile(dir=root, prefix=".", suffix=TEMPORARY) as probe:
            os.utime(probe.name)
            return os.stat(probe.name).st_mtime
    except OSError:
        return time.time()


def remove(path: Path) -> None:
    """Remove a file or a folder; nothing there is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_unchanged(path: Path, size: int, modified: float) -> bool:
    """Remove a file that is still as it was seen; return whether it was."""
    try:
        facts = path.lstat()
    except FileNotFoundError:
        return False
    if facts.st_size != size or facts.st_mtime != modified:
        return False
    path.unlink(missing_ok=True)
    return True


def _temporary(target: Path, data: bytes | Path) -> Path:
    """Write the bytes beside the target under a hidden name and flush them to the disk."""
    failpoint("before_temporary")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".{uuid.uuid4().hex}{TEMPORARY}"
    try:
        with temporary.open("wb") as out:
            if isinstance(data, Path):
                with data.open("rb") as source:
                    shutil.copyfileobj(source, out, CHUNK)
                failpoint("during_temporary")
            else:
                half = len(data) // 2
                view = memoryview(data)
                out.write(view[:half])
                out.flush()
                failpoint("during_temporary")
                out.write(view[half:])
            out.flush()
            os.fsync(out.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    failpoint("after_temporary")
    return temporary


def _sync_folder(folder: Path) -> None:
    """Flush a folder entry, so that the name survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
