"""Datasets of plain colours on disk, tiny checkpoints in a store, and evaluations of one on the other."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from weight_shards import in_shards
from worlds import COLOURS, plain, tiny_towers, tokenizer

from infra.cluster import Cluster, InlineCluster
from infra.storage import Store
from stages import benchmark
from stages.checkpoints import publish
from stages.evaluations.choice import Choice, named_rows
from stages.evaluations.data import open_examples
from stages.evaluations.protocols import PROTOCOLS, settings_of
from stages.evaluations.registry import Benchmark, Reported, Row
from stages.manifest import Manifest, digest_of
from stages.ref import Ref
from stages.workspace import Output, Workspace

PAPER = Reported(model="InternVL-C", metric="top1", value=0.832, source="arXiv 2312.14238, Table 4")


def colours(name: str = "colours", **more: Any) -> Benchmark:
    """Return a user's own benchmark: a folder per colour."""
    given: dict[str, Any] = {
        "title": f"Plain {name}",
        "homepage": "https://example.org/colours",
        "licence": "CC0",
        "get": "Paint them",
        "formats": ("folder",),
        "rows": (Row(protocol="zero_shot_classification", settings={"templates": ["a {c} thing"]}, paper=(PAPER,)),),
    }
    return Benchmark(name=name, **(given | more))


def paint(folder: Path, per_class: int = 4, classes: Sequence[str] = tuple(COLOURS), seed: int = 0) -> Path:
    """Write pictures of plain colours, a folder for each."""
    for number, colour in enumerate(classes):
        (folder / "val" / colour).mkdir(parents=True, exist_ok=True)
        for which in range(per_class):
            picture = plain(colour, noise=seed + 100 * number + which)
            picture.save(folder / "val" / colour / f"{which}.png")
    return folder


def make_towers(
    store: Store, kind: str = "contrastive", version: str = "t", seed: int = 0, **inputs: str
) -> Manifest:
    """Publish a randomly initialised InternVL-C or -G."""
    model = tiny_towers(generative=kind == "generative", seed=seed)
    files = {
        **in_shards(model.state_dict()),
        "config.json": model.config.model_dump_json().encode(),
        "tokenizer.json": tokenizer().to_str().encode(),
    }
    named = {name.partition(".")[0]: (name, content) for name, content in files.items()}
    identity = {"stage": kind, "parameters": {"seed": seed}, "inputs": inputs}
    output = Output(store, Ref(name=f"checkpoints/{kind}", version=version), kind, identity)
    facts = {"names": {role: name for role, (name, _) in named.items()}}
    return output.commit([publish(output, digest_of([kind, seed]), named, 1, facts)])


def chosen(place: Path, *specs: Benchmark, limit: int | None = None) -> dict[str, Choice]:
    """Return all rows of some benchmarks whose data lie at one place."""
    return {
        name: Choice(
            benchmark=spec.name,
            own=spec,
            protocol=row.protocol,
            language=row.language,
            settings=settings_of(PROTOCOLS[row.protocol], row.settings).model_dump(mode="json"),
            place=str(place),
            limit=limit,
            data=open_examples(spec, place, limit=limit, language=row.language).digest,
        )
        for each in specs
        for name, spec, row in named_rows(each)
    }


def measured(
    store: Store, scratch: Path, checkpoint: Manifest, rows: dict[str, Choice], version: str = "t",
    cluster: Cluster | None = None,
) -> Manifest:  # fmt: skip
    """Run the stage on a checkpoint."""
    parameters = benchmark.Parameters(rows=rows, batch_size=8)
    identity = {
        "stage": "benchmark",
        "code": benchmark.VERSION,
        "parameters": parameters.model_dump(mode="json"),
        "inputs": {checkpoint.ref.name: checkpoint.digest},
    }
    ref = Ref(name=checkpoint.ref.name.replace("checkpoints", "benchmarks"), version=version)
    here = Workspace(store, cluster or InlineCluster(), scratch, {checkpoint.ref.name: checkpoint})
    return benchmark.run(parameters, Output(store, ref, "benchmark", identity), here)
