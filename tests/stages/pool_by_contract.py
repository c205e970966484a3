"""A listing and the outcomes and measures of its download, written as the contract between the stages says."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from infra.storage import Store
from stages.manifest import Ledger, Manifest, Part
from stages.outcome import ledger_of
from stages.ref import Ref
from stages.workspace import Output, parquet_bytes

OUTCOMES = pa.schema(
    [
        ("uid", pa.binary(16)),
        ("url_id", pa.binary(16)),
        ("host", pa.string()),
        ("outcome", pa.string()),
        ("http_status", pa.int16()),
        ("attempt", pa.int16()),
        ("bytes", pa.int64()),
        ("body_bytes", pa.int64()),
    ]
)
MEASURES = pa.schema(
    [
        ("uid", pa.binary(16)),
        ("host", pa.string()),
        ("tries", pa.int16()),
        ("latency_ms", pa.int32()),
        ("body_bytes", pa.int64()),
    ]
)
LISTING = pa.schema(
    [("uid", pa.binary(16)), ("url_id", pa.binary(16)), ("url", pa.string()), ("caption", pa.string())]
)


class Row(NamedTuple):
    url: str
    outcome: str = "fetched"
    caption: str = "a caption"
    attempt: int = 1
    stored: int = 1000
    body: int = 4000
    latency: int | None = 100
    tries: int = 1

    @property
    def url_id(self) -> bytes:
        return hashlib.sha256(self.url.encode()).digest()[:16]

    @property
    def uid(self) -> bytes:
        return hashlib.sha256(f"{self.url} {self.caption}".encode()).digest()[:16]

    @property
    def host(self) -> str:
        return self.url.partition("://")[2].partition("/")[0]


def list_rows(store: Store, parts: Sequence[Sequence[Row]], name: str = "listing/own", rejected: int = 0) -> Manifest:
    """Commit a listing; the rows that it refused itself are counted in its first part."""
    output = Output(store=store, ref=Ref(name=name, version="v1"), stage="list_urls", identity={})
    made = []
    for number, rows in enumerate(parts):
        table = pa.Table.from_pylist(
            [{"uid": r.uid, "url_id": r.url_id, "url": r.url, "caption": r.caption} for r in rows], schema=LISTING
        )
        refused = rejected if number == 0 else 0
        ledger = Ledger(listed=len(rows) + refused, kept=len(rows), rejected=refused)
        key = f"{number:06d}"
        made.append(output.part(key, f"{number}" * 20, ledger, {"rows": (f"{key}.parquet", parquet_bytes(table))}))
    return output.commit(made, totals={"rejected": {"no_caption": rejected}} if rejected else {})


def outcomes_of(rows: Sequence[Row]) -> pa.Table:
    kept = [
        {
            "uid": row.uid,
            "url_id": row.url_id,
            "host": row.host,
            "outcome": row.outcome,
            "attempt": row.attempt,
            "bytes": row.stored if row.outcome == "fetched" else None,
            "body_bytes": row.body if row.outcome == "fetched" else None,
        }
        for row in sorted(rows, key=lambda row: row.uid)
    ]
    return pa.Table.from_pylist(kept, schema=OUTCOMES)


def publish_part(output: Output, key: str, digest: str, rows: Sequence[Row], factor: float = 1.0) -> Part:
    """Publish a part; `factor` stretches its clock values, which no result may show."""
    measured = [
        {
            "uid": row.uid,
            "host": row.host,
            "tries": row.tries,
            "latency_ms": None if row.latency is None else round(row.latency * factor),
        }
        for row in rows
    ]
    table = pa.Table.from_pylist(measured, schema=MEASURES)
    output.store.write(output.ref.key(f"measures/{key}.parquet"), parquet_bytes(table))
    counts = Counter(row.outcome for row in rows)
    facts: dict[str, Any] = {"outcomes": dict(sorted(counts.items()))}
    facts["urls"] = {"listed": len(rows), "distinct": len({row.url for row in rows})}
    files = {"outcomes": (f"{key}.parquet", parquet_bytes(outcomes_of(rows)))}
    return output.part(key, digest, ledger_of(counts), files, facts)


def pool_output(store: Store, name: str = "pool/own", version: str = "v1", **identity: Any) -> Output:
    return Output(store=store, ref=Ref(name=name, version=version), stage="download", identity=identity)
