"""All that a page is made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import add

from filters.funnel import Funnel
from filters.policies import Policy
from stages.planted import Counts
from stages.report.applying import Applying
from stages.report.difference import Difference
from stages.report.hosts import Host
from stages.report.paper import BAND
from stages.report.reviews import Review
from stages.report.rows import SourceRows
from stages.report.shown import Gallery
from stages.report.verdict import Verdict, judge


@dataclass(frozen=True)
class Page:
    """All that a page is made of; the same page gives the same bytes."""

    sources: tuple[SourceRows, ...]
    provenance: Mapping[str, str]
    galleries: Mapping[str, Gallery] = field(default_factory=dict)
    reviews: tuple[Review, ...] = ()
    changes: tuple[Difference, ...] = ()
    hosts: tuple[Host, ...] = ()
    planted: Mapping[str, Counts] | None = None
    applying: Mapping[str, Applying] = field(default_factory=dict)
    """By source, how moved thresholds are applied; a source is left out where that cannot be."""
    planted_outcomes: Mapping[str, Counts] | None = None
    band: float = BAND
    drawn: bool = False
    """Whether sources are drawn by us: then what they planted decides, and not the paper's shares."""

    @property
    def is_drawn(self) -> bool:
        """Whether sources know what they planted."""
        return self.drawn or bool(self.planted)

    @property
    def policy(self) -> Policy:
        """The policy, as the first source that has rules follows it."""
        return next((s.policy for s in self.sources if s.policy.filters), self.sources[0].policy)

    @property
    def judged(self) -> tuple[SourceRows, ...]:
        """Sources that rules judge; the exempt ones pass whole."""
        return tuple(s for s in self.sources if s.policy.filters) or self.sources

    @property
    def funnel(self) -> Funnel:
        """Counts by mask over all judged sources."""
        return reduce(add, (source.funnel for source in self.judged), Funnel())

    @property
    def version(self) -> str:
        """The run's version; empty where the page is about no artifact."""
        name, _, version = str(self.provenance.get("artifact", "")).rpartition("@")
        return version if name else ""

    @property
    def tuned(self) -> str:
        """The version that moved thresholds are applied under."""
        return f"{self.version}-tuned"


def verdict_of(page: Page) -> Verdict:
    """Return the page's verdict."""
    return judge(page.sources, page.band, page.planted, page.changes, page.is_drawn)
