"""How fast a stage goes and how long it will, from what its `progress.json` says."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

WAITING = "waiting for"
"""How the note of a stage begins that has no place to run yet."""


@dataclass(frozen=True)
class Pace:
    """One record of a stage's progress, with what follows from it."""

    done: float
    total: float
    unit: str
    note: str
    rate: float | None
    """Units a second, lately; None before there is one."""
    at: float
    """When it was told, seconds since 1970 by the clock of the stage's machine; 0 where nothing says."""

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Pace":
        """Read a record; one of an older version lacks the last two values."""
        return cls(
            done=float(record["done"]),
            total=float(record["total"]),
            unit=str(record["unit"]),
            note=str(record["note"]),
            rate=record.get("rate"),
            at=float(record.get("at", 0)),
        )

    @property
    def share(self) -> float:
        """How much is done, from 0 to 1."""
        return min(1.0, max(0.0, self.done / self.total)) if self.total > 0 else 0.0

    @property
    def waiting(self) -> bool:
        """Whether the stage waits for machines or GPUs."""
        return self.note.startswith(WAITING)

    @property
    def remaining_seconds(self) -> float | None:
        """How long the rest takes at this rate; None where there is no rate yet."""
        return max(0.0, self.total - self.done) / self.rate if self.rate else None

    def done_words(self) -> str:
        """Return how much is done as words."""
        return f"{_number(self.done)} of {_number(self.total)} {self.unit}"

    def words(self) -> str:
        """Return it as one line: done, rate, remaining time, note."""
        said = [self.done_words()]
        if self.rate and self.remaining_seconds is not None and self.done < self.total:
            said += [rate_words(self.rate, self.unit), f"{duration(self.remaining_seconds)} left"]
        return ", ".join([*said, *([self.note] if self.note else [])])


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.4g}"


def rate_words(rate: float, unit: str) -> str:
    """Return a rate by the second, or by the minute or hour where it is slow."""
    for per, seconds in (("s", 1.0), ("min", 60.0)):
        if rate * seconds >= 1:
            return f"{rate * seconds:.3g} {unit}/{per}"
    return f"{rate * 3600:.3g} {unit}/h"


def duration(seconds: float) -> str:
    """Return a time in its two largest units, as `3 h 20 min`."""
    whole = round(seconds)
    days, hours, minutes = whole // 86_400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"
