"""A store with signals and pictures of random rows, judged by both policies."""

import hashlib

import numpy as np
import pyarrow as pa
from random_rows import rows

from filters.policies import Policy, caption_quality, clean
from infra.cluster import Cluster, InlineCluster
from infra.storage import Store
from stages.manifest import Ledger, Manifest
from stages.materialize import StageSpec, materialize
from stages.ref import Ref
from stages.tars import tar_bytes
from stages.workspace import Output, parquet_bytes

POLICIES = ("clean", "caption_quality")


def uids_of(source: str, seed: int, size: int) -> list[bytes]:
    return sorted(hashlib.sha256(f"{source} {seed} {n}".encode()).digest()[:16] for n in range(size))


def store_signals(store: Store, source: str, version: str = "tiny", parts: int = 3, size: int = 120) -> None:
    """Publish `signals/<source>` and `pool/<source>` of random rows."""
    made: dict[str, list[object]] = {"signals": [], "pool": []}
    outputs = {
        kind: Output(store, Ref(name=f"{kind}/{source}", version=version), "score", {"inputs": {}}) for kind in made
    }
    for seed in range(parts):
        key, uids, ledger = f"{seed:06d}", uids_of(source, seed, size), Ledger(listed=size, kept=size)
        columns = rows(seed, size)
        identity = pa.array(uids, pa.binary(16))
        files = {}
        for name, column in columns.items():
            value = column if isinstance(column, pa.Array) else pa.array(column, from_pandas=True)
            files[name] = (f"{name}/{key}.parquet", parquet_bytes(pa.table({"uid": identity, "value": value})))
        tar = tar_bytes([(uid.hex(), {"jpg": b"\xff\xd8", "txt": b"x"}) for uid in uids])
        made["signals"].append(outputs["signals"].part(key, "d", ledger, files))
        made["pool"].append(outputs["pool"].part(key, "d", ledger, {"pictures": (f"{key}.tar", tar)}))
    for kind, output in outputs.items():
        output.commit(made[kind], totals={"outcomes": {"fetched": parts * size}})  # type: ignore[arg-type]


def policy_of(name: str, source: str) -> Policy:
    return clean(min_pixels=32) if name == "clean" else caption_quality(source)


def judge(
    store: Store,
    policy: Policy,
    source: str,
    version: str = "tiny",
    cluster: Cluster | None = None,
    made_from: str = "",
) -> Manifest:
    """Run the stage that judges."""
    before = [f"verdicts/clean/{source}"] if policy.name != "clean" else []
    names = [f"signals/{source}", f"pool/{source}", *before]
    spec = StageSpec(
        stage="filter",
        artifact=Ref(name=f"verdicts/{policy.name}/{source}", version=version),
        parameters={"source": source, "policy": policy.model_dump(mode="json")},
        inputs=tuple(Ref(name=name, version=made_from or version) for name in names),
    )
    return materialize(spec, store, cluster or InlineCluster(), progress=False)


def judged_store(store: Store, *sources: str) -> Store:
    """Return a store with verdicts of both policies."""
    for source in sources:
        store_signals(store, source)
        for name in POLICIES:
            judge(store, policy_of(name, source), source)
    return store


def languages_of(seed: int, size: int) -> np.ndarray:
    return np.array([name or "unknown" for name in rows(seed, size)["language"].to_pylist()])
