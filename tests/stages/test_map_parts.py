"""Light work stays in this process while that is quicker; heavy work and work on GPUs goes to the cluster."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.cluster import InlineCluster, RayCluster
from infra.storage import Store
from stages import workspace
from stages.manifest import Ledger, Part
from stages.ref import Ref
from stages.workspace import Output, Placement, Workspace


class Counting(InlineCluster):
    def __init__(self) -> None:
        self.sent: list[Any] = []

    def map(self, work: Callable[[Any], Any], items: Iterable[Any], **_: Any) -> Iterator[Any]:
        for item in items:
            self.sent.append(item)
            yield work(item)


def made(store: Store, tmp_path: Path, light: bool, gpus: int = 0) -> tuple[list[str], list[int]]:
    """Return the keys of the parts, and which of the four items went to the cluster."""
    output = Output(store=store, ref=Ref(name="toy", version="v1"), stage="toy", identity={})
    cluster = Counting()
    here = Workspace(store, cluster, tmp_path, placement=Placement(gpus_per_worker=gpus))

    def work(number: int) -> Part:
        return output.part(f"{number}", "d", Ledger(listed=1, kept=1), {"x": (f"{number}.bin", bytes([number]))})

    parts = here.map_parts(output, work, [(f"{n}", "d", n) for n in range(4)], light=light)
    return [part.key for part in parts], cluster.sent


def test_quick_parts_start_no_worker(store: Store, tmp_path: Path) -> None:
    assert made(store, tmp_path, light=True) == (["0", "1", "2", "3"], [])


def test_parts_that_prove_slow_are_spread(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspace, "LIGHT_SECONDS", 1e-9)
    assert made(store, tmp_path, light=True) == (["0", "1", "2", "3"], [1, 2, 3])


@pytest.mark.parametrize(("light", "gpus"), [(False, 0), (True, 1)])
def test_heavy_work_and_work_on_gpus_goes_to_the_cluster(
    store: Store, tmp_path: Path, light: bool, gpus: int
) -> None:
    assert made(store, tmp_path, light, gpus)[1] == [0, 1, 2, 3]


def test_a_cluster_without_work_is_not_joined() -> None:
    assert list(RayCluster("127.0.0.1:1").map(str, [])) == []
