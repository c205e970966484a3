"""A gang of training workers under Ray Train v2: all or none, restarted after a fault, grown back to its size."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

WATCH_SECONDS = 2.0
MAX_FAILURES = 3
"""Faults of workers in one run; machines that are taken away do not count (Ray Train counts them apart)."""


@dataclass(frozen=True)
class GangSize:
    """How many workers train together, and what each needs."""

    workers: int
    min_workers: int | None = None
    """Fewest that may go on when machines are lost; None: always `workers`."""
    gpus_per_worker: int = 0
    timeout_seconds: float = 600.0
    """How long a collective waits for a worker."""

    @property
    def least(self) -> int:
        """Workers that there must be."""
        return self.min_workers or self.workers

    @property
    def resource(self) -> tuple[str, int]:
        """What a worker takes, and how many of it."""
        return ("GPU", self.gpus_per_worker) if self.gpus_per_worker else ("CPU", 1)


def run_gang(
    ray: Any,
    loop: Callable[[dict[str, Any]], None],
    config: dict[str, Any],
    size: GangSize,
    name: str,
    waiting: Callable[[str], None] | None,
) -> None:
    """Run `loop(config)` on a gang; blocks until it has ended.

    Raises:
        Exception: What a worker itself raised the last time that it was allowed to fail.
        WorkerGroupError: Workers died that often, and none could say why.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.exceptions import WorkerGroupError

    resource, amount = size.resource
    trainer = TorchTrainer(
        loop,
        train_loop_config=config,
        # One placement group: all of the workers start, or none.
        scaling_config=ScalingConfig(
            num_workers=size.workers if size.min_workers is None else (size.min_workers, size.workers),
            use_gpu=size.gpus_per_worker > 0,
            resources_per_worker={resource: amount},
        ),
        torch_config=TorchConfig(timeout_s=max(1, round(size.timeout_seconds))),
        # Our checkpoints live in the store, committed and hashed; this folder only holds
        # Ray Train's own bookkeeping.
        run_config=RunConfig(
            name=name,
            storage_path=os.path.join(os.environ.get("INTERNVL_HOME", os.path.abspath(".internvl")), "ray", "train"),
            failure_config=FailureConfig(max_failures=MAX_FAILURES),
        ),
    )
    with _told_while_waiting(ray, size, waiting):
        try:
            trainer.fit()
        except WorkerGroupError as error:
            raise own_failure(error) from error


def own_failure(error: Any) -> Exception:
    """Return what a worker itself raised, for it means the same as from this process; else the group's error.

    A worker that was killed cannot say why, and Ray says it in its place; the others then often raise
    that they lost it.
    """
    from ray.exceptions import RayError

    failures: dict[int, Exception] = error.worker_failures
    return next((failures[rank] for rank in sorted(failures) if not isinstance(failures[rank], RayError)), error)


@contextmanager
def _told_while_waiting(ray: Any, size: GangSize, waiting: Callable[[str], None] | None) -> Iterator[None]:
    """Say every few seconds what the gang waits for, for as long as it has no place."""
    if waiting is None:
        yield
        return
    before, done = set(ray.util.placement_group_table()), threading.Event()

    def watch() -> None:
        while not done.wait(WATCH_SECONDS):
            groups = {key: group for key, group in ray.util.placement_group_table().items() if key not in before}
            if not _placed(groups, size):
                waiting(waiting_for(size, ray.available_resources()))

    thread = threading.Thread(target=watch, name="waiting-for-resources", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _placed(groups: dict[str, dict[str, Any]], size: GangSize) -> bool:
    """Return whether one of these placement groups is this gang's, and stands."""
    resource, amount = size.resource
    return any(
        group["state"] == "CREATED"
        and size.least <= len(group["bundles"]) <= size.workers
        and all(bundle.get(resource, 0) == amount for bundle in group["bundles"].values())
        for group in groups.values()
    )


def waiting_for(size: GangSize, free: dict[str, float]) -> str:
    """Return what a gang without a place waits for, as a line for people."""
    resource, amount = size.resource
    return f"waiting for {size.least * amount} {resource}s, {int(free.get(resource, 0))} free"
