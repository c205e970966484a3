"""Names to addresses: asked once, remembered briefly, never waited for beyond the caller's time."""

import queue
import socket
import threading
import time
from collections.abc import Callable

from infra.addresses import is_public, literal
from infra.egress_error import EgressError

Lookup = Callable[[str], list[str]]
IDLE_SECONDS = 5.0


def system_lookup(host: str) -> list[str]:
    """Return the addresses that the system's resolver knows for a name, in its order of preference."""
    answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))


class Answer:
    """What became of one lookup; those who ask for the same name meanwhile wait for the same one."""

    __slots__ = ("addresses", "done", "expires", "public")

    def __init__(self) -> None:
        """Start without an answer."""
        self.done = threading.Event()
        self.addresses: tuple[str, ...] = ()
        self.public, self.expires = False, float("inf")

    def fill(self, addresses: list[str], seconds: float) -> None:
        """Take the addresses, and tell those who wait; one private address makes the whole name private."""
        self.addresses = tuple(addresses)
        self.public = bool(addresses) and all(is_public(address) for address in addresses)
        self.expires = time.monotonic() + seconds
        self.done.set()


class Resolver:
    """A cache before the system's resolver.

    `getaddrinfo` cannot be interrupted, so a few daemon threads call it and a caller stops waiting when
    its time is over. When all of them hang, further lookups fail in time as well; nothing piles up.
    """

    def __init__(
        self,
        lookup: Lookup = system_lookup,
        threads: int = 32,
        life_seconds: float = 60.0,
        failure_life_seconds: float = 5.0,
        remembered: int = 20_000,
    ) -> None:
        """Remember answers and failures for as long as they are good, of the last `remembered` names."""
        self._lookup, self._threads = lookup, threads
        self._life, self._failure_life, self._remembered = life_seconds, failure_life_seconds, remembered
        self._answers: dict[str, Answer] = {}
        self._asked: queue.SimpleQueue[tuple[str, Answer]] = queue.SimpleQueue()
        self._lock, self._started, self._open = threading.Lock(), 0, 0

    def resolve(self, host: str, seconds: float) -> Answer:
        """Return the addresses of a host, and whether every one of them is public.

        Raises:
            EgressError: `dns` when there is none, or none within `seconds`.
        """
        found = self._answers.get(host)
        if found is None or found.expires <= time.monotonic():
            found = self._ask(host)
        if not found.done.wait(max(0.0, seconds)) or not found.addresses:
            raise EgressError("dns")
        return found

    def _ask(self, host: str) -> Answer:
        with self._lock:
            found = self._answers.get(host)
            if found is not None and found.expires > time.monotonic():
                return found
            found = Answer()
            self._answers.pop(host, None)
            while len(self._answers) >= self._remembered:
                del self._answers[next(iter(self._answers))]
            self._answers[host] = found
            if address := literal(host):
                found.fill([address], float("inf"))
                return found
            self._asked.put((host, found))
            self._open += 1
            if self._started < min(self._open, self._threads):
                self._started += 1
                threading.Thread(target=self._work, name="dns", daemon=True).start()
            return found

    def _work(self) -> None:
        while True:
            try:
                host, answer = self._asked.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                with self._lock:
                    if self._asked.empty():
                        self._started -= 1
                        return
                continue
            try:
                addresses = self._lookup(host)
            except (OSError, UnicodeError):
                addresses = []
            answer.fill(addresses, self._life if addresses else self._failure_life)
            with self._lock:
                self._open -= 1
