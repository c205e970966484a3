"""Pack what the filters kept into WebDataset shards: the same rows give the same bytes on any cluster.

Parts of all sources are dealt into blocks by hash. For each block the picture files are read once, one sample in
memory, to find where each kept sample lies; its samples are shuffled by hash and cut into shards; then each shard is
made by copying those stretches. A block's shards depend on its samples alone, so `stages/reshard.py` can cut them
again without the pool and gets the same bytes.

Every takedown list in the store is honoured, whatever the parameters: see `stages/takedown.py`.
"""

import hashlib
import io
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any, TypeAlias

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from stages.kept_samples import Source, kept_rows
from stages.manifest import Ledger, Manifest, ManifestError, Part, digest_of
from stages.shard_index import PLAN, Row, layout, make_shard, plan_files, planned_items, sample_json, shard_totals
from stages.takedown_list import load_lists, registered
from stages.tars import sample_bytes, samples_of
from stages.workspace import Output, Workspace

VERSION = 2

PartName: TypeAlias = tuple[str, str]
"""Source, and key of one of its parts."""


class Parameters(BaseModel):
    """Size and order of shards."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: str = Field(description="Whose verdicts decide: clean or caption_quality.")
    rows_per_shard: int = Field(default=2000, ge=1, description="A shard holds at most this many samples,")
    bytes_per_shard: int = Field(
        default=1_000_000_000, ge=1, description="and at most this many bytes, unless it is one sample."
    )
    seed: int = Field(default=0, description="Seed of the order of samples.")
    parts_per_block: int = Field(
        default=32,
        ge=1,
        description="A shard mixes the rows of at most this many parts, so that a picture file is read a bounded "
        "number of times however large the whole is.",
    )


def place(seed: int, uid: str) -> str:
    """Return the sort key of a sample: a hash, so shards are a fair mixture of all sources."""
    return hashlib.sha256(f"{seed}/{uid}".encode()).hexdigest()


def blocks(parts: Sequence[PartName], parameters: Parameters) -> list[list[PartName]]:
    """Return the parts of each block: dealt by hash, so that a block mixes sources, whatever the rows in them."""
    ordered = sorted(parts, key=lambda part: (place(parameters.seed, "/".join(part)), part))
    size = parameters.parts_per_block
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


def plan_block(
    item: tuple[str, str, list[PartName]],
    output: Output,
    sources: dict[str, Source],
    parameters: Parameters,
    lists: tuple[str, ...],
) -> Part:
    """Find the kept samples of a block and plan its shards; publishes one plan per shard."""
    block, digest, names = item
    takedown = load_lists(output.store, lists)
    taken: Counter[str] = Counter()
    judged, tables, sizes = 0, [], list[int]()
    for source, key in names:
        part = sources[source].part(sources[source].verdicts, key)
        judged += part.ledger.listed
        found = list(kept_rows(output, source, sources[source], key))
        table = pa.Table.from_pylist([row for row, _ in found], schema=PLAN)
        kinds = takedown.kinds(table, f"{sources[source].pool.ref} part {key}")
        taken.update(kind for kind in kinds if kind)
        tables.append(table.filter(pa.array([kind is None for kind in kinds], pa.bool_())))
        sizes += [size for (_, size), kind in zip(found, kinds, strict=True) if kind is None]
    plan = pa.concat_tables(tables)
    uids = [uid.hex() for uid in plan["uid"].to_pylist()]
    order = sorted(range(len(uids)), key=lambda number: place(parameters.seed, uids[number]))
    plan, sizes = plan.take(pa.array(order, pa.int64())), [sizes[number] for number in order]
    files = plan_files(block, plan, sizes, parameters.rows_per_shard, parameters.bytes_per_shard)
    ledger = Ledger(listed=judged, kept=len(uids), rejected=judged - len(uids))
    return output.part(f"plan-{block}", digest, ledger, files, {"taken_down": dict(sorted(taken.items()))})


def with_json(row: Row, stretch: bytes) -> bytes:
    """Return a pool's sample as a shard holds it: picture and caption unchanged, and what is known of it."""
    (sample,) = samples_of(io.BytesIO(stretch), whole=False)
    members = {suffix: member.data for suffix, member in sample.members.items()}
    facts = sample_json(sample.key, row["source"], row["language"], members["txt"].decode())
    return sample_bytes(sample.key, {**members, "json": facts})


def _source_name(manifest: Manifest) -> str:
    return manifest.ref.name.rpartition("/")[2]


def _sources(parameters: Parameters, here: Workspace) -> dict[str, Source]:
    def named(prefix: str) -> dict[str, Manifest]:
        return {_source_name(manifest): manifest for manifest in here.all(prefix)}

    verdicts, signals, pools = (named(prefix) for prefix in (f"verdicts/{parameters.policy}", "signals", "pool"))
    if not verdicts:
        raise ManifestError(f"no verdicts of policy {parameters.policy!r} were given")
    if missing := sorted(set(verdicts) - set(signals) | set(verdicts) - set(pools)):
        raise ManifestError(f"verdicts of {missing[0]} were given without its pool and signals; give all three")
    return {name: Source(each, signals[name], pools[name]) for name, each in verdicts.items()}


def _items(
    sources: dict[str, Source], parameters: Parameters, lists: tuple[str, ...]
) -> list[tuple[str, str, tuple[str, str, list[PartName]]]]:
    """Return the blocks as `map_parts` takes them, each with the hash of all that it reads."""
    parts = [(name, part.key) for name, source in sources.items() for part in source.verdicts.parts]
    hashes = {
        (name, manifest.ref.name, part.key): sorted(file.sha256 for file in part.files.values())
        for name, source in sources.items()
        for manifest in (source.verdicts, source.signals, source.pool)
        for part in manifest.parts
    }
    read: dict[PartName, list[Any]] = {}
    for (name, artifact, key), files in sorted(hashes.items()):
        read.setdefault((name, key), []).append([artifact, files])
    items = []
    for number, names in enumerate(blocks(parts, parameters)):
        digest = digest_of([[[*name, read[name]] for name in names], list(lists)])
        items.append((f"plan-{number:06d}", digest, (f"{number:06d}", digest, names)))
    return items


def run(parameters: Parameters, output: Output, here: Workspace) -> Manifest:
    """Shuffle the kept rows of all sources by hash and write them in shards."""
    sources, lists = _sources(parameters, here), registered(here.store)
    work = partial(plan_block, output=output, sources=sources, parameters=parameters, lists=lists)
    plans = here.map_parts(output, work, _items(sources, parameters, lists), unit="blocks", light=True)
    ledger = sum((plan.ledger for plan in plans), Ledger(listed=0, kept=0))
    taken = sum((Counter(plan.facts["taken_down"]) for plan in plans), Counter[str]())
    if not ledger.kept:
        raise ManifestError(
            f"policy {parameters.policy} kept no row of {ledger.listed}; loosen its thresholds and filter again"
            + (f" ({taken.total()} rows were taken down)" if taken else "")
        )
    parts = here.map_parts(
        output, partial(make_shard, output=output, finish=with_json), planned_items(plans), unit="shards", light=True
    )
    sizes = layout(parameters.rows_per_shard, parameters.bytes_per_shard)
    taken_down = {"lists": len(lists), "rows": dict(sorted(taken.items()))}
    return output.commit(parts, ledger=ledger, totals=shard_totals(parts, sizes, taken_down))
