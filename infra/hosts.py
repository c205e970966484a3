"""Politeness: how many requests a host gets at once, how many per second, and when it wants none."""

import contextlib
import random
import threading
import time
from collections.abc import Iterator

from infra.egress_error import EgressError
from infra.slot_file import STRIDE, SlotFile

POLL_SECONDS = 0.02
MOST_PAUSE_SECONDS = 30.0
"""Longest that one fetch waits for a host that wants to be left alone: a whole list may not stand still for one."""
GIVEN_UP_SECONDS = 60.0
REMEMBERED = 20_000


class _Host:
    """What this process knows of one host."""

    __slots__ = ("given_up_until", "held_until", "next_start", "slots", "timeouts", "users")

    def __init__(self, slots: int) -> None:
        self.slots, self.users = threading.Semaphore(slots), 0
        self.next_start = self.held_until = self.given_up_until = 0.0
        self.timeouts = 0

    def idle_at(self, now: float) -> bool:
        """Say whether nobody waits for it, and it may be forgotten."""
        return not self.users and max(self.next_start, self.held_until, self.given_up_until) < now


class Turns:
    """Hands out turns at hosts, in this process and, with a folder, in all processes of the machine that name it."""

    def __init__(
        self,
        per_host: int,
        per_second: float | None = None,
        folder: str | None = None,
        patience_seconds: float = 600.0,
        most_timeouts: int = 50,
    ) -> None:
        """Set the limits.

        Args:
            per_host: Most requests of one host at once.
            per_second: Most requests of one host per second, evenly spread; None for no such bound.
            folder: A folder on a local disk, where processes find each other; None for this process alone.
            patience_seconds: Longest wait for one turn.
            most_timeouts: After so many in a row a host gets no turn for a minute, then one timeout is enough again.

        Raises:
            ValueError: A limit that lets nothing through.
        """
        if not 1 <= per_host < STRIDE or (per_second is not None and per_second <= 0):
            raise ValueError(
                f"per_host={per_host}, per_second={per_second}: both must be positive (per_host < 4,096)"
            )
        self._per_host, self._gap = per_host, 1 / per_second if per_second else 0.0
        self._patience, self._most_timeouts = patience_seconds, most_timeouts
        self._file = SlotFile(folder) if folder else None
        self._lock = threading.Lock()
        self._hosts: dict[str, _Host] = {}

    @contextlib.contextmanager
    def at(self, host: str) -> Iterator[float]:
        """Wait for a turn at a host, and hold it for the block; yields the seconds that were waited.

        Raises:
            EgressError: `rate_limited` when patience is over first or the host wants a long pause, `timeout` for a
                host that was given up.
        """
        started = time.monotonic()
        latest = started + self._patience
        entry = self._enter(host)
        try:
            if not entry.slots.acquire(timeout=self._patience):
                raise EgressError("rate_limited")
            try:
                if entry.given_up_until > time.monotonic():
                    raise EgressError("timeout")
                with self._slot(host, latest):
                    self._wait(host, entry, latest)
                    yield time.monotonic() - started
            finally:
                entry.slots.release()
        finally:
            self._leave(host, entry)

    def hold(self, host: str, seconds: float) -> None:
        """Leave a host alone for a while, as it asked."""
        until = time.monotonic() + seconds
        if self._file:
            self._file.hold(self._file.bucket(host), until)
            return
        entry = self._enter(host)
        entry.held_until = max(entry.held_until, until)
        self._leave(host, entry)

    def note(self, host: str, timed_out: bool) -> None:
        """Count the timeouts of a host in a row: one that answers nobody may not hold up a whole list."""
        entry = self._enter(host)
        entry.timeouts = entry.timeouts + 1 if timed_out else 0
        if entry.timeouts >= self._most_timeouts:
            entry.given_up_until = time.monotonic() + GIVEN_UP_SECONDS
        self._leave(host, entry)

    @contextlib.contextmanager
    def _slot(self, host: str, latest: float) -> Iterator[None]:
        if self._file is None:
            yield
            return
        bucket = self._file.bucket(host)
        while (slot := self._file.take(bucket, self._per_host)) is None:
            if time.monotonic() >= latest:
                raise EgressError("rate_limited")
            time.sleep(random.uniform(0.2, 1.0) * POLL_SECONDS)
        try:
            yield
        finally:
            self._file.free(bucket, slot)

    def _wait(self, host: str, entry: _Host, latest: float) -> None:
        if self._gap:
            start = self._reserve(host, entry, latest)
            if start is None:
                raise EgressError("rate_limited")
            _sleep_until(start)
        # A host may ask for more while we wait.
        while (held := self._held(host, entry)) > (now := time.monotonic()):
            if held > min(latest, now + MOST_PAUSE_SECONDS):
                raise EgressError("rate_limited")
            _sleep_until(held)

    def _reserve(self, host: str, entry: _Host, latest: float) -> float | None:
        now = time.monotonic()
        if self._file:
            return self._file.reserve(self._file.bucket(host), now, self._gap, latest)
        with self._lock:
            start = max(now, entry.next_start)
            if start > latest:
                return None
            entry.next_start = start + self._gap
            return start

    def _held(self, host: str, entry: _Host) -> float:
        return self._file.times(self._file.bucket(host))[1] if self._file else entry.held_until

    def _enter(self, host: str) -> _Host:
        with self._lock:
            entry = self._hosts.get(host)
            if entry is None:
                if len(self._hosts) >= REMEMBERED:
                    self._tidy()
                entry = self._hosts[host] = _Host(self._per_host)
            entry.users += 1
            return entry

    def _leave(self, host: str, entry: _Host) -> None:
        with self._lock:
            entry.users -= 1

    def _tidy(self) -> None:
        now = time.monotonic()
        for host in [h for h, e in self._hosts.items() if e.idle_at(now)]:
            del self._hosts[host]


def _sleep_until(when: float) -> None:
    time.sleep(max(0.0, when - time.monotonic()))
