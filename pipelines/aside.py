"""What the commands have in common that run one stage on checkpoints of the user's choice."""

import json
from pathlib import Path
from typing import Any

from infra.cluster import Cluster, InlineCluster, RayCluster
from infra.storage import Store
from pipelines.terminal import Refusal
from stages.manifest import Manifest
from stages.materialize import Drift, StageSpec, materialize


def given_in(file: Path | None) -> dict[str, Any]:
    """Return the parameters of a JSON file; none without a file.

    Raises:
        Refusal: It holds something else.
    """
    found = json.loads(file.read_text()) if file else {}
    if not isinstance(found, dict):
        raise Refusal(f"{file} holds a {type(found).__name__}; parameters are a JSON object")
    return found


def made_aside(spec: StageSpec, store: Store, workers: int) -> Manifest:
    """Run one stage on the processes that are asked for, or find it done.

    Raises:
        Refusal: The version stands and was made differently; these commands replace nothing.
    """
    cluster: Cluster = RayCluster() if workers > 1 else InlineCluster()
    try:
        return materialize(spec, store, cluster)
    except Drift as drift:
        facts = str(drift).rpartition("\n")[0]
        raise Refusal(f"{facts}\nchoose another --new-version") from None
