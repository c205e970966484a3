"""The toy training under Ray Train, on a small cluster of its own: one machine with two CPUs, or two with one each.

python ray_gang.py lost_machine|killed_worker STORE
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import toy_run
from ray.cluster_utils import Cluster as Machines

from infra.cluster import RayCluster
from infra.storage import Store
from stages.workspace import Workspace

FAULT_STEP = 7


class Hit(toy_run.Batches):
    """The toy's batches; at one step something happens to the first gang that comes there."""

    def __init__(self, parameters: toy_run.Parameters, mark: Path, happens: Callable[[], None]) -> None:
        super().__init__(parameters)
        self.mark, self.happens = mark, happens

    def __call__(self, rows: Sequence[int], step: int) -> dict[str, Any]:
        if step == FAULT_STEP and toy_run.rank() == self.parameters.rank and not self.mark.exists():
            self.mark.touch()
            self.happens()
        return super().__call__(rows, step)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def build_hit(mark: Path, happens: Callable[[], None], given: toy_run.Parameters, here: Workspace) -> toy_run.Toy:
    task = toy_run.Toy(given)
    task.batches = Hit(given, mark, happens)
    return task


def wait_for_the_end() -> None:
    time.sleep(600)  # its machine goes


def remove_when(mark: Path, machines: Machines, machine: Any) -> None:
    while not mark.exists():
        time.sleep(0.1)
    machines.remove_node(machine, allow_graceful=False)


def main(what: str, root: Path) -> None:
    """Train two workers of which one is lost; a machine that is lost does not come back, a worker does."""
    import ray

    lost_machine, mark = what == "lost_machine", root / "mark"
    alone = {"include_dashboard": False, "object_store_memory": 100_000_000}
    machines = Machines(initialize_head=True, head_node_args={"num_cpus": 1 if lost_machine else 2, **alone})
    paths = os.pathsep.join(path for path in sys.path if path)
    try:
        if lost_machine:
            second = machines.add_node(num_cpus=1, object_store_memory=100_000_000)
            threading.Thread(target=remove_when, args=(mark, machines, second), daemon=True).start()
        ray.init(address=machines.address, runtime_env={"env_vars": {"PYTHONPATH": paths}}, log_to_driver=False)
        placement = {"workers": 2, "min_workers": 1 if lost_machine else None}
        how = partial(build_hit, mark, wait_for_the_end if lost_machine else die)
        given = {"noise": not lost_machine, "trace": str(root), "rank": 1}
        toy_run.make(Store(str(root)), root, placement, RayCluster(), how, **given)
        ray.shutdown()
    finally:
        machines.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
