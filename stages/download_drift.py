"""Tell an outage of ours from rot of the web: does a part's outcome jump against the parts before it?

A resolver that fails, a network that is gone or a provider that blocks us turns every url into a
failure of the same kind. Parts are buckets of hashed urls, so they are alike but for chance, and a
share that leaps from one part to the next is about us and now, not about the rows. A pure function
of counts; `download_watch` acts on it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from stages.outcome import Outcome

UNWATCHED = frozenset({Outcome.FETCHED, Outcome.BLOCKED, Outcome.BAD_URL, Outcome.REFUSED_SCHEME})
"""Outcomes that the list decides and not the network; rows of these are no evidence of anything."""
_NO_NETWORK = UNWATCHED - {Outcome.FETCHED}

CUT_OFF = frozenset({Outcome.DNS, Outcome.CONNECT})
MAX_CUT_OFF = 0.5  # of a part of MIN_CUT_OFF urls or more, while there is no baseline to compare with
MIN_CUT_OFF = 50
MIN_URLS = 20  # fewer say nothing about a jump
MIN_BASELINE = 200.0  # urls
MIN_JUMP = 0.1
MIN_SIGMAS = 6.0  # one false alarm in 10^9 parts, were urls independent; hosts are shared, hence MIN_JUMP too
MAX_STILL_BAD = 0.25  # of a canary's urls, for it to speak for going on
MEMORY = 0.95  # a part's weight in the baseline falls by this factor with each part after it


@dataclass(frozen=True)
class Jump:
    """One outcome whose share leapt, from what to what."""

    outcome: str
    before: float | None
    now: float
    urls: int

    def __str__(self) -> str:
        """Say what jumped, from what to what."""
        before = "no part before it to compare with" if self.before is None else f"{100 * self.before:.1f} % before"
        return f"{self.outcome} is {100 * self.now:.1f} % of {self.urls:,} urls, {before}"


@dataclass(frozen=True)
class Baseline:
    """What parts came to lately: counts by outcome, older parts weighing less."""

    counts: Mapping[str, float] = field(default_factory=dict)

    @property
    def urls(self) -> float:
        """Urls that bear on the network, weighted."""
        return asked(self.counts)

    def share(self, outcome: str) -> float:
        """Return an outcome's share, kept off 0 and 1 as if each had been seen once more."""
        return (self.counts.get(outcome, 0.0) + 1) / (self.urls + 2)

    def learn(self, counts: Mapping[str, int]) -> "Baseline":
        """Return the baseline after one more part."""
        names = {*self.counts, *counts}
        return Baseline({name: MEMORY * self.counts.get(name, 0.0) + counts.get(name, 0) for name in sorted(names)})

    @classmethod
    def at(cls, counts: Mapping[str, int]) -> "Baseline":
        """Return the baseline of a web that really is as in this part, from now on."""
        scale = max(1.0, 1.01 * MIN_BASELINE / max(asked(counts), 1))
        return cls({name: scale * count for name, count in sorted(counts.items())})


def asked(counts: Mapping[str, float]) -> float:
    """Return how many of the counted rows bear on the network."""
    return sum(count for name, count in counts.items() if name not in _NO_NETWORK)


def judge(baseline: Baseline, counts: Mapping[str, int]) -> Jump | None:
    """Return the worst jump of a part against the baseline, None where the part is like those before it.

    With a baseline, a jump is a share of at least `MIN_JUMP` more than before and `MIN_SIGMAS` standard
    deviations of the binomial away. Without one, only being cut off is told: most names without an
    address, or most hosts without a connection.
    """
    urls = int(asked(counts))
    known = baseline.urls >= MIN_BASELINE
    worst: tuple[float, Jump] | None = None
    for name in sorted(set(counts) - UNWATCHED):
        now = counts[name] / max(urls, 1)
        before = baseline.share(name)
        if known:
            sigmas = (now - before) / (before * (1 - before) * (1 / max(urls, 1) + 1 / baseline.urls)) ** 0.5
            alarming = urls >= MIN_URLS and now - before >= MIN_JUMP and sigmas >= MIN_SIGMAS
        else:
            alarming = urls >= MIN_CUT_OFF and name in CUT_OFF and now > MAX_CUT_OFF
        gain = now - before if known else now
        if alarming and (worst is None or gain > worst[0]):
            worst = gain, Jump(name, before if known else None, now, urls)
    return worst[1] if worst else None


def recovered(outcome: str, worked: Mapping[str, int], others: Mapping[str, int]) -> bool:
    """Return whether a canary speaks for going on.

    Args:
        outcome: What had jumped.
        worked: Outcomes now of urls that could be fetched before; they alone decide where there are some.
        others: Outcomes now of urls that ended in the outcome when it jumped. Where nothing ever worked, at
            least half of them must end otherwise now.
    """
    if total := sum(worked.values()):
        return worked.get(outcome, 0) / total <= MAX_STILL_BAD and worked.get(Outcome.FETCHED, 0) > 0
    return others.get(outcome, 0) / max(sum(others.values()), 1) < 0.5
