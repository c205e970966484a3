"""Where the pictures of instruction data lie: a folder or a tar of this machine, or of the store; never a network.

A row names its picture relative to its source's root. A name that leads out of the root is refused, by its
spelling and, on this machine, by where its links end.
"""

import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from infra.storage import Store
from stages.conversation_rows import RowError
from stages.manifest import ManifestError
from stages.outcome import Outcome
from stages.pictures import PictureError, picture_of

STORE = "store://"
"""In front of a path in the store that the stage writes to, as in `store://given/llava`."""
LARGEST = 4 << 30
"""Most bytes of one picture or video."""
LONGEST_NAME, LONGEST_PATH = 255, 1024
"""Bytes of a file's name, and of a path below a root."""
FRAMES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_NUMBERS = re.compile(r"\d+")


class Place(NamedTuple):
    """Where in a tar a member's bytes begin, and how many they are."""

    offset: int
    size: int


def checked_name(name: str) -> str:
    """Return the one spelling of a name below a root, a folder's with a slash at its end.

    Raises:
        RowError: It leads, or may lead, out of the root.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or _strange(name):
        raise RowError("path", f"{name[:80]!r} is no name below the root; name pictures relative to it, without ..")
    return str(path) + ("/" if name.endswith("/") else "")


def _strange(name: str) -> bool:
    """Say whether a name is none that a file system or a store takes, or one of another kind."""
    if "\\" in name or "://" in name or any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
        return True
    try:
        return (
            any(len(piece.encode()) > LONGEST_NAME for piece in name.split("/")) or len(name.encode()) > LONGEST_PATH
        )
    except UnicodeEncodeError:  # half a surrogate pair
        return True


def size_of(body: bytes, max_pixels: int, name: str) -> tuple[int, int]:
    """Return (width, height) of a picture as a model is shown it, after it was decoded whole.

    Raises:
        RowError: It cannot be decoded, or has more pixels than that by its header, which is read first.
    """
    try:
        # As training decodes it: what passes here passes there.
        return picture_of(body, max_pixels).size
    except PictureError as error:
        if error.outcome == Outcome.TOO_MANY_PIXELS:
            raise RowError("too_many_pixels", f"{name} has more than {max_pixels} pixels") from error
        raise RowError("picture", f"{name} cannot be decoded ({error.outcome})") from error


def is_tar(root: str) -> bool:
    """Say whether a root is an archive."""
    return root.endswith(".tar")


@contextmanager
def opened(path: str, store: Store) -> Iterator[IO[bytes]]:
    """Open a file of this machine or, copied, one of the store.

    Raises:
        ManifestError: It is not there.
    """
    try:
        if path.startswith(STORE):
            with store.local(path.removeprefix(STORE)) as copy, copy.open("rb") as file:
                yield file
        else:
            with open(path, "rb") as file:
                yield file
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise ManifestError(f"{path} cannot be opened ({type(error).__name__}); name a file that is there") from error


def contents(tar: IO[bytes], name: str) -> dict[str, Place]:
    """Return where the plain files of a tar lie; links and devices are none.

    Raises:
        ManifestError: It is no uncompressed tar.
    """
    try:
        with tarfile.open(fileobj=tar, mode="r:") as archive:
            return {
                str(PurePosixPath(member.name)): Place(member.offset_data, member.size)
                for member in archive
                if member.isreg() and not member.issparse()
            }
    except tarfile.TarError as error:
        raise ManifestError(f"{name} is no uncompressed tar ({error}); unpack or pack it again") from error


class Root:
    """The pictures of one source by name; cheap to make, and to send to workers."""

    def __init__(self, path: str | None, store: Store) -> None:
        """Look at nothing yet; without a path no picture is there."""
        self._path, self._store = path, store

    def read(self, name: str, place: Place | None = None) -> bytes:
        """Return a picture's or video's bytes.

        Args:
            name: Relative to the root.
            place: Of the member, where the root is a tar; None where the tar has no such member.

        Raises:
            RowError: The name leads out of the root, nothing stands there, or it is too large.
        """
        name = checked_name(name)
        if self._path is None:
            raise RowError("missing_picture", f"{name} is named, and the source has no root for its pictures")
        try:
            if is_tar(self._path):
                return self._member(self._path, name, place)
            if self._path.startswith(STORE):
                return self._stored(f"{self._path.removeprefix(STORE).rstrip('/')}/{name}")
            return self._file(self._path, name)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
            raise RowError("missing_picture", f"{name} is not in {self._path} ({type(error).__name__})") from error

    def frames(self, name: str) -> list[str]:
        """Return the pictures in a folder below the root, by the numbers in their names, then by name.

        Raises:
            RowError: The root is no folder, or the name leads out of it.
        """
        name = checked_name(name).rstrip("/")
        if self._path is None or is_tar(self._path) or self._path.startswith(STORE):
            raise RowError("video", f"{name}/ is a folder of frames, which only a folder of this machine can hold")
        folder = self._inside(self._path, name)
        if not folder.is_dir():
            raise RowError("missing_picture", f"{name}/ is not in {self._path}")
        found = [each.name for each in folder.iterdir() if each.suffix.lower() in FRAMES]
        return [f"{name}/{each}" for each in sorted(found, key=_natural)]

    @staticmethod
    def _inside(root: str, name: str) -> Path:
        try:
            path = Path(root, name).resolve()
        except RuntimeError as error:  # what pathlib raises on links that lead to each other
            raise RowError("path", f"{name} is a link that leads to itself") from error
        if not path.is_relative_to(_real(root)):
            raise RowError("path", f"{name} is a link that leads out of {root}")
        return path

    def _file(self, root: str, name: str) -> bytes:
        path = self._inside(root, name)
        _small_enough(name, path.stat().st_size)
        if not path.is_file():
            raise RowError("missing_picture", f"{name} is no plain file")
        return path.read_bytes()

    def _stored(self, key: str) -> bytes:
        _small_enough(key, self._store.size(key))
        return self._store.read(key)

    def _member(self, tar: str, name: str, place: Place | None) -> bytes:
        if place is None:
            raise FileNotFoundError(name)
        _small_enough(name, place.size)
        if tar.startswith(STORE):
            return self._store.read_range(tar.removeprefix(STORE), place.offset, place.offset + place.size)
        with open(tar, "rb") as file:
            file.seek(place.offset)
            return file.read(place.size)


def _small_enough(name: str, size: int) -> None:
    if size > LARGEST:
        raise RowError("picture", f"{name} has {size} bytes, more than {LARGEST}")


@lru_cache(maxsize=64)
def _real(root: str) -> Path:
    return Path(root).resolve()


def _natural(name: str) -> tuple[list[int], str]:
    return [int(number) for number in _NUMBERS.findall(name)], name
