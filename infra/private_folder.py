"""A folder with a name that can be guessed, in a place where everybody may write, that is nevertheless ours alone."""

import contextlib
import os
import stat
from pathlib import Path


def make_private(folder: Path, holds: str) -> None:
    """Make a folder that nobody else can enter: its name can be guessed, so others may have been there first.

    Args:
        folder: Made unless it is there.
        holds: What it is for, in the error.

    Raises:
        PermissionError: The folder is not ours alone.
    """
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    if not ours or found.st_mode & 0o022:
        what = "others may write there" if ours else "it is no folder of this user"
        raise PermissionError(
            f"{folder} is to hold {holds}, and {what}; look at it and remove it, or set TMPDIR to a folder of your "
            "own"
        )
    # Earlier releases let others look into theirs.
    folder.chmod(0o700)
