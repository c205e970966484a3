"""The toy training on a Ray cluster whose head takes no work; the worker of rank 1 is killed once, on its own node.

python gang_on_nodes.py STORE
"""

import os
import sys
from functools import partial
from pathlib import Path

import toy_run
from installation import wait_for
from ray_gang import build_hit, die
from ray_nodes import NAME

from infra.cluster import RayCluster
from infra.storage import Store

NODES = 3


def die_here(node: Path) -> None:
    """Say where, then die as by the kernel's hand."""
    node.write_text(os.environ[NAME])
    die()


def main(root: Path) -> None:
    """Train two workers, one on each node beside the head."""
    import ray

    ray.init(address=os.environ["RAY_ADDRESS"], log_to_driver=False)
    wait_for("all nodes", lambda: sum(node["Alive"] for node in ray.nodes()) == NODES)
    how = partial(build_hit, root / "mark", partial(die_here, root / "node"))
    given = {"noise": True, "trace": str(root), "rank": 1}
    toy_run.make(Store(str(root)), root, {"workers": 2, "min_workers": None}, RayCluster(), how, **given)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
