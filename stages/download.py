"""Fetch the pictures of one source: every listed row ends in exactly one outcome.

Rows of a part that share an address share one fetch. A later pass asks again for what may have mended
and carries everything else over. What is counted is what can be read back.
"""

import io
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, field_validator

from stages import download_report
from stages.advice import nothing_fetched
from stages.blocking import BlockList, digest_of_addresses, digest_of_list, read_addresses, read_blocked
from stages.download_watch import watched
from stages.fetchers import BlockedAddresses, Network, guarded, shelf
from stages.fetching import Answer, Storing, fetch_shard
from stages.later_pass import AGAIN, Earlier, earlier_of, refuse_unfit
from stages.manifest import Manifest, ManifestError, Part, digest_of
from stages.outcome import REJECTED, TRANSIENT, Outcome, ledger_of
from stages.outcome_rows import MEASURES, OUTCOMES, differs, host_of, measure_row, outcome_row
from stages.planted import judge_outcomes, markdown, planted_outcomes
from stages.sources.web_site import SiteSpec
from stages.tars import tar_bytes
from stages.workspace import Output, Workspace, parquet_bytes, read_table

VERSION = 4


class Parameters(Storing, Network):
    """How pictures are fetched and stored."""

    images: str | None = Field(default=None, description="Folder or tar that holds the pictures already.")
    truth: SiteSpec | None = Field(default=None, description="The planted truth, where there is one.")
    blocked_hashes: str | None = Field(
        default=None,
        description="Text file of hashes that are never stored: sha256 of bodies, 64-bit picture hashes.",
    )
    blocked_digest: str | None = Field(default=None, description="Hash of that file; filled in at start.")
    block_urls: tuple[str, ...] = Field(
        default=(),
        description="Files of addresses, or of their SHA-256, that are not taken from, also redirected to.",
    )
    block_domains: tuple[str, ...] = Field(
        default=(), description="Files of domains that are not asked, with all below them, on every hop."
    )
    addresses_digest: str | None = Field(default=None, description="Hash of these files; filled in at start.")
    retry: tuple[Outcome, ...] = Field(
        default=(),
        description="Outcomes of an earlier version that are asked for again; all others are carried over.",
    )
    compare_with_first: Literal["keep", "refuse"] = Field(
        default="keep",
        description="Whether other bytes than at first replace the picture; refuse: the earlier one stands.",
    )

    @field_validator("retry")
    @classmethod
    def _not_final(cls, value: tuple[Outcome, ...]) -> tuple[Outcome, ...]:
        if final := sorted(set(value) - AGAIN):
            raise ValueError(
                f"{', '.join(final)} is final and never asked again; retry takes {', '.join(sorted(AGAIN))}"
            )
        return tuple(sorted(set(value)))


def pin(parameters: Parameters) -> Parameters:
    """Return the parameters with the hashes of the block-lists, so that a changed list is seen as drift."""
    found: dict[str, str] = {}
    if parameters.blocked_hashes and not parameters.blocked_digest:
        found["blocked_digest"] = digest_of_list(parameters.blocked_hashes)
    if (parameters.block_urls or parameters.block_domains) and not parameters.addresses_digest:
        found["addresses_digest"] = digest_of_addresses(parameters.block_urls, parameters.block_domains)
    return parameters.model_copy(update=found)


def download_part(
    item: tuple[str, str, Part], listing: Manifest, parameters: Parameters, output: Output, earlier: Manifest | None
) -> Part:
    """Fetch the rows of one listing part that are due; publish pictures and outcomes of all, sorted by uid."""
    key, digest, source = item
    rows = _rows(read_table(output.store, listing, source, "rows"))
    before = earlier_of(output.store, earlier, key, parameters.retry)
    due = [row for row in rows if before.due(row["uid"])]
    blocked = _blocked(parameters)
    answers = _ask(due, parameters, blocked)
    outcomes, samples, measures = [], [], []
    for row in rows:
        uid, members = row["uid"], None
        answer = answers[row["url_id"]] if before.due(uid) else None
        outcome = _judged(row, answer, before, parameters) if answer else None
        if answer:
            measures.append(measure_row(row, answer))
        if answer is None or outcome is None:
            found, members = before.carried(uid, blocked)
        else:
            found = outcome_row(row, answer, outcome, before.attempt(uid), before.first(uid))
            if outcome is Outcome.FETCHED and answer.image is not None:
                members = {"jpg": answer.image, "txt": row["caption"].encode("utf-8", "replace")}
        outcomes.append(found)
        samples += [(uid.hex(), members)] if members else []
    counts = Counter(str(row["outcome"]) for row in outcomes)
    facts: dict[str, Any] = {
        "outcomes": dict(sorted(counts.items())),
        "urls": {"listed": len(rows), "distinct": len(answers)},
    }
    if earlier is not None:
        facts["again"] = {"asked": len(due), **dict(sorted(before.facts.items()))}
    output.store.write(
        output.ref.key(f"measures/{key}.parquet"), parquet_bytes(pa.Table.from_pylist(measures, schema=MEASURES))
    )
    return output.part(
        key,
        digest,
        ledger_of(counts),
        {
            "outcomes": (f"{key}.parquet", parquet_bytes(pa.Table.from_pylist(outcomes, schema=OUTCOMES))),
            "pictures": (f"{key}.tar", tar_bytes(samples)),
        },
        facts=facts,
    )


def _rows(table: pa.Table) -> list[dict[str, Any]]:
    """Return a listing's rows sorted by uid, with what an older listing does not say filled in."""
    wanted = ("uid", "url_id", "url", "caption", "host", "expected_hash")
    rows = table.select([name for name in wanted if name in table.column_names]).to_pylist()
    for row in rows:
        row["host"] = row.get("host") or host_of(row["url"])
        row.setdefault("expected_hash", None)
    return sorted(rows, key=lambda row: bytes(row["uid"]))


def _blocked(parameters: Parameters) -> BlockList:
    if parameters.blocked_hashes and parameters.blocked_digest:
        return read_blocked(parameters.blocked_hashes, parameters.blocked_digest)
    return BlockList()


def _addresses(parameters: Parameters) -> BlockedAddresses | None:
    if parameters.addresses_digest is None:
        return None
    return BlockedAddresses(parameters.block_urls, parameters.block_domains, parameters.addresses_digest)


def _ask(due: Iterable[Mapping[str, Any]], parameters: Parameters, blocked: BlockList) -> dict[bytes, Answer]:
    """Fetch every distinct address of the rows once; return the answers by url_id."""
    answers: dict[bytes, Answer] = {}
    for row in sorted(due, key=lambda row: (row["url_id"], row["uid"])):
        answer = answers.setdefault(row["url_id"], Answer(row["url"]))
        answer.wants_md5 |= (row["expected_hash"] or "").startswith("md5:")
    asked = list(answers.values())
    if parameters.images is None:
        fetcher = guarded(parameters, parameters.max_pixels, parameters.threads, _addresses(parameters))
    else:
        fetcher = shelf(parameters.images, {each.url for each in asked}, parameters.max_pixels)
    fetch_shard(asked, fetcher, parameters, blocked)
    return answers


def _judged(row: Mapping[str, Any], answer: Answer, before: Earlier, parameters: Parameters) -> Outcome | None:
    """Return a row's outcome, None where its earlier row and picture stand.

    It is that of its address, unless the bytes are not those that it is listed with. Other bytes than at first
    replace those that are here only where the recipe lets them.
    """
    if answer.outcome in (Outcome.FETCHED, Outcome.DECODE):
        if differs(answer, row["expected_hash"]):
            return Outcome.HASH_MISMATCH
        if before.changed(row["uid"], answer.body_sha256) and parameters.compare_with_first == "refuse":
            return None
    return None if before.stands(row["uid"], answer.outcome) else answer.outcome


def run(parameters: Parameters, output: Output, here: Workspace) -> Manifest:
    """Download all parts of a listing; with an earlier version of the pool as input, ask again for what is due."""
    listing, earlier = here.input("listing"), _earlier(parameters, here)
    parameters = pin(parameters)
    _blocked(parameters)  # A bad list is refused here, before any worker starts.
    if addresses := _addresses(parameters):
        read_addresses(*addresses)
    work = partial(download_part, listing=listing, parameters=parameters, output=output, earlier=earlier)
    items = []
    for part in listing.parts:
        digest = part.files["rows"].sha256
        for blocked in (parameters.blocked_digest, parameters.addresses_digest):
            digest = digest_of([digest, blocked]) if blocked else digest
        items.append((part.key, digest, (part.key, digest, part)))
    parts = watched(here, output).map_parts(output, work, items, rows=lambda item: item[2].ledger.kept)
    totals = _totals(parts)
    counts = Counter(totals["outcomes"])
    if not counts[Outcome.FETCHED]:
        raise ManifestError(nothing_fetched(listing, counts))
    if parameters.truth:
        planned = planted_outcomes(parameters.truth, listing.ref.name.rpartition("/")[2])
        totals["planted"] = judge_outcomes(planned, _seen(parts, output))
        totals["markdown"] = markdown(totals["planted"])
    told, pages = download_report.report(listing, parts, totals, output, here)
    return output.commit(parts, totals=told, reports=pages, quarantined=here.quarantined)


def _seen(parts: Iterable[Part], output: Output) -> dict[bytes, str]:
    """Return every row's outcome by uid, as it can be read back."""
    seen: dict[bytes, str] = {}
    for part in parts:
        data = output.store.read(output.ref.key(part.files["outcomes"].name))
        table = pq.read_table(io.BytesIO(data), columns=["uid", "outcome"])
        seen.update(zip(table["uid"].to_pylist(), table["outcome"].to_pylist(), strict=True))
    return seen


def _earlier(parameters: Parameters, here: Workspace) -> Manifest | None:
    if not here.all("pool"):
        if parameters.retry:
            raise ManifestError("a later pass needs an earlier version of the pool as an input, and was given none")
        return None
    earlier = here.input("pool")
    if not parameters.retry:
        raise ManifestError(f"{earlier.ref} is an input and nothing of it is asked again; name outcomes in retry")
    refuse_unfit(earlier, here.input("listing"), parameters)
    return earlier


def _totals(parts: Iterable[Part]) -> dict[str, Any]:
    """Return the sums of the parts' facts, and the rows by what can still become of them."""
    sums: dict[str, Counter[str]] = {}
    for part in parts:
        for name, counts in part.facts.items():
            sums.setdefault(name, Counter()).update(counts)
    totals: dict[str, Any] = {name: dict(sorted(counts.items())) for name, counts in sorted(sums.items())}
    classes: Counter[str] = Counter()
    for outcome, rows in sums["outcomes"].items():
        classes[class_of(Outcome(outcome))] += rows
    return {**totals, "classes": dict(sorted(classes.items()))}


def class_of(outcome: Outcome) -> str:
    """Return `fetched`, `rejected` by a rule, `transient` (a later pass may mend it) or `permanent`."""
    if outcome is Outcome.FETCHED:
        return "fetched"
    if outcome in REJECTED:
        return "rejected"
    return "transient" if outcome in TRANSIENT else "permanent"
