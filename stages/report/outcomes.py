"""One closed outcome per listed row, and what can be done about it."""

from collections.abc import Mapping
from dataclasses import dataclass

from stages.outcome import REJECTED, TRANSIENT, Outcome
from stages.report.text import rows as short
from stages.report.text import share


@dataclass(frozen=True)
class OutcomeLine:
    """How many rows ended so."""

    id: str
    name: str
    rows: str
    full: str
    share: str
    kind: str
    next: str
    width: float
    """Share of the commonest outcome, by square root, in [0, 1]."""


def outcome_lines(outcomes: Mapping[str, int], listed: int) -> list[OutcomeLine]:
    """Return outcomes: what was fetched first, then what may come back, what never will, and what we refused."""
    most = max(outcomes.values(), default=0)
    found = []
    for name, count in outcomes.items():
        kind, following = _kind(name)
        found.append(
            OutcomeLine(
                id=name,
                name=name.replace("_", " "),
                rows=short(count),
                full=f"{count:,}",
                share=share(count, listed),
                kind=kind,
                next=following,
                width=(count / most) ** 0.5 if most else 0.0,
            )
        )
    order = ("kept", "ochre", "away", "refused")
    return sorted(found, key=lambda line: (order.index(line.kind), -line.width, line.id))


def _kind(name: str) -> tuple[str, str]:
    if name == Outcome.FETCHED:
        return "kept", "–"
    if name in TRANSIENT:
        return "ochre", "second pass"
    return ("refused", "refused by us") if name in REJECTED else ("away", "never again")
