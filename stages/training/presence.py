"""Who of those that train together is still there, and who keeps the others waiting."""

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

GRACE_SECONDS = 2.0
"""Processes notice a broken collective at about the same time; so long they wait for each other's word."""


class LostPeer(RuntimeError):
    """A process does not answer: the others stop, and the run goes on from its last state when started again."""


class Marks(Protocol):
    """What the processes met by: a c10d store."""

    def set(self, key: str, value: str) -> None:
        """Leave a mark."""
        ...

    def get(self, key: str) -> bytes:
        """Return a mark that is there."""
        ...

    def check(self, keys: list[str]) -> bool:
        """Say whether all of these marks are there."""
        ...

    def wait(self, keys: list[str], timeout: timedelta) -> None:
        """Wait for all of these marks."""
        ...


class Presence:
    """This process's marks beside those of the others; on the normal path one write per step."""

    def __init__(self, marks: Marks, rank: int, processes: int) -> None:
        """Start before the first step."""
        self._marks, self._rank, self._processes = marks, rank, processes
        self._step, self._waits = -1, 0

    def arrive(self, step: int) -> None:
        """Say that this process begins a step."""
        self._step = step
        self._marks.set(f"at/{self._rank}", str(step))

    def wait_for_all(self, seconds: float) -> None:
        """Wait until all processes have come here; for work whose length no collective may bound.

        Raises:
            LostPeer: Some did not come.
        """
        self._waits += 1
        keys = [f"wait/{self._waits}/{rank}" for rank in range(self._processes)]
        self._marks.set(keys[self._rank], "")
        try:
            self._marks.wait(keys, timedelta(seconds=seconds))
        except RuntimeError as error:
            absent = [rank for rank, key in enumerate(keys) if not self._marks.check([key])]
            raise LostPeer(self._told(absent, seconds)) from error

    def lost(self, waited_seconds: float) -> LostPeer:
        """Return what to raise after a collective failed; all who notice call it."""
        return LostPeer(self._told(self._missing(), waited_seconds))

    def _missing(self) -> list[int]:
        """Return who is behind this process; where nobody is, who does not say that it failed too."""
        others = [rank for rank in range(self._processes) if rank != self._rank]
        try:
            self._marks.set(f"failed/{self._rank}", "")
            silent = self._unmarked("failed", others)
            behind = [rank for rank in silent if self._at(rank) < self._step]
            self._marks.set(f"left/{self._rank}", "")
            if self._rank == 0:
                # The marks go when the first process goes: it waits until the others have read them.
                self._unmarked("left", [rank for rank in others if rank not in silent])
        except RuntimeError:
            return [0]  # the marks lie with the first process, and it is gone
        return behind or silent

    def _unmarked(self, kind: str, ranks: Sequence[int]) -> list[int]:
        """Return those who have not left a mark after a while."""
        stop = time.monotonic() + GRACE_SECONDS
        while absent := [rank for rank in ranks if not self._marks.check([f"{kind}/{rank}"])]:
            if time.monotonic() > stop:
                return absent
            time.sleep(0.05)
        return []

    def _at(self, rank: int) -> int:
        return int(self._marks.get(f"at/{rank}")) if self._marks.check([f"at/{rank}"]) else -1

    def _told(self, missing: Sequence[int], seconds: float) -> str:
        who = f"process {', '.join(map(str, missing))} of {self._processes} does not answer"
        if not missing:
            who = f"the connection between the {self._processes} processes broke"
        return (
            f"{who} (waited at most {seconds:g} s, in or after step {self._step + 1}); look at that machine's log. "
            "The run goes on from its last state when it is started again"
        )
