"""What lies where: the index beside each shard, the plan a shard is made from, and the copying in between."""

import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from infra.scratch import scratch_folder
from infra.storage import Store
from stages.manifest import File, Ledger, Manifest, ManifestError, Part
from stages.tars import BLOCK, MEMBERS, Sample, ending, is_numbered, samples_of
from stages.workspace import Output, parquet_bytes, read_table

READ_BYTES = 16 << 20
"""Neighbouring stretches are read together up to this size."""

ABOUT = [
    ("uid", pa.binary(16)),
    ("source", pa.string()),
    ("language", pa.string()),
    ("url_id", pa.binary(16)),
    ("host", pa.string()),
    ("sha256", pa.binary(32)),
    ("body_sha256", pa.binary(32)),
    ("phash", pa.uint64()),
]
"""What a sample is known by: `sha256` of the picture as stored, `body_sha256` as the web sent it; null: not known."""

PLACES = [("offset", pa.int64()), ("bytes", pa.int64()), ("sample_sha256", pa.binary(32))]
"""A sample's stretch of its archive, headers and padding included."""

INDEX = pa.schema(
    [*ABOUT, *PLACES, *((f"{suffix}_{what}", pa.int64()) for suffix in MEMBERS for what in ("offset", "bytes"))]
)
"""One row per sample of a shard, in its order; with it a member is read without opening the archive."""

PICTURES = "pictures"
"""How the stretch of a sample's numbered pictures is called, among its members."""
KNOWN_BY = "known_by"
"""SHA-256 of each picture of a sample in order, and of its row where it is text alone."""
PICTURES_INDEX = pa.schema(
    [
        *INDEX,
        (f"{PICTURES}_offset", pa.int64()),
        (f"{PICTURES}_bytes", pa.int64()),
        (KNOWN_BY, pa.list_(pa.binary(32))),
    ]
)
"""The index of shards whose samples may have several pictures each: conversations."""

PLAN = pa.schema([*ABOUT, ("tar", pa.string()), *PLACES])
"""One row per sample of a shard that is to be made: where its stretch lies now, `tar` a key in the store."""

Row: TypeAlias = dict[str, Any]
Finish: TypeAlias = Callable[[Row, bytes], bytes]


def cuts(sizes: Sequence[int], rows: int, most_bytes: int) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of each shard: at most `rows` samples and `most_bytes`, yet one sample at least."""
    start = held = 0
    for number, size in enumerate(sizes):
        if number > start and (number - start >= rows or held + size > most_bytes):
            yield start, number
            start, held = number, 0
        held += size
    if len(sizes) > start:
        yield start, len(sizes)


def block_of(shard: str) -> str:
    """Return the block that a shard's key names; blocks never share samples, so each is resharded alone."""
    return shard.partition("-")[0]


def plan_files(
    block: str, plan: pa.Table, sizes: Sequence[int], rows: int, most_bytes: int
) -> dict[str, tuple[str, bytes]]:
    """Return one file per shard to be made: its key -> (file name, rows of `plan`)."""
    return {
        (key := f"{block}-{number:06d}"): (f"plan/{key}.parquet", parquet_bytes(plan.slice(start, stop - start)))
        for number, (start, stop) in enumerate(cuts(sizes, rows, most_bytes))
    }


def planned_items(plans: Sequence[Part]) -> list[tuple[str, str, tuple[str, File]]]:
    """Return the shards of finished plans as `map_parts` takes them."""
    return [(key, file.sha256, (key, file)) for plan in plans for key, file in sorted(plan.files.items())]


def as_it_is(_: Row, stretch: bytes) -> bytes:
    """Return a sample's stretch unchanged: it comes from a shard."""
    return stretch


def planned(index: pa.Table, tar: str) -> pa.Table:
    """Return rows of a shard's index as a plan that copies them from its archive, a key in the store."""
    column = pa.array([tar] * index.num_rows, pa.string())
    return index.append_column("tar", column).select(PLAN.names).cast(PLAN)


def make_shard(item: tuple[str, File], output: Output, finish: Finish = as_it_is) -> Part:
    """Publish one shard of a plan that lies in the artifact's own folder.

    Raises:
        ManifestError: The plan, or what is copied, is not what was planned.
    """
    key, file = item
    data = output.store.read(output.ref.key(file.name))
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise ManifestError(f"{output.ref.key(file.name)} is damaged; run stage {output.stage} again with --force")
    plan = pq.read_table(io.BytesIO(data), schema=PLAN)
    ledger = Ledger(listed=plan.num_rows, kept=plan.num_rows)
    with copied(key, output.store, plan, finish) as files:
        return output.part(key, file.sha256, ledger, files, {"per_source": per_source(plan)})


def per_source(samples: pa.Table) -> dict[str, int]:
    """Return how many samples each source has in a plan or index."""
    return dict(sorted(Counter(samples["source"].to_pylist()).items()))


@contextmanager
def copied(
    key: str, store: Store, plan: pa.Table, finish: Finish = as_it_is
) -> Iterator[dict[str, tuple[str, bytes | Path]]]:
    """Write a shard and its index by copying stretches; yield both as `Output.part` takes them.

    Args:
        key: The shard's key.
        store: Where the stretches lie.
        plan: Rows of `PLAN`, in the order of the shard.
        finish: Turns a row and its stretch into the sample's stretch in the shard.

    Raises:
        ManifestError: What is copied is not what was planned.
    """
    with scratch_folder("shard") as folder:
        path, index = folder / "shard.tar", []
        with path.open("wb") as out:
            for row, stretch in stretches(store, plan.to_pylist()):
                sample = finish(row, stretch)
                index.append(entry(row, sample, out.tell()))
                out.write(sample)
            out.write(ending(out.tell()))
        table = pa.Table.from_pylist(index, schema=INDEX)
        yield {"tar": (f"{key}.tar", path), "index": (f"{key}.parquet", parquet_bytes(table))}


def places_in(sample: Sample) -> dict[str, tuple[int, int]]:
    """Return (offset, size) of each member of a sample, and of the stretch of its numbered pictures as one."""
    found = {each.suffix: (each.offset, len(each.data)) for each in sample.members.values()}
    numbered = [place for suffix, place in found.items() if is_numbered(suffix)]
    single = {suffix: place for suffix, place in found.items() if not is_numbered(suffix)}
    if not numbered:
        return single
    start, (last, size) = numbered[0][0] - BLOCK, numbered[-1]
    return {**single, PICTURES: (start, last + size + -size % BLOCK - start)}


def entry(row: Row, sample: bytes, offset: int) -> Row:
    """Return a sample's row in the index of the shard that it is written to at `offset`."""
    (found,) = samples_of(io.BytesIO(sample), whole=False)
    places = {
        f"{suffix}_{what}": value
        for suffix, (start, size) in places_in(found).items()
        for what, value in (("offset", offset + start), ("bytes", size))
    }
    hashed = {"bytes": len(sample), "sample_sha256": hashlib.sha256(sample).digest()}
    return {**{name: row[name] for name, _ in ABOUT}, "offset": offset, **hashed, **places}


def stretches(store: Store, plan: Sequence[Row]) -> Iterator[tuple[Row, bytes]]:
    """Yield each row of a plan with its stretch; neighbours in one archive are read together.

    Raises:
        ManifestError: The bytes are not those that were indexed.
    """
    at = 0
    while at < len(plan):
        first, stop = plan[at], at + 1
        end = first["offset"] + first["bytes"]
        while stop < len(plan) and plan[stop]["tar"] == first["tar"] and plan[stop]["offset"] == end:
            if end + plan[stop]["bytes"] - first["offset"] > READ_BYTES:
                break
            end, stop = end + plan[stop]["bytes"], stop + 1
        together = store.read_range(first["tar"], first["offset"], end)
        for row in plan[at:stop]:
            start = row["offset"] - first["offset"]
            stretch = together[start : start + row["bytes"]]
            if hashlib.sha256(stretch).digest() != row["sample_sha256"]:
                raise ManifestError(
                    f"sample {row['uid'].hex()} in {row['tar']} differs from its index; "
                    "`internvl verify` lists damage, then make that artifact again"
                )
            yield row, stretch
        at = stop


def read_index(store: Store, shards: Manifest, part: Part) -> pa.Table:
    """Return the index of a shard.

    Raises:
        ManifestError: The shard has none, or it is damaged.
    """
    if "index" not in part.files:
        raise ManifestError(
            f"shard {part.key} of {shards.ref} has no index: it was written by an earlier version, "
            "or not by write_shards; write it again: internvl rerun write_shards --force"
        )
    found = read_table(store, shards, part, "index")
    return found.select((PICTURES_INDEX if PICTURES_INDEX.names[-1] in found.column_names else INDEX).names)


def layout(rows_per_shard: int, bytes_per_shard: int) -> dict[str, int]:
    """Return what a manifest's totals tell about the size of shards, for those who cut them again."""
    return {"rows_per_shard": rows_per_shard, "bytes_per_shard": bytes_per_shard}


def layout_of(shards: Manifest) -> dict[str, int]:
    """Return how shards were cut.

    Raises:
        ManifestError: They do not tell.
    """
    found: dict[str, int] | None = shards.totals.get("layout")
    if found is None:
        raise ManifestError(
            f"{shards.ref} does not tell how its shards were cut: it was written by an earlier version, or not by "
            "write_shards; write it again: internvl rerun write_shards --force"
        )
    return found


def shard_totals(parts: Sequence[Part], sizes: dict[str, int], taken: dict[str, Any]) -> dict[str, Any]:
    """Return the totals of shards: samples per source, sizes aimed at, and what takedown lists took."""
    counted = sum((Counter(part.facts["per_source"]) for part in parts), Counter[str]())
    return {"per_source": dict(sorted(counted.items())), "layout": sizes, "taken_down": taken}


def sample_json(uid: str, source: str, language: str | None, caption: str) -> bytes:
    """Return a sample's `.json`: what a reader of the shards needs to know of it."""
    facts = {"uid": uid, "source": source, "language": language, "caption": caption}
    return json.dumps(facts, sort_keys=True, ensure_ascii=False).encode()
