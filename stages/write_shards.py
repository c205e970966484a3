"""Pack what the filters kept into WebDataset shards: the same rows give the same bytes on any cluster."""

import hashlib
import json
from functools import partial

from pydantic import BaseModel, ConfigDict, Field

from stages.manifest import File, Ledger, Manifest, ManifestError, Part, digest_of
from stages.tars import read_tar, tar_bytes
from stages.workspace import Output, Workspace, read_file, read_table

VERSION = 1


class Parameters(BaseModel):
    """Size and order of shards."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: str = Field(description="Whose verdicts decide: clean or caption_quality.")
    rows_per_shard: int = Field(default=2000, ge=1)
    seed: int = Field(default=0, description="Seed of the order of samples.")


def place(seed: int, uid: str) -> str:
    """Return the sort key of a sample: a hash, so shards are a fair mixture of all sources."""
    return hashlib.sha256(f"{seed}/{uid}".encode()).hexdigest()


def shard_part(
    item: tuple[str, str, list[tuple[str, str, str]]],
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


def run(parameters: Parameters, output: Output, here: Workspace) -> Manifest:
    """Shuffle the kept rows of all sources by hash and write them in shards."""
    verdicts = here.all(f"verdicts/{parameters.policy}")
    if not verdicts:
        raise ManifestError(f"no verdicts of policy {parameters.policy!r} were given")
    pools = {manifest.ref.name.rpartition("/")[2]: manifest for manifest in here.all("pool")}
    signals = {manifest.ref.name.rpartition("/")[2]: manifest for manifest in here.all("signals")}
    rows: list[tuple[str, str, str]] = []
    languages: dict[str, str | None] = {}
    judged = 0
    per_source: dict[str, int] = {}
    for manifest in verdicts:
        source = manifest.ref.name.rpartition("/")[2]
        scored = {part.key: part for part in signals[source].parts}
        for part in manifest.parts:
            table = read_table(output.store, manifest, part, "verdicts")
            spoken = read_table(output.store, signals[source], scored[part.key], "language")
            of = dict(zip(spoken["uid"].to_pylist(), spoken["value"].to_pylist(), strict=True))
            judged += table.num_rows
            for uid, mask in zip(table["uid"].to_pylist(), table["reasons"].to_pylist(), strict=True):
                if not mask:
                    rows.append((uid.hex(), source, part.key))
                    languages[uid.hex()] = of.get(uid)
                    per_source[source] = per_source.get(source, 0) + 1
    if not rows:
        raise ManifestError(
            f"policy {parameters.policy} kept no row of {judged}; loosen its thresholds and filter again"
        )
    rows.sort(key=lambda row: place(parameters.seed, row[0]))
    tables = {source: {part.key: part.files["pictures"] for part in pool.parts} for source, pool in pools.items()}
    items = []
    for number, start in enumerate(range(0, len(rows), parameters.rows_per_shard)):
        piece = rows[start : start + parameters.rows_per_shard]
        digest = digest_of([list(row) for row in piece])
        items.append((f"{number:06d}", digest, (f"{number:06d}", digest, piece)))
    work = partial(shard_part, output=output, pools=pools, tables=tables, languages=languages)
    parts = here.map_parts(output, work, items, unit="shards")
    ledger = Ledger(listed=judged, kept=len(rows), rejected=judged - len(rows))
    return output.commit(parts, ledger=ledger, totals={"per_source": dict(sorted(per_source.items()))})
