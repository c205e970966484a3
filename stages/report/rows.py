"""What a page tells of one source: rows at each step, in full digits, and that they add up."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from filters.cube import Cube
from filters.funnel import Funnel
from filters.policies import EXEMPT, Policy
from stages.manifest import ManifestError
from stages.outcome import Outcome

STEPS = ("listed", "permitted", "fetched", "decodable", "clean", "caption quality")

# Rows by the step that they did not reach; whatever else was not fetched was lost on the web.
_NOT_PERMITTED = frozenset(
    {Outcome.BLOCKED, Outcome.ROBOTS, Outcome.REFUSED_SCHEME, Outcome.REFUSED_ADDRESS, Outcome.BAD_URL}
)
_NOT_DECODABLE = frozenset({Outcome.NOT_IMAGE, Outcome.TOO_MANY_PIXELS, Outcome.DECODE})

Masks = Mapping[int, int]
"""Rows by 64-bit reason mask."""


@dataclass(frozen=True)
class SourceRows:
    """One source under one policy."""

    source: str
    policy: Policy
    funnel: Funnel
    listed: int
    decodable: int
    outcomes: Mapping[str, int] = field(default_factory=dict)
    cube: Cube | None = None
    languages: Mapping[str, Masks] = field(default_factory=dict)
    """Rows by language and mask; empty where they were not counted."""

    @property
    def strict(self) -> bool:
        """Whether this source shrinks in the second step."""
        return self.source not in EXEMPT

    @property
    def clean(self) -> int:
        """Rows that the light step kept."""
        return self.funnel.kept if self.policy.name == "clean" else self.funnel.samples

    @property
    def quality(self) -> int | None:
        """Rows that the strict step kept; None on the page of the light one."""
        return None if self.policy.name == "clean" else self.funnel.kept

    def steps(self) -> dict[str, int | None]:
        """Return rows at each step, None where it is not known.

        Raises:
            ManifestError: The counts do not add up; no page is made of such.
        """
        told = sum(self.outcomes.values())
        if self.outcomes and told != self.listed:
            raise ManifestError(
                f"{self.source}: {told:,} outcomes for {self.listed:,} listed rows; the ledger does not close, "
                "so no report is made; run stage download again"
            )
        permitted: int | None = None
        fetched: int | None = None
        if self.outcomes:
            permitted = self.listed - sum(self.outcomes.get(name, 0) for name in _NOT_PERMITTED)
            fetched = self.decodable + sum(self.outcomes.get(name, 0) for name in _NOT_DECODABLE)
        steps = dict(
            zip(STEPS, (self.listed, permitted, fetched, self.decodable, self.clean, self.quality), strict=True)
        )
        known = [rows for rows in steps.values() if rows is not None]
        if any(after > before for before, after in pairwise(known)) or min(known) < 0:
            raise ManifestError(
                f"{self.source}: rows grow on their way ({', '.join(f'{n} {r}' for n, r in steps.items())}); "
                "verdicts and pool are not of one run; run stage filter again"
            )
        return steps

    @property
    def ledger(self) -> str:
        """Return where every listed row ended, in full digits."""
        kept = self.funnel.kept
        failed = self.listed - self.decodable
        return f"{self.listed:,} = {kept:,} kept + {self.decodable - kept:,} rejected + {failed:,} failed or refused"


def summed(sources: list[SourceRows]) -> dict[str, int | None]:
    """Return rows at each step over several sources; None where one of them does not know it."""
    each = [source.steps() for source in sources]
    found: dict[str, int | None] = {}
    for name in STEPS:
        known = [steps[name] for steps in each]
        found[name] = None if None in known else sum(rows or 0 for rows in known)
    return found
