"""Turns at hosts shared by all processes of one machine, in one file that no crash can leave locked."""

import contextlib
import errno
import fcntl
import hashlib
import os
import random
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

from infra.private_folder import make_private

BUCKETS = 65_536
STRIDE = 4_096
# Locks may lie behind the end of the file; the records are at its start.
LOCKS = 1 << 40

_RECORD = struct.Struct("dd")
_FLOCK = struct.Struct("hhqqi")


class SlotFile:
    """Locks on single bytes of a file, and two times per host.

    A lock belongs to the open file (Linux, "open file description locks"), so it vanishes with its process,
    however that ends. Hosts are hashed to 65,536 buckets: two hosts that share one share a limit, and the file
    has a size that no list can blow up. Times are of the monotonic clock, which all processes of one start of
    the machine share, so the file's name holds the identity of that start.
    """

    def __init__(self, folder: str) -> None:
        """Open the file of a folder, which must be on a local disk.

        Raises:
            PermissionError: The folder is not ours alone.
        """
        make_private(Path(folder), "the turns at hosts")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        how = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = os.open(Path(folder) / f"turns-{boot}", how, 0o600)
        self._lock = threading.Lock()
        self._mine: dict[int, set[int]] = {}

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, OSError):
            os.close(self._file)

    @staticmethod
    def bucket(host: str) -> int:
        """Return the bucket of a host, the same in every process."""
        return int.from_bytes(hashlib.blake2b(host.encode(), digest_size=2).digest(), "big")

    def take(self, bucket: int, slots: int) -> int | None:
        """Return a slot of a bucket that is ours now, None when all are taken."""
        with self._lock:
            mine = self._mine.setdefault(bucket, set())
            first = random.randrange(slots)
            for step in range(slots):
                slot = (first + step) % slots
                if slot not in mine and self._set(fcntl.F_OFD_SETLK, fcntl.F_WRLCK, bucket, slot + 1):
                    mine.add(slot)
                    return slot
            return None

    def free(self, bucket: int, slot: int) -> None:
        """Give a slot back."""
        with self._lock:
            self._set(fcntl.F_OFD_SETLK, fcntl.F_UNLCK, bucket, slot + 1)
            mine = self._mine[bucket]
            mine.discard(slot)
            if not mine:
                del self._mine[bucket]

    def times(self, bucket: int) -> tuple[float, float]:
        """Return (when the next request may start, until when the host asked to be left alone)."""
        record = os.pread(self._file, _RECORD.size, bucket * _RECORD.size)
        start, held = _RECORD.unpack(record) if len(record) == _RECORD.size else (0.0, 0.0)
        return start, held

    def reserve(self, bucket: int, now: float, gap: float, latest: float) -> float | None:
        """Return when a request may start, `gap` seconds after the last one; None where that is after `latest`."""
        with self._alone(bucket):
            start, held = self.times(bucket)
            start = max(now, start)
            if start > latest:
                return None
            self._write(bucket, start + gap, held)
            return start

    def hold(self, bucket: int, until: float) -> None:
        """Let nobody ask a host before a time."""
        with self._alone(bucket):
            start, held = self.times(bucket)
            self._write(bucket, start, max(held, until))

    def _write(self, bucket: int, start: float, held: float) -> None:
        os.pwrite(self._file, _RECORD.pack(start, held), bucket * _RECORD.size)

    @contextlib.contextmanager
    def _alone(self, bucket: int) -> Iterator[None]:
        with self._lock:
            self._set(fcntl.F_OFD_SETLKW, fcntl.F_WRLCK, bucket, 0)
            try:
                yield
            finally:
                self._set(fcntl.F_OFD_SETLK, fcntl.F_UNLCK, bucket, 0)

    def _set(self, command: int, kind: int, bucket: int, byte: int) -> bool:
        lock = _FLOCK.pack(kind, os.SEEK_SET, LOCKS + bucket * STRIDE + byte, 1, 0)
        try:
            fcntl.fcntl(self._file, command, lock)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return False
            raise
        return True
