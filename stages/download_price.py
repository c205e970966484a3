"""What a whole list would cost, from what a pilot or an earlier download of it came to."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stages.download_tally import Tally
from stages.outcome import TRANSIENT, Outcome
from stages.outcome_words import OPT_OUTS, UNASKED

TAILS = 5


def wilson(hits: int, total: int, sigmas: float = 1.959964) -> tuple[float, float]:
    """Return Wilson's interval for a share, 95 % unless told otherwise; (0, 1) where nothing was seen."""
    if not total:
        return 0.0, 1.0
    share, weight = hits / total, sigmas**2 / total
    middle = (share + weight / 2) / (1 + weight)
    half = sigmas / (1 + weight) * math.sqrt(share * (1 - share) / total + weight / (4 * total))
    return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True)
class Whole:
    """The list that is priced: rows that are listed, usable ones, and their distinct urls."""

    listed: int
    rows: int
    urls: int


@dataclass(frozen=True)
class Pace:
    """How long the sample took; seconds are None where nobody measured."""

    cpu_seconds: float | None = None
    work_seconds: float | None = None
    urls: int = 0


@dataclass(frozen=True)
class Tail:
    """A host that many urls ask for; hours at the rate per host, None where there is no such limit."""

    host: str
    urls: int
    hours: float | None


@dataclass(frozen=True)
class Price:
    """What is to be expected; hours are None where the sample was not timed.

    Attributes:
        sample_urls: Distinct urls of the sample.
        fetched, fetched_low, fetched_high: Share of sample urls that gave a picture, with Wilson's 95 % interval.
        opted_out: Share of sample urls whose owner, or a list of yours, does not want them taken.
        may_come_back: Share of sample urls that a later pass asks for again.
        requests: First tries; redirects, robots.txt and further tries come on top.
        hours: At the workers and at the rate per host, whichever is longer.
        worker_hours: Hours that the workers need, were there no limit per host.
        tail: The hosts that take longest at the rate per host.
    """

    source: str
    whole: Whole
    sample_urls: int
    fetched: float
    fetched_low: float
    fetched_high: float
    opted_out: float
    may_come_back: float
    requests: int
    gigabytes_in: float
    gigabytes_out: float
    cpu_hours: float | None
    worker_hours: float | None
    hours: float | None
    workers: int
    host_rate: float
    tail: tuple[Tail, ...] = field(default=())

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


def price(source: str, whole: Whole, sample: Tally, pace: Pace, workers: int, host_rate: float) -> Price:
    """Return what a whole list would cost.

    Args:
        source: Name of the source.
        whole: The list.
        sample: What a part of its urls, drawn by hash, came to.
        pace: How long that took.
        workers: Tasks that fetch at the same time, as many threads each as in the sample.
        host_rate: Requests per second that one host is asked at most; 0 is no limit.
    """
    by_outcome: dict[str, int] = {}
    for outcome, urls in zip(sample.hosts["outcome"].to_pylist(), sample.hosts["urls"].to_pylist(), strict=True):
        by_outcome[outcome] = by_outcome.get(outcome, 0) + urls
    urls = sum(by_outcome.values())
    times, row_times = whole.urls / max(urls, 1), whole.rows / max(sum(sample.outcomes.values()), 1)
    fetched = by_outcome.get(Outcome.FETCHED, 0)
    low, high = wilson(fetched, urls)
    asked = urls - sum(by_outcome.get(outcome, 0) for outcome in UNASKED)
    tail = tails(sample.hosts, times, host_rate)
    per_url = 1 / max(pace.urls, 1) / 3600
    cpu = whole.urls * pace.cpu_seconds * per_url if pace.cpu_seconds is not None else None
    work = whole.urls * pace.work_seconds * per_url / workers if pace.work_seconds is not None else None
    return Price(
        source=source,
        whole=whole,
        sample_urls=urls,
        fetched=fetched / max(urls, 1),
        fetched_low=low,
        fetched_high=high,
        opted_out=sum(by_outcome.get(outcome, 0) for outcome, _ in OPT_OUTS) / max(urls, 1),
        may_come_back=sum(by_outcome.get(outcome, 0) for outcome in TRANSIENT) / max(urls, 1),
        requests=round(asked * times),
        gigabytes_in=sample.bytes_in * times / 1e9,
        gigabytes_out=sample.bytes_out * row_times / 1e9,
        cpu_hours=cpu,
        worker_hours=work,
        hours=max([work, *(each.hours or 0.0 for each in tail)]) if work is not None else None,
        workers=workers,
        host_rate=host_rate,
        tail=tuple(tail),
    )


def tails(hosts: pa.Table, times: float, host_rate: float) -> list[Tail]:
    """Return the hosts that most urls ask for, with the hours that the rate per host makes of them."""
    asked = hosts.filter(
        pc.and_(
            pc.invert(pc.is_in(hosts["outcome"], value_set=pa.array([str(each) for each in UNASKED]))),
            pc.is_valid(hosts["host"]),
        )
    )
    summed = asked.group_by("host").aggregate([("urls", "sum")])
    pairs = zip(summed["host"].to_pylist(), summed["urls_sum"].to_pylist(), strict=True)
    # One url of a host says nothing about how many the list has; two or more do, roughly.
    found = sorted((-urls, host) for host, urls in pairs if urls > 1)[:TAILS]
    return [
        Tail(host, round(-less * times), -less * times / host_rate / 3600 if host_rate > 0 else None)
        for less, host in found
    ]
