"""One interface to the store: a local folder or an S3 bucket, with writes that are whole or absent.

Three promises, the same on both kinds: a reader never sees half a file; `create` lets exactly
one writer win; an exception while writing publishes nothing. Credentials come from the
environment or the machine's role, never from arguments, so a pickled `Store` holds no secret.
"""

import hashlib
import os
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from infra import disk_files
from infra.s3_objects import Bucket
from infra.store_entries import Entry, StorageError, StoreUnavailable, checked_key, checked_root

__all__ = ["Entry", "StorageError", "Store", "StoreUnavailable", "sha256_file"]

CHUNK = disk_files.CHUNK


def sha256_file(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a local file, read in pieces."""
    with path.open("rb") as file:
        return _sha256(file)


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while block := file.read(CHUNK):
        digest.update(block)
    return digest.hexdigest()


class Store:
    """Files by key under one root; keys are relative posix paths without `..`."""

    def __init__(self, root: str) -> None:
        """Bind to a folder (made when needed) or to `s3://bucket/prefix`.

        Raises:
            StorageError: The root is neither, or it climbs.
        """
        self.root, self.remote = checked_root(root)

    def __repr__(self) -> str:
        """Show the root alone."""
        return f"Store({self.root!r})"

    def path(self, key: str) -> str:
        """Return the full path of a key.

        Raises:
            StorageError: The key is absolute, climbs out of the root or holds a control character.
        """
        return f"{self.root}/{checked_key(key)}"

    def _file(self, key: str) -> Path:
        return Path(self.path(key))

    def _own_file(self, key: str) -> Path:
        """Return a path to change; a folder that is a link must not carry the change out of the root."""
        path = self._file(key)
        real = os.path.realpath(path.parent)
        if real != self.root and not real.startswith(self.root.rstrip("/") + "/"):
            raise StorageError(f"key {key!r} leads through a link to {real}, outside {self.root}; remove the link")
        return path

    def _split(self, key: str) -> tuple[Bucket, str]:
        name, _, prefix = self.path(key).removeprefix("s3://").partition("/")
        return Bucket(name), prefix

    def _below(self, prefix: str) -> tuple[Bucket, str, str]:
        """Return the bucket, the prefix that lists a folder, and what to cut off to get keys."""
        name, _, inner = self.root.removeprefix("s3://").partition("/")
        bare = f"{inner}/" if inner else ""
        return Bucket(name), f"{self._split(prefix)[1]}/" if prefix else bare, bare

    def check(self) -> None:
        """Prove that the root can be written and read, and that of two writers one wins.

        Raises:
            StoreUnavailable: It did not answer in time.
            StorageError: It cannot, or both would; the message says why.
        """
        probe = f"tmp/probe-{uuid.uuid4().hex}"
        try:
            self.write(probe, b"probe")
            both_win = self.create(probe, b"rival")
            self.remove(probe)
        except StoreUnavailable:
            raise
        except Exception as error:
            raise StorageError(
                f"store {self.root} cannot be written: {type(error).__name__}: {error}; "
                "set INTERNVL_STORE to a folder or bucket that you may write"
            ) from error
        if both_win:
            raise StorageError(
                f"store {self.root} lets a second writer replace what the first one wrote (it ignores "
                "If-None-Match); set INTERNVL_STORE to a folder, or to a bucket with conditional writes"
            )

    def exists(self, key: str) -> bool:
        """Say whether a whole file stands under this key; a store that does not answer is an error, not a no."""
        if not self.remote:
            return self._file(key).is_file()
        bucket, name = self._split(key)
        try:
            bucket.head(name)
        except FileNotFoundError:
            return False
        return True

    def size(self, key: str) -> int:
        """Return the bytes of a file.

        Raises:
            FileNotFoundError: Nothing stands under this key.
        """
        if not self.remote:
            return self._file(key).stat().st_size
        bucket, name = self._split(key)
        return bucket.head(name).bytes

    def read(self, key: str) -> bytes:
        """Return the bytes of a file.

        Raises:
            FileNotFoundError: Nothing stands under this key.
        """
        if not self.remote:
            return self._file(key).read_bytes()
        bucket, name = self._split(key)
        return bucket.read(name)

    def read_range(self, key: str, start: int, stop: int) -> bytes:
        """Return the bytes of a file from `start` up to `stop`."""
        if self.remote:
            bucket, name = self._split(key)
            return bucket.read_range(name, start, stop)
        with self._file(key).open("rb") as file:
            file.seek(start)
            return file.read(stop - start)

    def open(self, key: str) -> BinaryIO:
        """Open a file for reading, with seek."""
        if not self.remote:
            return cast(BinaryIO, self._file(key).open("rb"))
        bucket, name = self._split(key)
        return bucket.open(name)

    @contextmanager
    def local(self, key: str) -> Iterator[Path]:
        """Yield a local path with the file's bytes; for S3 a temporary copy."""
        if not self.remote:
            yield self._file(key)
            return
        bucket, name = self._split(key)
        with tempfile.TemporaryDirectory(prefix="internvl-") as folder:
            copy = Path(folder) / PurePosixPath(key).name
            bucket.download(name, copy)
            yield copy

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """Yield everything below a folder with size and time, also what was never finished; in no order."""
        if not self.remote:
            root = Path(self.root)
            yield from disk_files.entries(root, self._file(prefix) if prefix else root)
            return
        bucket, base, bare = self._below(prefix)
        for each in (*bucket.objects(base), *bucket.uploads(base)):
            yield Entry(each.key.removeprefix(bare), each.bytes, each.modified, each.upload)

    def whole(self, prefix: str = "") -> Iterator[Entry]:
        """Yield the whole files below a folder with size and time; in no order."""
        if not self.remote:
            yield from (each for each in self.entries(prefix) if not disk_files.is_temporary(Path(each.key)))
            return
        bucket, base, bare = self._below(prefix)
        for each in bucket.objects(base):
            yield Entry(each.key.removeprefix(bare), each.bytes, each.modified)

    def files(self, prefix: str = "") -> dict[str, int]:
        """Return the bytes of all whole files below a folder by key: one listing in place of many questions."""
        return {each.key: each.bytes for each in self.whole(prefix)}

    def keys(self, prefix: str = "") -> list[str]:
        """Return the keys of all whole files below a folder, sorted."""
        return sorted(self.files(prefix))

    def folders(self, prefix: str = "") -> list[str]:
        """Return the names of the folders directly below a folder, or below the root, sorted."""
        if self.remote:
            bucket, base, _ = self._below(prefix)
            return sorted(bucket.folders(base))
        base_folder = self._file(prefix) if prefix else Path(self.root)
        return sorted(each.name for each in base_folder.iterdir() if each.is_dir()) if base_folder.is_dir() else []

    def write(self, key: str, data: bytes | Path) -> None:
        """Write a file, replacing what stood there; readers see the old or the new one, never a mixture.

        Raises:
            StorageError: The store is full, read-only, not reachable; what stood there still stands.
        """
        self._write(key, data, exclusive=False)

    def create(self, key: str, data: bytes | Path) -> bool:
        """Write a file only where none stands; return whether these bytes are what stands there now.

        A lost reply after a successful conditional PUT looks like a loss to the client, so a
        refusal is answered by reading back and comparing.
        """
        try:
            self._write(key, data, exclusive=True)
            return True
        except FileExistsError:
            ours = sha256_file(data) if isinstance(data, Path) else hashlib.sha256(data).hexdigest()
            return ours == self.sha256(key)

    def _write(self, key: str, data: bytes | Path, exclusive: bool) -> None:
        if self.remote:
            bucket, name = self._split(key)
            bucket.write(name, data, exclusive)
            return
        with disk_files.clear_errors(self.root, key):
            disk_files.write(self._own_file(key), data, exclusive)

    def touch(self, key: str) -> None:
        """Make a file as young as if it were written now, so that a sweep spares it."""
        if self.remote:
            bucket, name = self._split(key)
            bucket.touch(name)
            return
        path = self._own_file(key)
        try:
            os.utime(path)
        except PermissionError:
            self.write(key, path)  # somebody else's file; the copy is ours

    def sha256(self, key: str) -> str:
        """Return the hexadecimal SHA-256 of what can be read back."""
        if self.remote:
            bucket, name = self._split(key)
            return bucket.sha256(name)
        with self.open(key) as file:
            return _sha256(file)

    def remove(self, key: str) -> None:
        """Remove a file or a folder; nothing there is fine."""
        if self.remote:
            bucket, name = self._split(key)
            bucket.remove([name, *(each.key for each in bucket.objects(f"{name}/"))])
            return
        with disk_files.clear_errors(self.root, key):
            disk_files.remove(self._own_file(key))

    def discard(self, entries: Iterable[Entry]) -> list[Entry]:
        """Remove files and abort uploads that are still as `entries` found them; return those that went.

        One that was written or touched since is somebody's again, and stays.
        """
        return [each for each in entries if self._discard(each)]

    def _discard(self, entry: Entry) -> bool:
        if not self.remote:
            path = self._own_file(entry.key)
            with disk_files.clear_errors(self.root, entry.key):
                return disk_files.remove_unchanged(path, entry.bytes, entry.modified)
        bucket, name = self._split(entry.key)
        if entry.upload:
            bucket.abort(name, entry.upload)
            return True
        try:
            now = bucket.head(name)
        except FileNotFoundError:
            return False
        # A listing tells fractions of a second that the description of one object does not.
        if now.bytes != entry.bytes or int(now.modified) != int(entry.modified):
            return False
        bucket.remove([name])
        return True

    def now(self) -> float:
        """Return the time by the clock that dates the files."""
        return self._below("")[0].now() if self.remote else disk_files.now(Path(self.root))
