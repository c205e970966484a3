"""A small training with states, made as users make it, and what follows it; each may run in a process of its own."""

from pathlib import Path
from typing import Any

import torch
from real_stages import STAGES, ref_of

from infra.cluster import InlineCluster
from infra.storage import Store
from stages import follow
from stages.manifest import Manifest
from stages.materialize import StageSpec, materialize
from stages.ref import Ref

STEPS = 12


def training(version: str, **placement: Any) -> StageSpec:
    """Return the training of InternVL-C of `real_stages`, with a state every third step."""
    found = STAGES["contrastive"]
    return StageSpec(
        stage="contrastive",
        artifact=ref_of("contrastive", version),
        parameters=found.parameters({"schedule": {"steps": STEPS}}).model_dump(mode="json"),
        inputs=tuple(Ref(name=name, version="t") for name in found.inputs),
        placement={"checkpoint_steps": 3, **placement},
    )


def train(root: Path, version: str) -> None:
    """Train to the end."""
    torch.set_num_threads(1)
    materialize(training(version), Store(str(root / "store")), InlineCluster())


def evaluation(version: str) -> StageSpec:
    """Return the stage that measures the training's checkpoint on two drawn scenes."""
    return StageSpec(
        stage="evaluate",
        artifact=Ref(name="evaluations/contrastive", version=version),
        parameters={"kind": "contrastive", "scenes": 2, "languages": ["en"], "image_size": 48},
        inputs=(ref_of("contrastive", version),),
    )


def followed(version: str, **changed: Any) -> StageSpec:
    """Return the stage that follows it."""
    given = {
        "training": str(ref_of("contrastive", version)),
        "evaluations": [evaluation(version).model_dump(mode="json")],
        "patience_seconds": 60,
        **changed,
    }
    return StageSpec(
        stage="follow",
        artifact=follow.follow_ref(ref_of("contrastive", version)),
        parameters=follow.Parameters.model_validate(given).model_dump(mode="json"),
    )


def run(store: Store, version: str, **changed: Any) -> Manifest:
    """Follow to the end, in this process."""
    return materialize(followed(version, **changed), store, InlineCluster())


def follow_alone(root: Path, version: str, **changed: Any) -> None:
    """Follow to the end, in a process that may be killed."""
    torch.set_num_threads(1)
    run(Store(str(root / "store")), version, **changed)
