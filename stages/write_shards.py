"""Pack what the filters kept into WebDataset shards: the same rows give the same bytes on any cluster."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import groupby
from typing import Any, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from stages.manifest import File, Ledger, Manifest, ManifestError, Part, digest_of
from stages.tars import read_tar, tar_bytes
from stages.workspace import Output, Workspace, read_file, read_table

VERSION = 1

Row: TypeAlias = tuple[str, str, str]
"""uid, source, key of the pool part that holds the picture."""


class Parameters(BaseModel):
    """Size and order of shards."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: str = Field(description="Whose verdicts decide: clean or caption_quality.")
    rows_per_shard: int = Field(default=2000, ge=1)
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


def shard_part(
    item: tuple[str, str, list[Row]],
    output: Output,
    pools: dict[str, Manifest],
    tables: dict[str, dict[str, File]],
    languages: dict[str, str | None],
) -> Part:
    """Write one shard from (uid, source, pool part key) rows, in the order given."""
    key, digest, rows = item
    needed: dict[tuple[str, str], set[str]] = {}
    for uid, source, part_key in rows:
        needed.setdefault((source, part_key), set()).add(uid)
    found: dict[str, dict[str, bytes]] = {}
    for (source, part_key), uids in sorted(needed.items()):
        for uid, members in read_tar(read_file(output.store, pools[source], tables[source][part_key])):
            if uid in uids:
                facts = {"uid": uid, "source": source, "language": languages[uid], "caption": members["txt"].decode()}
                found[uid] = {**members, "json": json.dumps(facts, sort_keys=True, ensure_ascii=False).encode()}
    if missing := [uid for uid, _, _ in rows if uid not in found]:
        raise ManifestError(
            f"sample {missing[0]} was kept but its picture is not in the pool; verify the pool artifacts"
        )
    tar = tar_bytes((uid, found[uid]) for uid, _, _ in rows)
    return output.part(key, digest, Ledger(listed=len(rows), kept=len(rows)), {"tar": (f"{key}.tar", tar)})


def _kept(output: Output, verdicts: list[Manifest], signals: dict[str, Manifest]) -> list[dict[str, Any]]:
    """Return uid, source, pool part and language of every row that no rule took."""
    found: list[dict[str, Any]] = []
    for manifest in verdicts:
        source = _source(manifest)
        scored = {part.key: part for part in signals[source].parts}
        for part in manifest.parts:
            table = read_table(output.store, manifest, part, "verdicts")
            spoken = read_table(output.store, signals[source], scored[part.key], "language")
            of = dict(zip(spoken["uid"].to_pylist(), spoken["value"].to_pylist(), strict=True))
            for uid, mask in zip(table["uid"].to_pylist(), table["reasons"].to_pylist(), strict=True):
                if not mask:
                    found.append({"uid": uid.hex(), "source": source, "part": part.key, "language": of.get(uid)})
    return found


def _source(manifest: Manifest) -> str:
    return manifest.ref.name.rpartition("/")[2]


def blocks(rows: list[Row], parameters: Parameters) -> Iterator[list[Row]]:
    """Yield the rows of each shard: parts are dealt into blocks by hash, and rows are shuffled inside a block."""
    parts = sorted({(row[1], row[2]) for row in rows}, key=lambda part: place(parameters.seed, "/".join(part)))
    block = {part: number // parameters.parts_per_block for number, part in enumerate(parts)}
    ordered = sorted(rows, key=lambda row: (block[row[1], row[2]], place(parameters.seed, row[0])))
    for _, inside in groupby(ordered, key=lambda row: block[row[1], row[2]]):
        whole = list(inside)
        for start in range(0, len(whole), parameters.rows_per_shard):
            yield whole[start : start + parameters.rows_per_shard]


def run(parameters: Parameters, output: Output, here: Workspace) -> Manifest:
    """Shuffle the kept rows of all sources by hash and write them in shards."""
    verdicts = here.all(f"verdicts/{parameters.policy}")
    if not verdicts:
        raise ManifestError(f"no verdicts of policy {parameters.policy!r} were given")
    pools = {_source(manifest): manifest for manifest in here.all("pool")}
    kept = _kept(output, verdicts, {_source(manifest): manifest for manifest in here.all("signals")})
    judged = sum(manifest.ledger.listed for manifest in verdicts)
    if not kept:
        raise ManifestError(
            f"policy {parameters.policy} kept no row of {judged}; loosen its thresholds and filter again"
        )
    rows = [(row["uid"], row["source"], row["part"]) for row in kept]
    languages = {row["uid"]: row["language"] for row in kept}
    tables = {source: {part.key: part.files["pictures"] for part in pool.parts} for source, pool in pools.items()}
    items = []
    for number, piece in enumerate(blocks(rows, parameters)):
        digest = digest_of([list(row) for row in piece])
        items.append((f"{number:06d}", digest, (f"{number:06d}", digest, piece)))
    work = partial(shard_part, output=output, pools=pools, tables=tables, languages=languages)
    parts = here.map_parts(output, work, items, unit="shards", light=True)
    ledger = Ledger(listed=judged, kept=len(rows), rejected=judged - len(rows))
    per_source = Counter(row[1] for row in rows)
    return output.commit(parts, ledger=ledger, totals={"per_source": dict(sorted(per_source.items()))})
