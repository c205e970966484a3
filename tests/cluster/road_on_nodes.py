"""The smoke recipe's stages, driven from a process of its own.

python road_on_nodes.py HALF STORE WEB_URL NODES [MARK]

HALF is `data`, from url lists to shards, or `whole`, to the chat model and its evaluation.

NODES is how many Ray nodes must have joined; 0 is this very process. Where a folder MARK is given, the first work
that runs on a node other than the head writes the node's name to MARK/held, and waits for MARK/go: a part that is
unfinished when its node is killed.
"""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from installation import wait_for
from ray_nodes import HEAD, NAME

from infra.cluster import Cluster, InlineCluster, RayCluster
from infra.storage import Store
from pipelines.graph import data_steps, train_steps
from pipelines.names import RecipeName
from pipelines.recipes import make
from stages.materialize import materialize

T = TypeVar("T")
R = TypeVar("R")


def holding(work: Callable[[T], R], mark: Path, item: T) -> R:
    """Do a work; the first one on a node that can be killed waits before."""
    if os.environ.get(NAME, HEAD) != HEAD and _first(mark):
        (mark / "held").write_text(os.environ[NAME])
        while not (mark / "go").exists():
            time.sleep(0.1)
    return work(item)


def _first(mark: Path) -> bool:
    try:
        (mark / "claimed").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


class Holding(RayCluster):
    """A Ray cluster of which one work is held."""

    def __init__(self, mark: Path) -> None:
        """Keep where the held work says so."""
        super().__init__()
        self._mark = mark

    def map(
        self,
        work: Callable[[T], R],
        items: Iterable[T],
        *,
        cpus: float = 1,
        gpus: float = 0,
        resources: Mapping[str, float] | None = None,
    ) -> Iterator[R]:
        """Run works, of which one waits."""
        held: Callable[[Any], R] = partial(holding, work, self._mark)
        return super().map(held, items, cpus=cpus, gpus=gpus, resources=resources)


def joined(nodes: int, mark: str) -> Cluster:
    """Return the cluster once so many nodes are there."""
    if not nodes:
        return InlineCluster()
    import ray

    cluster = Holding(Path(mark)) if mark else RayCluster()
    ray.init(address=os.environ["RAY_ADDRESS"], log_to_driver=True, configure_logging=False)
    wait_for(f"{nodes} nodes", lambda: sum(node["Alive"] for node in ray.nodes()) == nodes)
    return cluster


def main(half: str, root: str, web: str, nodes: int, mark: str = "") -> None:
    """Make every artifact of the road."""
    cluster, recipe = joined(nodes, mark), make(RecipeName.SMOKE, web_url=web)
    for step in [*data_steps(recipe, "smoke"), *(train_steps(recipe, "smoke") if half == "whole" else [])]:
        manifest = materialize(step.spec, Store(root), cluster)
        print(manifest.ref, manifest.digest, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:4], int(sys.argv[4]), *sys.argv[5:])
