import os
import signal
import time
from pathlib import Path

import pytest

from infra.cluster import Cluster, RayCluster, ResourceError
from infra.gang import GangSize


def square(value: int) -> int:
    return value * value


def fail_on_three(value: int) -> int:
    if value == 3:
        raise ValueError("three is not welcome")
    return value


def die_once(folder: str) -> str:
    """Kill this worker at the first call, as the kernel's out-of-memory killer would."""
    marker = Path(folder) / "died"
    if not marker.exists():
        marker.write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)
    return "survived"


def test_map_returns_every_result_once(any_cluster: Cluster) -> None:
    assert sorted(any_cluster.map(square, range(30))) == [n * n for n in range(30)]


def burn(seconds: float) -> float:
    """Compute for so many CPU seconds at least."""
    start = time.process_time()
    while time.process_time() - start < seconds:
        pass
    return seconds


def test_what_works_compute_in_other_processes_is_counted(any_cluster: Cluster) -> None:
    before = any_cluster.cpu_seconds_elsewhere
    assert list(any_cluster.map(burn, [0.05, 0.05])) == [0.05, 0.05]
    spent = any_cluster.cpu_seconds_elsewhere - before
    assert spent >= 0.1 if isinstance(any_cluster, RayCluster) else spent == 0, "here the process's own clock has it"


def test_map_of_nothing_is_nothing(any_cluster: Cluster) -> None:
    assert list(any_cluster.map(square, [])) == []


def test_an_exception_of_the_work_is_raised(any_cluster: Cluster) -> None:
    with pytest.raises(ValueError, match="not welcome"):
        list(any_cluster.map(fail_on_three, range(5)))


@pytest.mark.ray
def test_a_killed_worker_is_replaced(ray_cluster: RayCluster, tmp_path: Path) -> None:
    assert list(ray_cluster.map(die_once, [str(tmp_path)])) == ["survived"]
    assert (tmp_path / "died").exists()


def test_works_run_where_a_machine_offers_what_they_need(any_cluster: Cluster) -> None:
    assert sorted(any_cluster.map(square, range(5), resources={"egress": 0.001})) == [0, 1, 4, 9, 16]


@pytest.mark.ray
def test_what_no_machine_offers_is_said_and_not_waited_for(ray_cluster: RayCluster) -> None:
    with pytest.raises(ResourceError, match=r"no machine of the Ray cluster offers 'moon'.*INTERNVL_EGRESS_RESOURCE"):
        list(ray_cluster.map(square, [1], resources={"moon": 1}))


@pytest.mark.ray
def test_a_gang_has_room_as_often_as_the_cluster_holds_it(ray_cluster: RayCluster) -> None:
    assert [ray_cluster.room(GangSize(workers=workers)) for workers in (1, 2, 3)] == [2, 1, 1]
    assert ray_cluster.room(GangSize(workers=1, gpus_per_worker=1)) == 1


def die(value: int) -> int:
    """End this worker whenever it is handed the number three."""
    if value == 3:
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)
    return value


@pytest.mark.ray
def test_a_work_that_ends_its_process_every_time_can_be_given_up(ray_cluster: RayCluster) -> None:
    told: list[str] = []

    def lost(value: int, error: Exception) -> int:
        told.append(type(error).__name__)
        return -value

    assert sorted(ray_cluster.map(die, range(5), lost=lost, tries=2)) == [-3, 0, 1, 2, 4]
    assert told == ["WorkerCrashedError"]
    with pytest.raises(ValueError, match="not welcome"):
        list(ray_cluster.map(fail_on_three, range(5), lost=lost, tries=1))
