"""Who may write something: a lease in the store, renewed while its holder lives, taken over when it expired.

A lease is a folder of numbered files. Number n is created where none stands, so of two that want it one wins;
the highest number holds, and is the fencing number: a holder whose number is no longer the highest has lost it,
however late it wakes up. How old a lease is says the store's clock, so the clocks of machines do not matter.
"""

import json
import logging
import os
import threading
import time
import uuid
from pathlib import Path
from typing import Any, NamedTuple

from infra.processes import start_time
from infra.storage import StorageError, Store

TTL_SECONDS = 60.0
RENEWALS = 6
"""Renewals in the time that a lease lasts: some may fail."""

log = logging.getLogger(__name__)


class LeaseHeld(RuntimeError):
    """Somebody else holds a lease; the message says who."""


class LeaseLost(RuntimeError):
    """A lease was taken over while its holder did not renew it."""


class Tenure(NamedTuple):
    """The newest number of a lease: who had it, and how long ago it was renewed."""

    number: int
    facts: dict[str, Any]
    renewed: float
    """By the store's clock."""
    age_seconds: float

    @property
    def free(self) -> bool:
        """Whether its holder gave it back, or is known to be dead."""
        return bool(self.facts.get("released")) or dead(self.facts)

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


def dead(facts: dict[str, Any]) -> bool:
    """Say whether a holder certainly lives no more: it was a process of this machine, and is gone."""
    if facts.get("machine") != here()["machine"]:
        return False
    return bool(start_time(int(facts["pid"])) != facts["started"])


def newest(store: Store, folder: str) -> Tenure | None:
    """Return the newest tenure of a lease, None where nobody ever held it."""
    entries = [each for each in store.entries(folder) if _number(each.key)]
    if not entries:
        return None
    last = max(entries, key=lambda each: _number(each.key))
    try:
        facts = json.loads(store.read(last.key))
    except (FileNotFoundError, ValueError):
        facts = {}
    given = facts if isinstance(facts, dict) else {}
    return Tenure(_number(last.key), given, last.modified, store.now() - last.modified)


def _number(key: str) -> int:
    name = Path(key).name
    return int(name[:-5]) if name.endswith(".json") and name[:-5].isdecimal() else 0


class Lease:
    """One holder's tenure; renewed by a thread from `take` to `give_back`."""

    def __init__(self, store: Store, folder: str, number: int, facts: dict[str, Any], ttl: float) -> None:
        """Hold number `number`; use `take` to get it."""
        self.store, self.folder, self.number = store, folder, number
        self._facts, self._over = facts, threading.Event()
        self._renewer = threading.Thread(target=self._renew, args=(ttl / RENEWALS,), name=folder, daemon=True)

    @classmethod
    def take(cls, store: Store, folder: str, who: str, ttl_seconds: float = TTL_SECONDS) -> "Lease":
        """Get a lease; wait for one that may have expired, for as long as it is not renewed.

        Args:
            store: Where the lease lies.
            folder: Its key.
            who: Holder, for people.
            ttl_seconds: A lease that was not renewed for so long is taken over.

        Raises:
            LeaseHeld: Its holder lives.
        """
        seen: Tenure | None = None
        while True:
            found = newest(store, folder)
            if found is None or found.free or found.age_seconds > ttl_seconds:
                number = found.number + 1 if found else 1
                facts = {"who": who, **here(), "token": uuid.uuid4().hex}
                if store.create(_key(folder, number), json.dumps(facts).encode()):
                    return cls._begin(store, folder, number, facts, ttl_seconds)
                continue
            renewed = seen is not None and (found.number, found.renewed) != (seen.number, seen.renewed)
            if renewed or found.facts.get("machine") == here()["machine"]:
                raise LeaseHeld(f"{folder.removeprefix('leases/')} is being written by {found.holder}")
            seen = found
            time.sleep(min(1.0, ttl_seconds / RENEWALS))

    @classmethod
    def _begin(cls, store: Store, folder: str, number: int, facts: dict[str, Any], ttl: float) -> "Lease":
        lease = cls(store, folder, number, facts, ttl)
        for key in store.keys(folder):
            if 0 < _number(key) < number:
                store.remove(key)
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
    return max((_number(key) for key in store.keys(folder)), default=0)


def check(store: Store, folder: str, number: int) -> None:
    """Refuse a holder whose lease was taken over.

    Raises:
        LeaseLost: A higher number stands.
    """
    if (highest := _highest(store, folder)) != number:
        raise LeaseLost(f"{folder.removeprefix('leases/')} was taken over: lease {highest or 'none'}, not {number}")
