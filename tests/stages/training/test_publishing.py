"""A trained model is published tensor by tensor, into shards where it is large, and read back from them."""

import json
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
from forked_runs import Forks
from placed_runs import Plain, job_of
from published_runs import NO_ROOM
from torch import Tensor

from infra.storage import Store
from stages.checkpoints import fetch
from stages.manifest import ManifestError, Part, load, verify
from stages.training import publishing
from stages.training.job import Job
from stages.training.order import Order, Source
from stages.training.publishing import publish_checkpoint
from stages.training.task import Finished
from stages.weight_files import INDEX, open_weights
from stages.workspace import Placement

SIDES = (5, 900, 3, 700, 11, 640, 2)
ORDER = Order(0, [Source("samples", (8,))])
HISTORY = [{"step": 1.0, "lr": 0.1, "grad_norm": 1.0, "loss": 2.0}]


class Counting(Mapping[str, Tensor]):
    """Tensors that are made when they are asked for, and the most bytes of them that were alive at any time."""

    def __init__(self, keep: bool = False) -> None:
        self.alive = self.most = 0
        self.kept: list[Tensor] | None = [] if keep else None

    def __getitem__(self, name: str) -> Tensor:
        made = torch.full((int(name), 10), float(name))
        self._count(made.nbytes)
        weakref.finalize(made, self._count, -made.nbytes)
        if self.kept is not None:
            self.kept.append(made)
        return made

    def _count(self, size: int) -> None:
        self.alive += size
        self.most = max(self.most, self.alive)

    def __iter__(self) -> Iterator[str]:
        return map(str, SIDES)

    def __len__(self) -> int:
        return len(SIDES)


def published(folder: Path, weights: Mapping[str, Tensor]) -> tuple[Job, Part]:
    job = job_of(folder / "store", "plain", Placement())
    return job, publish_checkpoint(job, Finished(weights, {"config.json": b"{}"}), HISTORY, ORDER, folder)


@pytest.mark.parametrize("shard_bytes", [40_000, 10**9])
def test_no_more_than_one_tensor_is_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shard_bytes: int
) -> None:
    monkeypatch.setattr(publishing, "SHARD_BYTES", shard_bytes)
    weights = Counting()
    job, part = published(tmp_path, weights)
    assert weights.most == 4 * 10 * max(SIDES) and weights.alive == 0
    assert part.facts["parameters"] == 10 * sum(SIDES)
    folder = fetch(job.output.store, job.output.commit([part]), tmp_path / "files")
    names = {path.name for path in folder.iterdir()}
    shards = {name for name in names if name.startswith("model-")}
    assert names - shards == {INDEX if shard_bytes < 10**9 else "model.safetensors", "config.json", "history.jsonl"}
    assert len(shards) == (3 if shard_bytes < 10**9 else 0)
    assert all((folder / name).stat().st_size < shard_bytes + 1000 for name in shards)
    found = open_weights(folder)
    assert {name: tuple(found[name].shape) for name in found} == {str(side): (side, 10) for side in SIDES}
    assert all(bool((found[name] == float(name)).all()) for name in found)


def test_the_count_sees_a_writer_that_keeps_what_it_wrote(tmp_path: Path) -> None:
    weights = Counting(keep=True)
    published(tmp_path, weights)
    assert weights.most > 4 * 10 * max(SIDES)


def test_what_is_published_has_the_hash_that_was_taken_on_the_way(tmp_path: Path) -> None:
    job, part = published(tmp_path, Counting())
    manifest = job.output.commit([part])
    assert verify(job.output.store, manifest) == []
    key = manifest.key(part.files["model"])
    job.output.store.write(key, job.output.store.read(key)[:-1] + b"x")
    assert verify(job.output.store, manifest) != []


def test_a_machine_without_room_says_how_much_is_needed(tmp_path: Path) -> None:
    (tmp_path / "published").write_text("in the way")
    with pytest.raises(
        ManifestError, match=rf"does not take the trained weights of {40 * sum(SIDES):,} bytes.*TMPDIR"
    ):
        published(tmp_path, Counting())


def test_a_model_in_shards_is_put_together_tensor_by_tensor(forks: Forks, tmp_path: Path) -> None:
    assert forks.run(tmp_path, 2, job="published_runs:publish_whole", full=False) == [0, 0], forks.said()
    store = Store(str(tmp_path))
    folder = fetch(store, load(store, job_of(tmp_path, "plain", Placement()).output.ref), tmp_path / "files")
    names = set(json.loads((folder / INDEX).read_text())["weight_map"].values())
    assert len(names) > 1 and set(open_weights(folder)) == set(Plain().state_dict())


def test_where_the_first_process_has_no_room_the_others_do_not_wait(forks: Forks, tmp_path: Path) -> None:
    assert forks.run(tmp_path, 2, job="published_runs:publish_whole", full=True) == [NO_ROOM] * 2, forks.said()
    states = [key for key in Store(str(tmp_path)).keys("checkpoints") if key.endswith("state.json")]
    assert states, "the next run begins after the last step"
