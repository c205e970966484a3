"""One interface to the store: a local folder or an S3 bucket, with writes that are whole or absent.

Three promises, the same on both kinds: a reader never sees half a file; `create` lets exactly
one writer win; an exception while writing publishes nothing. Credentials come from the
environment or the machine's role, never from arguments, so a pickled `Store` holds no secret.
"""

import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

import fsspec

CHUNK = 1 << 20


class StorageError(RuntimeError):
    """The store cannot do what was asked; the message names the key and the next move."""


def sha256_file(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a local file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()


class Store:
    """Files by key under one root; keys are relative posix paths without `..`."""

    def __init__(self, root: str) -> None:
        """Bind to a folder (made when needed) or to `s3://bucket/prefix`."""
        scheme, _, rest = root.partition("://")
        if rest and scheme not in ("s3", "file"):
            raise StorageError(f"store root {root!r}: only a folder or s3://bucket/prefix is known")
        self.remote = scheme == "s3" and bool(rest)
        self.root = root.rstrip("/") if self.remote else str(Path(rest or root).resolve())

    def __repr__(self) -> str:
        """Show the root alone."""
        return f"Store({self.root!r})"

    @property
    def _s3(self) -> Any:
        # fsspec caches instances, so this is cheap and keeps the client out of pickles. Listings
        # are not cached: another process may have written a moment ago.
        return fsspec.filesystem("s3", use_listings_cache=False)

    def path(self, key: str) -> str:
        """Return the full path of a key.

        Raises:
            StorageError: The key is absolute or climbs out of the root.
        """
        parts = PurePosixPath(key).parts
        if not parts or key.startswith("/") or ".." in parts or "\0" in key:
            raise StorageError(f"key {key!r} does not stay inside the store; use a relative path without '..'")
        return f"{self.root}/{'/'.join(parts)}"

    def check(self) -> None:
        """Prove that the root can be written and read.

        Raises:
            StorageError: It cannot; the message says why.
        """
        probe = f"tmp/probe-{uuid.uuid4().hex}"
        try:
            self.write(probe, b"probe")
            self.remove(probe)
        except Exception as error:
            raise StorageError(
                f"store {self.root} cannot be written: {type(error).__name__}: {error}; "
                "set INTERNVL_STORE to a folder or bucket that you may write"
            ) from error

    def exists(self, key: str) -> bool:
        """Say whether a whole file stands under this key."""
        path = self.path(key)
        return bool(self._s3.isfile(path)) if self.remote else Path(path).is_file()

    def size(self, key: str) -> int:
        """Return the bytes of a file."""
        path = self.path(key)
        return int(self._s3.size(path)) if self.remote else Path(path).stat().st_size

    def read(self, key: str) -> bytes:
        """Return the bytes of a file.

        Raises:
            FileNotFoundError: Nothing stands under this key.
        """
        path = self.path(key)
        return bytes(self._s3.cat_file(path)) if self.remote else Path(path).read_bytes()

    def read_range(self, key: str, start: int, stop: int) -> bytes:
        """Return the bytes of a file from `start` up to `stop`."""
        path = self.path(key)
        if self.remote:
            return bytes(self._s3.cat_file(path, start=start, end=stop))
        with Path(path).open("rb") as file:
            file.seek(start)
            return file.read(stop - start)

    def open(self, key: str) -> BinaryIO:
        """Open a file for reading, with seek."""
        path = self.path(key)
        return cast(BinaryIO, self._s3.open(path, "rb") if self.remote else Path(path).open("rb"))

    @contextmanager
    def local(self, key: str) -> Iterator[Path]:
        """Yield a local path with the file's bytes; for S3 a temporary copy."""
        path = self.path(key)
        if not self.remote:
            yield Path(path)
            return
        with tempfile.TemporaryDirectory(prefix="internvl-") as folder:
            copy = Path(folder) / PurePosixPath(key).name
            self._s3.get_file(path, str(copy))
            yield copy

    def keys(self, prefix: str = "") -> list[str]:
        """Return the keys of all whole files below a folder, sorted."""
        base = self.path(prefix) if prefix else self.root
        if self.remote:
            bare = self.root.removeprefix("s3://").rstrip("/") + "/"
            return sorted(str(found).removeprefix(bare) for found in self._s3.find(base))
        top = Path(base)
        return sorted(
            str(file.relative_to(self.root))
            for file in top.rglob("*")
            if file.is_file() and not (file.name.startswith(".") and file.suffix == ".tmp")
        )

    def folders(self, prefix: str) -> list[str]:
        """Return the names directly below a folder, sorted."""
        base = self.path(prefix)
        if self.remote:
            if not self._s3.exists(base):
                return []
            return sorted({str(name).rstrip("/").rsplit("/", 1)[-1] for name in self._s3.ls(base, detail=False)})
        return sorted(entry.name for entry in Path(base).iterdir() if entry.is_dir()) if Path(base).is_dir() else []

    def write(self, key: str, data: bytes | Path) -> None:
        """Write a file, replacing what stood there; readers see the old or the new one, never a mixture."""
        path = self.path(key)
        if self.remote:
            # One PUT or a completed multipart upload: both become visible only as a whole.
            if isinstance(data, Path):
                self._s3.put_file(str(data), path)
            else:
                self._s3.pipe_file(path, data)
            return
        temporary = self._temporary(Path(path), data)
        os.replace(temporary, path)
        self._sync_folder(Path(path).parent)

    def create(self, key: str, data: bytes | Path) -> bool:
        """Write a file only where none stands; return whether these bytes are what stands there now.

        A lost reply after a successful conditional PUT looks like a loss to the client, so a
        refusal is answered by reading back and comparing.
        """
        path = self.path(key)
        try:
            if self.remote:
                if isinstance(data, Path):
                    self._s3.put_file(str(data), path, mode="create")
                else:
                    self._s3.pipe_file(path, data, mode="create")
                return True
            temporary = self._temporary(Path(path), data)
            try:
                os.link(temporary, path)
            finally:
                temporary.unlink()
            self._sync_folder(Path(path).parent)
            return True
        except FileExistsError:
            ours = sha256_file(data) if isinstance(data, Path) else hashlib.sha256(data).hexdigest()
            return ours == self.sha256(key)

    def sha256(self, key: str) -> str:
        """Return the hexadecimal SHA-256 of what can be read back."""
        digest = hashlib.sha256()
        with self.open(key) as file:
            while block := file.read(CHUNK):
                digest.update(block)
        return digest.hexdigest()

    def remove(self, key: str) -> None:
        """Remove a file or a folder; nothing there is fine."""
        path = self.path(key)
        if self.remote:
            if self._s3.exists(path):
                self._s3.rm(path, recursive=True)
        elif Path(path).is_dir():
            shutil.rmtree(path)
        else:
            Path(path).unlink(missing_ok=True)

    @staticmethod
    def _temporary(target: Path, data: bytes | Path) -> Path:
        """Write the bytes beside the target under a hidden name and flush them to the disk."""
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.parent / f".{uuid.uuid4().hex}.tmp"
        try:
            with temporary.open("wb") as out:
                if isinstance(data, Path):
                    with data.open("rb") as source:
                        shutil.copyfileobj(source, out, CHUNK)
                else:
                    out.write(data)
                out.flush()
                os.fsync(out.fileno())
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return temporary

    @staticmethod
    def _sync_folder(folder: Path) -> None:
        """Flush a folder entry, so that the name survives a power cut."""
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
