"""A gang under Ray Train: it waits aloud for its place, then runs with all of its workers."""

import os
from pathlib import Path
from typing import Any

import pytest

from infra.cluster import InlineCluster, RayCluster
from infra.gang import GangSize, _placed, own_failure, waiting_for

PAIR = GangSize(workers=2)


def leave_a_mark(config: dict[str, Any]) -> None:
    Path(config["folder"], os.environ["RANK"]).write_text(os.environ["WORLD_SIZE"])


class Holder:
    """Takes a CPU for as long as it lives."""

    def ready(self) -> bool:
        return True


@pytest.mark.ray
@pytest.mark.slow  # three starts of Ray workers: minutes on a busy machine
def test_a_gang_says_what_it_waits_for_until_there_is_room(ray_cluster: RayCluster, tmp_path: Path) -> None:
    import ray

    holder = ray.remote(num_cpus=1)(Holder).remote()
    assert ray.get(holder.ready.remote())
    notes: list[str] = []

    def waiting(note: str) -> None:
        if not notes:
            ray.kill(holder)
        notes.append(note)

    ray_cluster.train(leave_a_mark, {"folder": str(tmp_path)}, size=PAIR, name="marks", waiting=waiting)
    assert notes[0].startswith("waiting for 2 CPUs, ")
    assert {path.name: path.read_text() for path in tmp_path.iterdir() if path.is_file()} == {"0": "2", "1": "2"}


def test_a_gang_has_its_place_when_a_group_of_its_shape_stands() -> None:
    gpus = GangSize(workers=4, min_workers=2, gpus_per_worker=1)

    def group(state: str, count: int, resource: str = "GPU") -> dict[str, dict[str, Any]]:
        return {"g": {"state": state, "bundles": {number: {resource: 1.0} for number in range(count)}}}

    assert _placed(group("CREATED", 3), gpus)
    assert not _placed(group("PENDING", 3), gpus)
    assert not _placed(group("CREATED", 1), gpus), "fewer than may train"
    assert not _placed(group("CREATED", 3, "CPU"), gpus), "another's"
    assert not _placed({}, gpus)
    assert waiting_for(gpus, {"GPU": 1.0, "CPU": 8.0}) == "waiting for 2 GPUs, 1 free"


def test_without_ray_the_loop_is_this_process() -> None:
    seen: list[dict[str, Any]] = []
    InlineCluster().train(seen.append, {"a": 1}, size=PAIR, name="inline")
    assert seen == [{"a": 1}]


def test_what_a_worker_says_itself_counts_more_than_what_ray_says_of_a_dead_one() -> None:
    from ray.exceptions import RayActorError
    from ray.train.v2.api.exceptions import WorkerGroupError

    lost, refused = RuntimeError("process 0 of 3 does not answer"), ValueError("no such column")
    assert own_failure(WorkerGroupError("", {2: refused, 0: RayActorError(), 1: lost})) is lost
    silent = WorkerGroupError("", {0: RayActorError()})
    assert own_failure(silent) is silent
