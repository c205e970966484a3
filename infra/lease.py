"""Who may write something: a lease in the store, renewed while its holder lives, taken over when it expired.

A lease is a folder of numbered files. Number n is created where none stands, so of two that want it one wins;
the highest number holds, and is the fencing number: a holder whose number is no longer the highest has lost it,
however late it wakes up. No clock is compared with another one's: a process of this machine is asked for, and the
lease of any other is given up after it stood still for as long as we watched it.
"""

import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any, NamedTuple

from infra.processes import start_time
from infra.storage import Entry, StorageError, Store

TTL_SECONDS = 60.0
RENEWALS = 6
"""Renewals in the time that a lease lasts: some may fail."""

log = logging.getLogger(__name__)


class LeaseHeld(RuntimeError):
    """Somebody else holds a lease; the message says who."""


class LeaseLost(RuntimeError):
    """A lease was taken over while its holder did not renew it."""


class Tenure(NamedTuple):
    """The newest number of a lease: who had it, and when it was renewed."""

    number: int
    facts: dict[str, Any]
    renewed: float
    """By the clock that dates the store's files: good to see a change, not to be compared with our time."""

    @property
    def free(self) -> bool:
        """Whether its holder gave it back, or is known to be dead."""
        return bool(self.facts.get("released")) or lives(self.facts) is False

    @property
    def living(self) -> bool:
        """Whether its holder is known to live, however long it could not renew."""
        return not self.facts.get("released") and lives(self.facts) is True

    @property
    def holder(self) -> str:
        """Who holds it, for people."""
        return f"{self.facts.get('who', 'somebody')} (process {self.facts.get('pid')} on {self.facts.get('host')})"


def here() -> dict[str, Any]:
    """Return what names this process among all of a cluster."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    pid = os.getpid()
    # Process numbers mean nothing outside their namespace, and containers share a boot.
    machine = f"{boot} {os.readlink('/proc/self/ns/pid')}"
    return {"host": os.uname().nodename, "machine": machine, "pid": pid, "started": start_time(pid)}


def lives(facts: dict[str, Any]) -> bool | None:
    """Say whether a holder lives; None where it is not a process of this machine, so nobody here knows."""
    if facts.get("machine") != here()["machine"]:
        return None
    return bool(start_time(int(facts["pid"])) == facts["started"])


class Watch:
    """How long leases stood still while we looked, by our own clock.

    A watcher that was stopped itself saw nothing meanwhile: of the time between two looks no more counts than they
    should lie apart.
    """

    def __init__(self, step_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin to watch.

        Args:
            step_seconds: At most so much time counts between two looks.
            clock: Our own, which nobody sets.
        """
        self._step, self._clock = step_seconds, clock
        self._seen: dict[str, tuple[tuple[int, float], float, float]] = {}

    def still(self, name: str, tenure: Tenure) -> float:
        """Look at a lease; return for how many seconds it has been seen as it is now, 0 at the first look."""
        mark, now = (tenure.number, tenure.renewed), self._clock()
        before, last, seconds = self._seen.get(name, (None, now, 0.0))
        seconds = seconds + min(now - last, self._step) if before == mark else 0.0
        self._seen[name] = (mark, now, seconds)
        return seconds

    def keep(self, names: Container[str]) -> None:
        """Forget all leases but these."""
        self._seen = {name: seen for name, seen in self._seen.items() if name in names}


def newest(store: Store, folder: str) -> Tenure | None:
    """Return the newest tenure of a lease, None where nobody ever held it."""
    if not (entries := _numbers(store, folder)):
        return None
    number, last = max(entries.items())
    try:
        facts = json.loads(store.read(last.key))
    except (FileNotFoundError, ValueError):
        facts = {}
    return Tenure(number, facts if isinstance(facts, dict) else {}, last.modified)


def _numbers(store: Store, folder: str) -> dict[int, Entry]:
    """Return the files of a lease by their numbers; below its folder other leases may lie, whose names are longer."""
    found = {}
    for each in store.whole(folder):
        name = each.key.removeprefix(f"{folder}/")
        if name.endswith(".json") and name[:-5].isdecimal():
            found[int(name[:-5])] = each
    return found


class Lease:
    """One holder's tenure; renewed by a thread from `take` to `give_back`."""

    def __init__(self, store: Store, folder: str, number: int, facts: dict[str, Any], ttl: float) -> None:
        """Hold number `number`; use `take` to get it."""
        self.store, self.folder, self.number = store, folder, number
        self._facts, self._over = facts, threading.Event()
        self._renewer = threading.Thread(target=self._renew, args=(ttl / RENEWALS,), name=folder, daemon=True)

    @classmethod
    def take(cls, store: Store, folder: str, who: str, ttl_seconds: float = TTL_SECONDS) -> "Lease":
        """Get a lease; wait for one whose holder may be gone, for as long as it is not renewed.

        Args:
            store: Where the lease lies.
            folder: Its key.
            who: Holder, for people.
            ttl_seconds: A lease of another machine that we saw stand still for so long is taken over.

        Raises:
            LeaseHeld: Its holder lives.
        """
        seen: Tenure | None = None
        pause = min(1.0, ttl_seconds / RENEWALS)
        watch = Watch(2 * pause)
        while True:
            found = newest(store, folder)
            if found is None or found.free or (not found.living and watch.still(folder, found) >= ttl_seconds):
                number = found.number + 1 if found else 1
                facts = {"who": who, **here(), "token": uuid.uuid4().hex}
                if store.create(_key(folder, number), json.dumps(facts).encode()):
                    if _highest(store, folder) == number:
                        return cls._begin(store, folder, number, facts, ttl_seconds)
                    # We were slow: somebody had this number, lost it to the next one, and it was tidied away.
                    store.remove(_key(folder, number))
                continue
            renewed = seen is not None and (found.number, found.renewed) != (seen.number, seen.renewed)
            if renewed or found.living:
                raise LeaseHeld(f"{folder.removeprefix('leases/')} is being written by {found.holder}")
            seen = found
            time.sleep(pause)

    @classmethod
    def _begin(cls, store: Store, folder: str, number: int, facts: dict[str, Any], ttl: float) -> "Lease":
        lease = cls(store, folder, number, facts, ttl)
        for each, entry in _numbers(store, folder).items():
            if each < number:
                store.remove(entry.key)
        lease._renewer.start()
        return lease

    def __reduce__(self) -> Any:
        raise TypeError("a lease stays with its holder; send its folder and number")

    def _renew(self, every: float) -> None:
        while not self._over.wait(every):
            try:
                self.store.touch(_key(self.folder, self.number))
            except FileNotFoundError:
                log.warning("lease %s, number %d, was taken over", self.folder, self.number)
                return
            except (StorageError, OSError) as error:
                log.warning("lease %s is not renewed: %s", self.folder, error)

    def give_back(self) -> None:
        """Let the next one have it at once."""
        self._over.set()
        self._renewer.join()
        try:
            if self.number == _highest(self.store, self.folder):
                facts = {**self._facts, "released": True}
                self.store.write(_key(self.folder, self.number), json.dumps(facts).encode())
        except (StorageError, OSError) as error:
            log.warning("lease %s is not given back, and expires: %s", self.folder, error)


def _key(folder: str, number: int) -> str:
    return f"{folder}/{number:09d}.json"


def _highest(store: Store, folder: str) -> int:
    return max(_numbers(store, folder), default=0)


def forget(store: Store, folder: str, number: int) -> None:
    """Remove a tenure that is over; one that somebody took since stays."""
    store.remove(_key(folder, number))
    if not _highest(store, folder):
        store.remove(folder)


def check(store: Store, folder: str, number: int) -> None:
    """Refuse a holder whose lease was taken over.

    Raises:
        LeaseLost: A higher number stands.
    """
    if (highest := _highest(store, folder)) != number:
        raise LeaseLost(f"{folder.removeprefix('leases/')} was taken over: lease {highest or 'none'}, not {number}")
