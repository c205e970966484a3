"""A store with a chain of artifacts, and helpers that change it as runs do."""

import json
import time
from typing import Any

from infra.storage import Store
from pipelines.live.shelf import Shelf
from pipelines.report_server import look
from stages.manifest import Ledger, Manifest, load
from stages.materialize import StageSpec
from stages.ref import Ref
from stages.workspace import Output

CHAIN = (
    ("list_urls", "listing/coyo", ()),
    ("download", "pool/coyo", ("listing/coyo",)),
    ("score", "signals/coyo", ("pool/coyo",)),
    ("write_shards", "shards/clean", ("signals/coyo", "pool/coyo")),
    ("contrastive", "checkpoints/contrastive", ("shards/clean",)),
    ("evaluate", "evaluations/contrastive", ("checkpoints/contrastive", "shards/clean")),
)


def make(
    store: Store, name: str, version: str = "v1", inputs: tuple[str, ...] = (), parts: int = 2, **totals: Any
) -> Manifest:
    """Finish an artifact; inputs are `name@version`, or a name of this version."""
    stage = next((stage for stage, each, _ in CHAIN if each == name), "download")
    refs = [Ref.model_validate(each if "@" in each else f"{each}@{version}") for each in inputs]
    identity = {"inputs": {ref.name: load(store, ref).digest for ref in refs}, "parameters": {}}
    output = Output(store, Ref(name=name, version=version), stage, identity)
    ledger = Ledger(listed=4, kept=3, failed=1)
    manifest = output.commit([output.part(f"{n:06d}", "d", ledger, {}) for n in range(parts)], totals=totals)
    store.write(manifest.ref.key("run.json"), json.dumps({"started": time.time(), "seconds": 2.0}).encode())
    return manifest


def chain(store: Store, version: str = "v1") -> None:
    """Finish all of the chain."""
    for _, name, inputs in CHAIN:
        make(store, name, version, inputs)


def ask(store: Store, stage: str, ref: str, *inputs: str) -> Ref:
    """Leave the specification of a stage that a run has asked for."""
    spec = StageSpec(
        stage=stage,
        artifact=Ref.model_validate(ref),
        parameters={},
        inputs=tuple(Ref.model_validate(each) for each in inputs),
    )
    store.write(f"specs/{ref.replace('/', '-').replace('@', '-')}-0.json", spec.model_dump_json().encode())
    return spec.artifact


def tell(store: Store, ref: Ref, done: float, total: float, unit: str = "parts", note: str = "", **more: Any) -> None:
    """Leave a stage's progress."""
    record = {"done": done, "total": total, "unit": unit, "note": note, "rate": None, "at": time.time(), **more}
    store.write(ref.key("progress.json"), json.dumps(record).encode())


def seen(store: Store, running: list[str] | None = None) -> Any:
    """Return a look at a store while jobs make these artifacts; None where no cluster answers."""
    from infra.job_list import Listed

    jobs = None if running is None else [Listed("job", artifact, "") for artifact in running]
    return look(Shelf(store), lambda: jobs)
