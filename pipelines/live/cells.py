"""The parts of an artifact as cells of a grid; of thousands of parts, a cell stands for several."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from stages.manifest import Manifest

MOST_CELLS = 200


class State(StrEnum):
    """How it stands with a part, the worst first."""

    FAILED = "failed"
    QUARANTINED = "quarantined"
    MISSING = "missing"
    RUNNING = "running"
    DONE = "done"


SIGNS = {
    State.DONE: "✓",
    State.RUNNING: "▸",
    State.MISSING: "·",
    State.QUARANTINED: "Q",
    State.FAILED: "×",
}
"""What a cell shows besides its colour."""


@dataclass(frozen=True)
class Cell:
    """One part, or several that follow each other."""

    first: str
    last: str
    counts: tuple[tuple[State, int], ...]
    """Parts by state, the worst first."""
    listed: int = 0
    failed: int = 0
    """Rows of these parts, and how many of them failed."""

    @property
    def state(self) -> State:
        """The worst of its parts: what has to be looked at is never hidden by what went well."""
        return self.counts[0][0]

    @property
    def parts(self) -> int:
        """How many parts it stands for."""
        return sum(count for _, count in self.counts)

    def words(self) -> str:
        """Return it as one line."""
        name = self.first if self.first == self.last else f"{self.first} to {self.last}"
        states = ", ".join(f"{count} {state}" for state, count in self.counts)
        rows = f"; {self.failed:,} of {self.listed:,} rows failed" if self.listed else ""
        return f"{name}: {states}{rows}"


def cells_of(manifest: Manifest) -> tuple[Cell, ...]:
    """Return a finished artifact's parts.

    A part whose every row failed has failed, although its stage went on; one that was given up and left out
    stands in the manifest's `quarantined`, each with its part, rows and reason.
    """
    left_out = {str(each["part"]): int(each["rows"]) for each in manifest.totals.get("quarantined", ())}
    parts = []
    for part in manifest.parts:
        ledger = part.ledger
        if part.key in left_out:
            state = State.QUARANTINED
        else:
            state = State.FAILED if ledger.listed and ledger.failed == ledger.listed else State.DONE
        parts.append((part.key, state, ledger.listed, ledger.failed))
    known = {key for key, *_ in parts}
    # None of its rows was made: all of them failed with it.
    parts += [(key, State.QUARANTINED, rows, rows) for key, rows in left_out.items() if key not in known]
    return gathered(sorted(parts))


def gathered(parts: Sequence[tuple[str, State, int, int]]) -> tuple[Cell, ...]:
    """Return (key, state, rows, failed rows) by part as at most `MOST_CELLS` cells of equally many parts."""
    group = -(-len(parts) // MOST_CELLS) or 1
    return tuple(_cell(parts[start : start + group]) for start in range(0, len(parts), group))


def _cell(parts: Sequence[tuple[str, State, int, int]]) -> Cell:
    counted = Counter(state for _, state, _, _ in parts)
    return Cell(
        first=parts[0][0],
        last=parts[-1][0],
        counts=tuple((state, counted[state]) for state in State if counted[state]),
        listed=sum(listed for _, _, listed, _ in parts),
        failed=sum(failed for _, _, _, failed in parts),
    )


def counts_of(cells: Iterable[Cell]) -> dict[State, int]:
    """Return how many parts are in each state."""
    counted: Counter[State] = Counter()
    for cell in cells:
        counted.update(dict(cell.counts))
    return {state: counted[state] for state in State if counted[state]}
