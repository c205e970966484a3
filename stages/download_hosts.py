"""Which hosts decide a download: those that refuse most, and those that are slowest."""

from collections.abc import Mapping
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


def slowest(found: Tally) -> list[dict[str, Any]]:
    """Return the hosts with the highest median time, among those that were asked often enough."""
    times: dict[str, tuple[list[int], list[int], int]] = {}
    for row in found.times.to_pylist():
        if row["host"] is not None:
            bins, requests, tries = times.get(row["host"], ([], [], 0))
            times[row["host"]] = [*bins, row["bin"]], [*requests, row["requests"]], tries + row["tries"]
    fewest = min(FEWEST, max((sum(requests) for _, requests, _ in times.values()), default=0))
    ranked = sorted(
        (-quantile(bins, requests, 0.5), host)
        for host, (bins, requests, _) in times.items()
        if sum(requests) >= fewest
    )[:TOP]
    top = {host for _, host in ranked}
    counts = by_host(found.hosts.filter(pc.is_in(found.hosts["host"], value_set=pa.array(sorted(top), pa.string()))))
    bytes_in = _bytes_in(found.hosts, top)
    rows = []
    for median, host in ranked:
        bins, requests, tries = times[host]
        outcomes = counts.get(host, {})
        rows.append(
            {
                "host": host,
                "requests": sum(requests),
                "tries": tries,
                "median": f"{-median:.2f} s",
                "high": f"{quantile(bins, requests, 0.95):.2f} s",
                "fetched": share(outcomes.get(Outcome.FETCHED, 0), sum(outcomes.values())),
                "main": main_failure(outcomes),
                "bytes_in": bytes_in.get(host, 0),
            }
        )
    return rows
