"""Judge every sample: signals in, a 64-bit reason mask per row out. No picture is decoded, no model runs."""

import io
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from filters.bits import reasons_of
from filters.cells import CELLS, Counted, summed
from filters.cube import Cube, cube_of
from filters.digits import judge_with_counts
from filters.funnel import Funnel
from filters.policies import Policy
from stages.filter_report import render, summary
from stages.judged_counts import counts_bytes, counts_of
from stages.manifest import Ledger, Manifest, ManifestError, Part, digest_of
from stages.planted import Counts, judge_rules, markdown, planted_dirt
from stages.quarantine import keys_in
from stages.report.applying import applying_of
from stages.report.gallery import gallery_of
from stages.report.hosts import hosts_of
from stages.signal_columns import read_signals
from stages.sources.web_site import SiteSpec
from stages.workspace import Output, Workspace, parquet_bytes, read_table

VERSION = 3


class Parameters(BaseModel):
    """The rules, and which source they judge."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    policy: Policy = Field(description="Rules with their thresholds.")
    truth: SiteSpec | None = Field(default=None, description="The planted truth, where there is one.")


def filter_part(
    item: tuple[str, str, Part, Part | None],
    output: Output,
    signals: Manifest,
    before: Manifest | None,
    policy: Policy,
) -> Part:
    """Write the verdicts of one part: uid and reasons, for the rows that the step before kept."""
    key, digest, scored, cleaned = item
    names = sorted({"caption", "language"} | {name for rule in policy.filters for name in rule.reads})
    passed = None
    if before is not None and cleaned is not None:
        earlier = read_table(output.store, before, cleaned, "verdicts")
        passed = earlier.filter(pc.equal(earlier["reasons"], 0))["uid"].combine_chunks()
    uids, columns = read_signals(output.store, signals, scored, names, passed)
    reasons, funnel, counted = judge_with_counts(policy.filters, columns, len(uids))
    table = pa.table({"uid": uids, "reasons": pa.array(reasons, pa.uint64())})
    ledger = Ledger(listed=len(uids), kept=funnel.kept, rejected=len(uids) - funnel.kept)
    return output.part(
        key,
        digest,
        ledger,
        {
            "verdicts": (f"{key}.parquet", parquet_bytes(table)),
            # Counts are a file, not facts: a manifest of thousands of parts would carry them all.
            "counts": (f"{key}.counts.parquet", counts_bytes(funnel, counted)),
        },
    )


def _rows(item: tuple[str, str, Part, Part | None]) -> int:
    """Return how many rows of a part are judged."""
    _, _, scored, cleaned = item
    return (cleaned or scored).ledger.kept


def _plain(counts: Funnel | Cube) -> Any:
    return counts.model_dump(mode="json")


def _merged(parts: Iterable[Part], output: Output) -> tuple[Funnel, Cube]:
    """Return the counts of all parts, read one after the other and never held together."""
    funnel = Funnel()

    def counts() -> Iterator[Counted]:
        nonlocal funnel
        for part in parts:
            some, counted = counts_of(output.store.read(output.ref.key(part.files["counts"].name)))
            funnel += some
            yield counted

    cube = cube_of(summed(counts(), CELLS))
    return funnel, cube


def run(parameters: Parameters, output: Output, here: Workspace) -> Manifest:
    """Judge all parts, merge the funnel, write the report."""
    signals, pool = here.input("signals"), here.input("pool")
    cleaned = here.all("verdicts/clean")
    before = cleaned[0] if cleaned else None
    if parameters.policy.name != "clean" and before is None:
        raise ManifestError(
            f"policy {parameters.policy.name} judges what verdicts/clean kept; filter with that policy first"
        )
    earlier = {part.key: part for part in before.parts} if before else {}
    items = []
    for part in signals.parts:
        previous = earlier.get(part.key)
        if before is not None and previous is None:
            if part.key in keys_in(before.totals):
                continue
            raise ManifestError(
                f"{before.ref} has no part {part.key}, which {signals.ref} scores; filter with policy clean again"
            )
        files = sorted(file.sha256 for file in part.files.values())
        digest = digest_of([files, previous.files["verdicts"].sha256 if previous else None])
        items.append((part.key, digest, (part.key, digest, part, previous)))
    work = partial(filter_part, output=output, signals=signals, before=before, policy=parameters.policy)
    parts = here.map_parts(output, work, items, light=True, rows=_rows)
    funnel, cube = _merged(parts, output)
    listed, fetched = pool.ledger.listed, pool.ledger.kept
    totals: dict[str, Any] = {
        "listed": listed,
        "fetched": fetched,
        "judged": funnel.samples,
        "kept": funnel.kept,
        "reasons": {rule.reason: funnel.total(rule.reason) for rule in parameters.policy.filters},
        "alone": {rule.reason: funnel.alone(rule.reason) for rule in parameters.policy.filters},
        "funnel": _plain(funnel),
        "cube": _plain(cube),
    }
    if parameters.truth:
        totals["planted"] = _against_truth(parameters, parts, output)
    outcomes = pool.totals.get("outcomes", {})
    gallery = gallery_of(output, parts, parameters.policy, signals, pool, funnel, cube)
    applying = applying_of(output.store, output.ref, output.identity)
    page = render(
        source=parameters.source,
        policy=parameters.policy,
        funnel=funnel,
        listed=listed,
        fetched=fetched,
        outcomes=outcomes,
        planted=totals.get("planted"),
        planted_outcomes=pool.totals.get("planted"),
        provenance={"artifact": str(output.ref), "signals": signals.digest[:16], "pool": pool.digest[:16]},
        cube=cube,
        gallery=gallery,
        hosts=hosts_of(output, pool),
        applying=applying,
    )
    totals["markdown"] = summary(
        parameters.source,
        parameters.policy,
        funnel,
        listed,
        fetched,
        outcomes=outcomes,
        cube=cube,
        languages=gallery.languages,
        planted=totals.get("planted"),
        version=output.ref.version,
        applying=applying,
    )
    if totals.get("planted"):
        totals["markdown"] += "\n" + markdown(totals["planted"])
    pages = {"page": ("filter-report.html", page.encode())}
    return output.commit(parts, totals=totals, reports=pages, quarantined=here.quarantined)


def _verdicts(part: Part, output: Output) -> pa.Table:
    return pq.read_table(io.BytesIO(output.store.read(output.ref.key(part.files["verdicts"].name))))


def _against_truth(parameters: Parameters, parts: list[Part], output: Output) -> dict[str, Counts]:
    """Return planted, hits, precision and recall of each rule against what the site planted."""
    assert parameters.truth is not None
    seen: dict[bytes, set[str]] = {}
    for part in parts:
        table = _verdicts(part, output)
        for uid, mask in zip(table["uid"].to_pylist(), table["reasons"].to_pylist(), strict=True):
            seen[uid] = set(reasons_of(mask))
    rules = [rule.reason for rule in parameters.policy.filters]
    return judge_rules(planted_dirt(parameters.truth, parameters.source), seen, rules)
