"""Where work runs: a Ray cluster, or this very process.

Both spread the same functions and give the same results; stages never import Ray.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, Protocol, TypeVar

from infra.gang import GangSize, run_gang

T = TypeVar("T")
R = TypeVar("R")

TrainLoop = Callable[[dict[str, Any]], None]
Waiting = Callable[[str], None]


class ResourceError(RuntimeError):
    """The cluster has nothing that works could ever run on; the message says what lacks."""


def _call(work: Callable[[T], R], item: T) -> tuple[R, float]:
    """Return a work's result and the CPU seconds that it took; a Ray worker has one work at a time."""
    before = time.process_time()
    return work(item), time.process_time() - before


class Cluster(Protocol):
    """Something that runs many small works, or one gang of training workers."""

    cpu_seconds_elsewhere: float
    """What works have computed so far in other processes than this one; gangs are not counted."""

    def map(
        self,
        work: Callable[[T], R],
        items: Iterable[T],
        *,
        cpus: float = 1,
        gpus: float = 0,
        resources: Mapping[str, float] | None = None,
        lost: Callable[[T, Exception], R] | None = None,
        tries: int = 4,
    ) -> Iterator[R]:
        """Yield one result per item, in the order of completion.

        Works may run twice after a fault, so what they publish must be idempotent.

        Args:
            work: Makes one result.
            items: What it is handed, one after the other.
            cpus: For one work.
            gpus: For one work.
            resources: Of a cluster's own, by name, for one work: it runs only on machines that offer them.
            lost: Gives the result of an item whose work ended its process at every try; without it that is raised.
            tries: How often a work is begun whose process ends.
        """
        ...

    def train(
        self, loop: TrainLoop, config: dict[str, Any], *, size: GangSize, name: str, waiting: Waiting | None = None
    ) -> None:
        """Run `loop(config)` on a gang of workers, all or none, and restart it after a fault.

        The loop restores itself from its own checkpoints. While there is no place for the gang,
        `waiting` is told every few seconds what it waits for. Several threads may each run a gang.
        """
        ...

    def room(self, size: GangSize) -> int:
        """Return how many gangs of a size may train side by side, one at least; what others use is not counted."""
        ...


class InlineCluster:
    """Everything in this process, one item after the other: for tests, and for machines without Ray."""

    cpu_seconds_elsewhere: float = 0.0

    def map(
        self,
        work: Callable[[T], R],
        items: Iterable[T],
        *,
        cpus: float = 1,
        gpus: float = 0,
        resources: Mapping[str, float] | None = None,
        lost: Callable[[T, Exception], R] | None = None,
        tries: int = 4,
    ) -> Iterator[R]:
        """Run each item in turn."""
        for item in items:
            yield work(item)

    def train(
        self, loop: TrainLoop, config: dict[str, Any], *, size: GangSize, name: str, waiting: Waiting | None = None
    ) -> None:
        """Run the loop as the only worker, or as one of `torchrun`'s."""
        loop(config)

    def room(self, size: GangSize) -> int:
        """Return one: this process."""
        return 1


class RayCluster:
    """A Ray cluster, joined from inside a Ray job or at a given address."""

    def __init__(self, address: str | None = None, window_per_cpu: int = 3) -> None:
        """Keep the address: it is joined when there is work, because joining takes seconds.

        At most `window_per_cpu` works per CPU are in flight at once.
        """
        self._address, self._window_per_cpu = address, window_per_cpu
        self.cpu_seconds_elsewhere: float = 0.0

    def _join(self) -> Any:
        import ray

        if not ray.is_initialized():
            ray.init(
                address=self._address or os.environ.get("RAY_ADDRESS") or "auto",
                log_to_driver=True,
                configure_logging=False,
            )
        return ray

    def map(
        self,
        work: Callable[[T], R],
        items: Iterable[T],
        *,
        cpus: float = 1,
        gpus: float = 0,
        resources: Mapping[str, float] | None = None,
        lost: Callable[[T, Exception], R] | None = None,
        tries: int = 4,
    ) -> Iterator[R]:
        """Run works as Ray tasks in a bounded window; a killed worker's task is run again, `tries` times in all.

        An exception of the work itself is raised here at once: a work that can fail on bad
        data turns that into a recorded outcome, not into an exception.

        Raises:
            ResourceError: No machine of the cluster offers a resource that the works need.
        """
        todo: Iterator[T] = iter(items)
        if (first := next(todo, None)) is None:
            return
        todo = chain([first], todo)
        ray = self._join()
        for name in resources or ():
            if not any(node["Alive"] and name in node["Resources"] for node in ray.nodes()):
                raise ResourceError(
                    f"no machine of the Ray cluster offers {name!r}, so these works would wait for ever; start one "
                    f"with `ray start --resources '{{\"{name}\": 1}}'`, or unset INTERNVL_EGRESS_RESOURCE"
                )
        # The work is stored once and fetched by reference: it may be a partial that holds a policy.
        task = ray.remote(num_cpus=cpus, num_gpus=gpus, resources=dict(resources or {}), max_retries=tries - 1)(_call)
        shared = ray.put(work)
        live: dict[Any, T] = {}
        exhausted = False
        while True:
            window = max(2, int(self._window_per_cpu * ray.cluster_resources().get("CPU", 1)))
            while not exhausted and len(live) < window:
                try:
                    item = next(todo)
                    live[task.remote(shared, item)] = item
                except StopIteration:
                    exhausted = True
            if not live:
                return
            ready, _ = ray.wait(list(live), num_returns=1, timeout=10)
            for reference in ready:
                item = live.pop(reference)
                try:
                    result, seconds = ray.get(reference)
                    self.cpu_seconds_elsewhere += seconds
                except ray.exceptions.RayTaskError:
                    raise  # the work's own error
                except ray.exceptions.RayError as error:
                    if lost is None:
                        raise
                    result = lost(item, error)
                yield result

    def train(
        self, loop: TrainLoop, config: dict[str, Any], *, size: GangSize, name: str, waiting: Waiting | None = None
    ) -> None:
        """Run the loop under Ray Train; a dead worker restarts the gang, which then resumes itself."""
        run_gang(self._join(), loop, config, size, name, waiting)

    def room(self, size: GangSize) -> int:
        """Return how often the whole cluster holds a gang; one that finds no place waits until there is one."""
        resource, amount = size.resource
        held = self._join().cluster_resources().get(resource, 0)
        return max(1, int(held // (size.workers * amount)))
