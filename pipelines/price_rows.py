"""What a price says, line by line; for the terminal and for a run's page."""

from collections.abc import Callable, Sequence

from stages.download_price import Price, Tail
from stages.filter_report import visible
from stages.quantities import duration, gigabytes

PRICE_ROWS: Sequence[tuple[str, Callable[[Price], str]]] = (
    ("listed rows", lambda each: f"{each.whole.listed:,}"),
    ("distinct urls", lambda each: f"{each.whole.urls:,}"),
    ("urls seen", lambda each: f"{each.sample_urls:,}"),
    ("fetched", lambda each: _percent(each.fetched)),
    ("  95 % interval", lambda each: f"{_percent(each.fetched_low)} to {_percent(each.fetched_high)}"),
    ("opted out", lambda each: _percent(each.opted_out)),
    ("may come back later", lambda each: _percent(each.may_come_back)),
    ("requests", lambda each: f"{each.requests:,}"),
    ("from the web", lambda each: gigabytes(1e9 * each.gigabytes_in)),
    ("stored", lambda each: gigabytes(1e9 * each.gigabytes_out)),
    ("CPU time", lambda each: _hours(each.cpu_hours)),
    ("time of work", lambda each: _hours(each.worker_hours)),
    ("ends after", lambda each: _hours(each.hours)),
    ("largest hosts", lambda each: "\n".join(tail(host) for host in each.tail) or "–"),
)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _hours(hours: float | None) -> str:
    return "–" if hours is None else duration(3600 * hours)


def tail(host: Tail) -> str:
    """Return a host, its control characters made visible, with its urls and time."""
    took = "" if host.hours is None else f", {duration(3600 * host.hours)}"
    return f"{visible(host.host)}: {host.urls:,} urls{took}"
