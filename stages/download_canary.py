"""A few urls that are asked again in an outage, by the very work that fetches parts."""

import io
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.storage import Store
from stages.manifest import Ledger, Manifest, Part, digest_of
from stages.outcome import Outcome
from stages.output import Data, held
from stages.ref import Ref
from stages.workspace import Output, parquet_bytes, read_table

CANARY_URLS = 8  # of each kind


def ended(files: Mapping[str, tuple[str, Data]], most: int | None = CANARY_URLS) -> dict[str, list[str]]:
    """Return the uids of a part's rows by outcome, sorted, at most so many of each."""
    data = held(files["outcomes"][1])
    table = pq.read_table(
        io.BytesIO(data.read_bytes() if isinstance(data, Path) else data), columns=["uid", "outcome"]
    )
    found: dict[str, list[str]] = {}
    for uid, outcome in sorted(zip(table["uid"].to_pylist(), table["outcome"].to_pylist(), strict=True)):
        found.setdefault(outcome, []).append(uid.hex())
    return {outcome: uids[:most] for outcome, uids in found.items()}


@dataclass(frozen=True)
class _Asked(Output):
    """Publishes nothing: only how each url ended is of interest."""

    def part(
        self,
        key: str,
        input_digest: str,
        ledger: Ledger,
        files: Mapping[str, tuple[str, Data]],
        facts: Mapping[str, Any] | None = None,
    ) -> Part:
        """Return the part without files."""
        facts = {"ended": ended(files, most=None)}
        return Part(key=key, input_digest=input_digest, ledger=ledger, files={}, facts=facts)


@dataclass(frozen=True)
class Canary:
    """A listing of a few rows: those that worked, and those that ended in what jumped."""

    store: Store
    listing: Manifest
    output: Output
    worked: frozenset[str]
    others: frozenset[str]

    def ask(self, work: Callable[..., Part]) -> dict[str, str]:
        """Return the outcome of each row now, by uid; runs where parts are fetched."""
        (part,) = self.listing.parts
        given: dict[str, Any] = {"listing": self.listing, "output": self.output}
        if isinstance(work, partial) and "earlier" in work.keywords:
            given["earlier"] = None  # a canary is asked now, whatever an earlier pass found
        made = work((part.key, part.input_digest, part), **given)
        return {uid: outcome for outcome, uids in made.facts["ended"].items() for uid in uids}

    def counts(self, outcomes: Mapping[str, str]) -> tuple[Counter[str], Counter[str]]:
        """Return the outcomes of the rows that worked, and of the others."""
        worked = Counter(outcomes[uid] for uid in self.worked if uid in outcomes)
        return worked, Counter(outcomes[uid] for uid in self.others if uid in outcomes)

    def remove(self) -> None:
        """Leave nothing behind."""
        for ref in (self.listing.ref, self.output.ref):
            self.store.remove(ref.folder)


def draw_canary(listing: Manifest, output: Output, suspect: Part, good: Part | None, outcome: str) -> Canary:
    """Return a canary from a suspect part and, where there is one, the last good part.

    Args:
        listing: What is downloaded.
        output: The artifact that is being made.
        suspect: The part whose outcomes jumped.
        good: The last part that was published in this run.
        outcome: What had jumped.
    """
    store = output.store
    fetched = set(suspect.facts["ended"].get(Outcome.FETCHED, ()))
    others = frozenset(suspect.facts["ended"].get(outcome, ()))
    rows = [_rows(store, listing, suspect.key, fetched | others)]
    if good is not None:
        data = store.read(output.ref.key(good.files["outcomes"].name))
        before = set(ended({"outcomes": ("", data)}).get(Outcome.FETCHED, ()))
        rows.append(_rows(store, listing, good.key, before))
        fetched |= before
    table = pa.concat_tables(rows)
    at = Ref(name=f"canary/{listing.ref.name}", version=output.ref.version)
    place = Output(store=store, ref=at, stage=listing.stage, identity={})
    file = place.file("parts/rows.parquet", parquet_bytes(table))  # where a sweep looks, should we be killed
    ledger = Ledger(listed=table.num_rows, kept=table.num_rows)
    part = Part(key="canary", input_digest=digest_of(file.sha256), ledger=ledger, files={"rows": file})
    small = Manifest(ref=at, stage=listing.stage, identity={}, ledger=ledger, parts=(part,))
    nowhere = _Asked(store, Ref(name=f"canary/{output.ref.name}", version=output.ref.version), output.stage, {})
    return Canary(store, small, nowhere, frozenset(fetched), others)


def _rows(store: Store, listing: Manifest, key: str, uids: set[str] | frozenset[str]) -> pa.Table:
    (part,) = (each for each in listing.parts if each.key == key)
    table = read_table(store, listing, part, "rows")
    wanted = pa.array([bytes.fromhex(uid) for uid in sorted(uids)], table["uid"].type)
    return table.filter(pc.is_in(table["uid"], value_set=wanted))
