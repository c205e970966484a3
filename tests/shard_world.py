"""A small world in front of the shards: pools, signals and verdicts of two sources, made in a moment."""

import hashlib
import io
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import pyarrow as pa
from PIL import Image

from infra.cluster import Cluster, InlineCluster
from infra.storage import Store
from stages.manifest import Ledger, Manifest, Part
from stages.materialize import StageSpec, materialize
from stages.ref import Ref
from stages.sources.identity import uid_of, url_id_of
from stages.tars import tar_bytes
from stages.workspace import Output, parquet_bytes

SOURCES = {"cc3m": "de", "laion_en": "en"}
PARTS, ROWS = 3, 12
KINDS = ("verdicts/clean", "pool", "signals")


@cache
def rows() -> tuple[dict[str, Any], ...]:
    """Return all rows of the world; every fourth of a part is rejected by its verdict."""
    made = []
    for source, language in SOURCES.items():
        for number in range(PARTS * ROWS):
            host = f"{'img.' if number % 2 else ''}{source.replace('_', '-')}.example.com"
            url, caption = f"https://{host}/{number}.jpg", f"Bild {number} — größer, 图片 {source}"
            out = io.BytesIO()
            Image.new("RGB", (24, 16), (number * 7 % 256, len(source) * 20, 90)).save(out, "JPEG")
            made.append(
                {
                    "source": source,
                    "part": f"{number // ROWS:06d}",
                    "uid": uid_of(source, url, caption),
                    "url": url,
                    "url_id": url_id_of(url),
                    "host": host,
                    "caption": caption,
                    "language": language if number % 5 else None,
                    "jpg": out.getvalue(),
                    "body_sha256": hashlib.sha256(url.encode()).hexdigest(),
                    "phash": (number + 1) * len(source) * 0x9E3779B97F4A7C15 % 2**64,
                    "reasons": int(number % 4 == 3),
                }
            )
    return tuple(sorted(made, key=lambda row: (row["source"], row["part"], row["uid"])))


def kept_rows() -> list[dict[str, Any]]:
    """Return the rows that no rule took."""
    return [row for row in rows() if not row["reasons"]]


def column(found: Sequence[dict[str, Any]], *names: str) -> bytes:
    """Return columns of rows as parquet."""
    types = {"uid": pa.binary(16), "url_id": pa.binary(16), "phash": pa.uint64(), "reasons": pa.uint64()}
    schema = pa.schema([(name, types.get(name, pa.string())) for name in names])
    return parquet_bytes(pa.Table.from_pylist([{name: row[name] for name in names} for row in found], schema=schema))


def make_world(
    store: Store, current: bool = True, keep: Callable[[dict[str, Any]], bool] = lambda row: not row["reasons"]
) -> None:
    """Publish everything that write_shards reads; a pool that is not `current` is one of an earlier version."""
    for source in SOURCES:
        for kind in KINDS:
            output = Output(store, Ref(name=f"{kind}/{source}", version="v1"), kind.partition("/")[0], {"inputs": {}})
            parts: list[Part] = []
            for key in sorted({row["part"] for row in rows()}):
                found = [row for row in rows() if (row["source"], row["part"]) == (source, key)]
                passed = sum(keep(row) for row in found) if kind.startswith("verdicts") else len(found)
                ledger = Ledger(listed=len(found), kept=passed, rejected=len(found) - passed)
                parts.append(output.part(key, key, ledger, _files(kind, key, found, current, keep)))
            output.commit(parts)


def _files(
    kind: str, key: str, found: list[dict[str, Any]], current: bool, keep: Callable[[dict[str, Any]], bool]
) -> dict[str, tuple[str, bytes]]:
    name = f"{key}.parquet"
    if kind == "signals":
        spoken = [{"uid": row["uid"], "value": row["language"]} for row in found]
        return {"language": (name, column(spoken, "uid", "value"))}
    if kind == "pool":
        known = ("uid", "url_id", "host", "phash", "body_sha256") if current else ("uid",)
        tar = tar_bytes((row["uid"].hex(), {"jpg": row["jpg"], "txt": row["caption"].encode()}) for row in found)
        return {"outcomes": (name, column(found, *known)), "pictures": (f"{key}.tar", tar)}
    judged = [{**row, "reasons": 0 if keep(row) else 1} for row in found]
    return {"verdicts": (name, column(judged, "uid", "reasons"))}


def inputs(*kinds: str) -> tuple[Ref, ...]:
    """Return the artifacts of some kinds, of all kinds when none is named."""
    return tuple(Ref(name=f"{kind}/{source}", version="v1") for kind in kinds or KINDS for source in SOURCES)


def write(
    store: Store, version: str = "v1", cluster: Cluster | None = None, refs: tuple[Ref, ...] = (), **given: Any
) -> Manifest:
    """Write the world's shards, small ones: three blocks of two parts."""
    parameters = {"policy": "clean", "rows_per_shard": 7, "parts_per_block": 2, **given}
    artifact = Ref(name="shards/clean", version=version)
    spec = StageSpec(stage="write_shards", artifact=artifact, parameters=parameters, inputs=refs or inputs())
    return materialize(spec, store, cluster or InlineCluster())


def derive(store: Store, stage: str, version: str, of: str = "v1", **given: Any) -> Manifest:
    """Make a new version of the shards with one of the stages beside the road."""
    artifact, old = Ref(name="shards/clean", version=version), Ref(name="shards/clean", version=of)
    return materialize(
        StageSpec(stage=stage, artifact=artifact, parameters=given, inputs=(old,)), store, InlineCluster()
    )


def hashes(shards: Manifest) -> dict[str, dict[str, str]]:
    """Return the hash of every file by shard and role."""
    return {part.key: {role: file.sha256 for role, file in part.files.items()} for part in shards.parts}
