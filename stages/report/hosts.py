"""Which hosts decide the result: rows by host and what became of them, largest losses first."""

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow.compute as pc

from stages.manifest import Manifest
from stages.outcome import Outcome
from stages.workspace import Output, read_table

SHOWN = 8
SMALL = 100
MOST_PARTS = 64
"""Beyond as many parts the download's own page is the one to read."""


@dataclass(frozen=True)
class Host:
    """Rows of one host; the tail is all small hosts as one."""

    name: str
    rows: int
    fetched: int
    worst: str
    """The commonest outcome that is no picture."""
    worst_rows: int


def hosts_of(output: Output, pool: Manifest) -> tuple[Host, ...]:
    """Return the hosts that lost most rows, and the tail; nothing where the pool does not say hosts."""
    if len(pool.parts) > MOST_PARTS or any("outcomes" not in part.files for part in pool.parts):
        return ()
    counts: dict[str, dict[str, int]] = {}
    for part in pool.parts:
        table = read_table(output.store, pool, part, "outcomes")
        if "host" not in table.column_names:
            return ()
        table = table.filter(pc.is_valid(table["host"]))
        for row in table.group_by(["host", "outcome"]).aggregate([("uid", "count")]).to_pylist():
            into = counts.setdefault(row["host"], {})
            into[row["outcome"]] = into.get(row["outcome"], 0) + row["uid_count"]
    return ranked(counts)


def ranked(counts: Mapping[str, Mapping[str, int]]) -> tuple[Host, ...]:
    """Return hosts by rows lost, the small ones as one line."""
    large = {name: found for name, found in counts.items() if sum(found.values()) >= SMALL}
    lines = sorted((_host(name, found) for name, found in large.items()), key=lambda h: (h.fetched - h.rows, h.name))
    tail: dict[str, int] = {}
    small = [found for name, found in counts.items() if name not in large]
    for found in small:
        for outcome, rows in found.items():
            tail[outcome] = tail.get(outcome, 0) + rows
    shown = lines[:SHOWN]
    return (*shown, *([_host(f"{len(small):,} hosts with fewer than {SMALL} rows", tail)] if small else []))


def _host(name: str, outcomes: Mapping[str, int]) -> Host:
    failed = sorted((-rows, outcome) for outcome, rows in outcomes.items() if outcome != Outcome.FETCHED)
    rows = sum(outcomes.values())
    worst, count = (failed[0][1].replace("_", " "), -failed[0][0]) if failed else ("–", 0)
    return Host(name, rows, outcomes.get(Outcome.FETCHED, 0), worst, count)
