"""Which hosts decide a download: those that refuse most, and those that are slowest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stages.download_tally import Tally, quantile
from stages.filter_report import share
from stages.outcome import Outcome
from stages.outcome_words import REFUSALS

TOP = 20
FEWEST = 5  # requests that a host needs before its times are ranked, where some host has as many


def by_host(hosts: pa.Table) -> dict[str, dict[str, int]]:
    """Return urls by outcome of each host that is known."""
    found: dict[str, dict[str, int]] = {}
    for row in hosts.select(["host", "outcome", "urls"]).to_pylist():
        if row["host"] is not None:
            found.setdefault(row["host"], {})[row["outcome"]] = row["urls"]
    return found


def _bytes_in(hosts: pa.Table, wanted: set[str]) -> dict[str, int]:
    some = hosts.filter(pc.is_in(hosts["host"], value_set=pa.array(sorted(wanted), pa.string())))
    summed = some.group_by("host").aggregate([("bytes_in", "sum")])
    return dict(zip(summed["host"].to_pylist(), summed["bytes_in_sum"].to_pylist(), strict=True))


def main_failure(counts: Mapping[str, int]) -> str:
    """Return the commonest outcome that is no picture, with its share."""
    failed = sorted((-urls, name) for name, urls in counts.items() if name != Outcome.FETCHED)
    return f"{failed[0][1].replace('_', ' ')} {share(-failed[0][0], sum(counts.values()))}" if failed else "–"


def refusing(hosts: pa.Table) -> list[dict[str, Any]]:
    """Return the hosts that turned us away for most urls: forbidden, rate limited, robots.txt or an opt-out."""
    some = hosts.filter(pc.is_in(hosts["outcome"], value_set=pa.array(sorted(map(str, REFUSALS)))))
    summed = some.filter(pc.is_valid(some["host"])).group_by("host").aggregate([("urls", "sum")])
    pairs = zip(summed["urls_sum"].to_pylist(), summed["host"].to_pylist(), strict=True)
    top = [host for _, host in sorted((-urls, host) for urls, host in pairs)[:TOP]]
    counts = by_host(hosts.filter(pc.is_in(hosts["host"], value_set=pa.array(top, pa.string()))))
    bytes_in = _bytes_in(hosts, set(top))
    rows = []
    for host in top:
        urls = sum(counts[host].values())
        refused = sum(counts[host].get(outcome, 0) for outcome in REFUSALS)
        fetched = counts[host].get(Outcome.FETCHED, 0)
        rows.append(
            {
                "host": host,
                "urls": urls,
                "refused": refused,
                "refused_share": share(refused, urls),
                "fetched": share(fetched, urls),
                "width": fetched / urls,
                "main": main_failure(counts[host]),
                "bytes_in": bytes_in.get(host, 0),
            }
        )
    return rows


@dataclass
class _Times:
    """The latency bins of one host, with the requests in each."""

    bins: list[int] = field(default_factory=list)
    requests: list[int] = field(default_factory=list)
    tries: int = 0

    def quantile(self, share: float) -> float:
        return quantile(self.bins, self.requests, share)


def _times(found: Tally) -> dict[str, _Times]:
    times: dict[str, _Times] = {}
    for row in found.times.to_pylist():
        if row["host"] is not None:
            host = times.setdefault(row["host"], _Times())
            host.bins.append(row["bin"])
            host.requests.append(row["requests"])
            host.tries += row["tries"]
    return times


def slowest(found: Tally) -> list[dict[str, Any]]:
    """Return the hosts with the highest median time, among those that were asked often enough."""
    times = _times(found)
    fewest = min(FEWEST, max((sum(each.requests) for each in times.values()), default=0))
    asked = [(-each.quantile(0.5), host) for host, each in times.items() if sum(each.requests) >= fewest]
    return _timed(found, times, [host for _, host in sorted(asked)[:TOP]])


def refusing_times(found: Tally) -> list[dict[str, Any]]:
    """Return the hosts that refuse most, in their order, with the times of those that answered at all."""
    times = _times(found)
    return _timed(found, times, [row["host"] for row in refusing(found.hosts) if row["host"] in times])


def _timed(found: Tally, times: Mapping[str, _Times], hosts: Sequence[str]) -> list[dict[str, Any]]:
    wanted = pa.array(sorted(hosts), pa.string())
    counts = by_host(found.hosts.filter(pc.is_in(found.hosts["host"], value_set=wanted)))
    bytes_in = _bytes_in(found.hosts, set(hosts))
    return [
        {
            "host": host,
            "requests": sum(times[host].requests),
            "tries": times[host].tries,
            "median": f"{times[host].quantile(0.5):.2f} s",
            "high": f"{times[host].quantile(0.95):.2f} s",
            "fetched": share(counts.get(host, {}).get(Outcome.FETCHED, 0), sum(counts.get(host, {}).values())),
            "main": main_failure(counts.get(host, {})),
            "bytes_in": bytes_in.get(host, 0),
        }
        for host in hosts
    ]
