"""Count what a source's download came to, part by part: outcomes, hosts, bytes, passes, and how long hosts took.

Tallies are sums of integers, so neither the order of parts nor the number of workers changes one.
Counts come from published outcomes; times come from the measures beside them and stay apart.
"""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.storage import Store
from stages.manifest import Manifest, Part
from stages.ref import Ref
from stages.workspace import Output, Workspace

PARTS_PER_FOLD = 64
BINS_PER_DOUBLING = 8  # neighbouring bins are 9 % apart, so a quantile is right to within 5 %

ROWS = pa.schema([("outcome", pa.string()), ("attempt", pa.int16()), ("rows", pa.int64())])
HOSTS = pa.schema([("host", pa.string()), ("outcome", pa.string()), ("urls", pa.int64()), ("bytes_in", pa.int64())])
TIMES = pa.schema([("host", pa.string()), ("bin", pa.int16()), ("requests", pa.int64()), ("tries", pa.int64())])
_READ = {
    "uid": pa.binary(16),
    "url_id": pa.binary(16),
    "host": pa.string(),
    "outcome": pa.string(),
    "attempt": pa.int16(),
    "bytes": pa.int64(),
    "body_bytes": pa.int64(),
}


@dataclass(frozen=True)
class Tally:
    """Sums over some parts.

    Attributes:
        rows: Rows by outcome and by the pass that gave it.
        hosts: Distinct urls and bytes from the web, by host and outcome.
        times: Urls and tries by host and latency bin; empty where nothing was measured.
        bytes_out: Bytes of stored pictures, once per row.
    """

    rows: pa.Table = field(default_factory=ROWS.empty_table)
    hosts: pa.Table = field(default_factory=HOSTS.empty_table)
    times: pa.Table = field(default_factory=TIMES.empty_table)
    bytes_out: int = 0

    @property
    def outcomes(self) -> dict[str, int]:
        """Rows by outcome, sorted by name."""
        return _sums(self.rows, "outcome", "rows")

    @property
    def urls(self) -> int:
        """Distinct urls."""
        return int(pc.sum(self.hosts["urls"]).as_py() or 0)

    @property
    def bytes_in(self) -> int:
        """Bytes of bodies that the web sent, once per url."""
        return int(pc.sum(self.hosts["bytes_in"]).as_py() or 0)


def _sums(table: pa.Table, key: str, value: str) -> dict[str, int]:
    grouped = table.group_by(key).aggregate([(value, "sum")])
    return dict(sorted(zip(grouped[key].to_pylist(), grouped[f"{value}_sum"].to_pylist(), strict=True)))


def merge(tallies: Iterable[Tally]) -> Tally:
    """Return the sum of tallies, sorted, so that equal sums are equal tables."""
    found = list(tallies)
    return Tally(
        rows=_merged([each.rows for each in found], ROWS, ["outcome", "attempt"]),
        hosts=_merged([each.hosts for each in found], HOSTS, ["host", "outcome"]),
        times=_merged([each.times for each in found], TIMES, ["host", "bin"]),
        bytes_out=sum(each.bytes_out for each in found),
    )


def _merged(tables: Sequence[pa.Table], schema: pa.Schema, keys: list[str]) -> pa.Table:
    whole = pa.concat_tables([schema.empty_table(), *tables])
    values = [name for name in schema.names if name not in keys]
    summed = whole.group_by(keys).aggregate([(name, "sum") for name in values])
    columns = {name: summed[f"{name}_sum" if name in values else name] for name in schema.names}
    return pa.table(columns).cast(schema).sort_by([(key, "ascending") for key in keys])


def measures_key(ref: Ref, part: str) -> str:
    """Return the store key of what was measured while a part was fetched."""
    return ref.key(f"measures/{part}.parquet")


def tally_part(part: Part, output: Output) -> Tally:
    """Return the tally of one published part; a column that an older part lacks counts as unknown."""
    data = output.store.read(output.ref.key(part.files["outcomes"].name))
    table = pq.read_table(io.BytesIO(data))
    for name, kind in _READ.items():
        if name not in table.column_names:
            whole = table["uid"] if name == "url_id" else pa.nulls(table.num_rows, kind)
            table = table.append_column(name, whole)
    table = table.select(list(_READ))
    stored = int(pc.sum(table["bytes"]).as_py() or 0)
    rows = table.group_by(["outcome", "attempt"]).aggregate([([], "count_all")])
    firsts = _first_of_each(table)
    hosts = firsts.group_by(["host", "outcome"]).aggregate([([], "count_all"), ("body_bytes", "sum")])
    return Tally(
        rows=_as(rows, ROWS, {"rows": "count_all"}),
        hosts=_as(hosts, HOSTS, {"urls": "count_all", "bytes_in": "body_bytes_sum"}),
        times=_times(output.store, output.ref, part, firsts["uid"]),
        bytes_out=stored,
    )


def _as(table: pa.Table, schema: pa.Schema, names: dict[str, str]) -> pa.Table:
    columns = {name: table[names.get(name, name)] for name in schema.names}
    return pa.table({name: pc.fill_null(c, 0) if name in names else c for name, c in columns.items()}).cast(schema)


def _first_of_each(table: pa.Table) -> pa.Table:
    """Return one row per url: rows with the same url lie in the same part and share its answer."""
    ids = table["url_id"].combine_chunks().cast(pa.binary()).to_numpy(zero_copy_only=False)
    seen, firsts = set[bytes](), []
    for number, url_id in enumerate(ids):
        if url_id not in seen:
            seen.add(url_id)
            firsts.append(number)
    return table.take(pa.array(firsts, pa.int64()))


def _times(store: Store, ref: Ref, part: Part, uids: pa.ChunkedArray) -> pa.Table:
    key = measures_key(ref, part.key)
    if not store.exists(key):
        return TIMES.empty_table()
    table = pq.read_table(io.BytesIO(store.read(key)), columns=["uid", "host", "tries", "latency_ms"])
    known = pc.and_(pc.is_valid(table["latency_ms"]), pc.is_in(table["uid"], value_set=uids.combine_chunks()))
    table = table.filter(known)
    binned = pa.table(
        {
            "host": table["host"],
            "bin": pa.array(bin_of(table["latency_ms"].to_numpy()), pa.int16()),
            "tries": table["tries"],
        }
    )
    grouped = binned.group_by(["host", "bin"]).aggregate([([], "count_all"), ("tries", "sum")])
    return _as(grouped, TIMES, {"requests": "count_all", "tries": "tries_sum"})


def bin_of(milliseconds: np.ndarray) -> np.ndarray:
    """Return the latency bin of each time, at least one millisecond."""
    bins: np.ndarray = np.floor(np.log2(np.maximum(milliseconds, 1)) * BINS_PER_DOUBLING).astype(np.int16)
    return bins


def seconds_of(latency_bin: int) -> float:
    """Return the time in the middle of a bin, in seconds."""
    return float(2 ** ((latency_bin + 0.5) / BINS_PER_DOUBLING) / 1000)


def quantile(bins: Sequence[int], counts: Sequence[int], share: float) -> float:
    """Return the time in seconds below which this share of the counted answers came, to within 5 %."""
    order = np.argsort(bins)
    running = np.cumsum(np.asarray(counts)[order])
    place = int(np.searchsorted(running, share * running[-1]))
    return seconds_of(int(np.asarray(bins)[order][min(place, len(order) - 1)]))


def _fold(parts: Sequence[Part], output: Output) -> Tally:
    return merge(tally_part(part, output) for part in parts)


def tally(parts: Sequence[Part], output: Output, here: Workspace) -> Tally:
    """Return the tally of all parts; many parts are counted on the cluster."""
    chunks = [parts[start : start + PARTS_PER_FOLD] for start in range(0, len(parts), PARTS_PER_FOLD)]
    fold = partial(_fold, output=output)
    if len(chunks) <= 1:
        return merge(fold(chunk) for chunk in chunks)
    return merge(here.cluster.map(fold, chunks, cpus=here.placement.cpus_per_task))


def tally_of(store: Store, manifest: Manifest, here: Workspace) -> Tally:
    """Return the tally of a finished pool."""
    output = Output(store=store, ref=manifest.ref, stage=manifest.stage, identity=manifest.identity)
    return tally(manifest.parts, output, here)
