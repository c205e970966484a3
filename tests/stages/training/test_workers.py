"""Data workers: batches in order, each once, whatever becomes of the processes that make them."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from stages.batches import share_of
from stages.manifest import ManifestError
from stages.training import workers
from stages.training.accumulating import Cutting
from stages.training.balancing import Load, Room
from stages.training.order import Order, Source
from stages.training.task import SampleFacts
from stages.training.workers import Made, Maker, made_in_order

ORDER = Order(3, [Source("samples", (40,))])


class Batches:
    """Says which process made a batch; may die, refuse or break once at a row."""

    def __init__(self, folder: Path, **at: int) -> None:
        self.folder, self.at = folder, at

    def __call__(self, rows: Sequence[int], step: int) -> dict[str, Any]:
        if self.at.get("dies", -1) in rows and self._first("died"):
            os.kill(os.getpid(), signal.SIGKILL)
        if self.at.get("dies_always", -1) in rows:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.at.get("refuses", -1) in rows:
            raise ManifestError("sample 7 is damaged; make the shards again")
        if self.at.get("breaks", -1) in rows:
            raise ZeroDivisionError("a mistake of the program")
        return {"rows": torch.tensor(rows), "by": os.getpid(), "inside": [torch.tensor(step)]}

    def _first(self, name: str) -> bool:
        try:
            (self.folder / name).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def facts(self, row: int) -> SampleFacts:
        return SampleFacts(str(row), "drawn", None)


def maker(folder: Path, **given: Any) -> Maker:
    at = {name: given.pop(name) for name in ("dies", "dies_always", "refuses", "breaks") if name in given}
    rank = given.pop("rank", 0)
    return Maker(Batches(folder, **at), ORDER, steps=6, global_batch_size=8, rank=rank, cutting=Cutting(**given))


def rows_read(made: Sequence[Made]) -> list[tuple[int, list[int]]]:
    assert all(each.batch["rows"].tolist() == each.rows for each in made)
    assert all(each.batch["inside"][0] == each.step for each in made)
    return [(each.step, each.rows) for each in made]


def test_micro_batches_are_those_of_the_order_however_they_are_cut(tmp_path: Path) -> None:
    whole = [(step, ORDER.rows(step, 8)) for step in range(6)]
    assert rows_read(list(made_in_order(maker(tmp_path), 0, 0))) == whole
    cut = rows_read(list(made_in_order(maker(tmp_path, micro_batch_size=2), 3, 0)))
    assert [(step, [row for s, rows in cut if s == step for row in rows]) for step in range(3, 6)] == whole[3:]
    for rank in (0, 1):
        own = rows_read(list(made_in_order(maker(tmp_path, rank=rank, processes=2), 0, 0)))
        assert own == [(step, share_of(rows, rank, 2)) for step, rows in whole]
    with pytest.raises(ManifestError, match=r"micro batches of 3; choose a micro_batch_size"):
        maker(tmp_path, micro_batch_size=3)
    with pytest.raises(ManifestError, match="does not divide by 3 processes"):
        maker(tmp_path, processes=3)


def heavy(row: int) -> Load:
    """Rows unlike each other, so that steps have unlike numbers of packs."""
    return Load(cost=1 + row % 7, tokens=1 + row % 7)


def test_steps_with_more_or_fewer_packs_are_made_in_order_and_gone_on_with_after_a_death(tmp_path: Path) -> None:
    given: dict[str, Any] = {"processes": 2, "room": Room(tokens=8), "load": heavy}
    found = {rank: rows_read(list(made_in_order(maker(tmp_path, rank=rank, **given), 0, 0))) for rank in (0, 1)}
    counts = {rank: [sum(s == step for s, _ in made) for step in range(6)] for rank, made in found.items()}
    assert counts[0] == counts[1] and len(set(counts[0])) > 1, "as many for both, and not in every step"
    for step in range(6):
        rows = [row for made in found.values() for at, pack in made for row in pack if at == step]
        assert sorted(rows) == sorted(ORDER.rows(step, 8))
    # The second micro batch of step 2 kills its worker: what was made of the step before is not made again.
    dies = [pack for step, pack in found[0] if step == 2][1][0]
    killed = made_in_order(maker(tmp_path, dies=dies, **given), 1, 1)
    assert rows_read(list(killed)) == [each for each in found[0] if each[0] >= 1]
    assert (tmp_path / "died").exists()


@pytest.mark.parametrize(
    ("words", "death"),
    [
        ("DataLoader worker (pid 7) is killed by signal: Killed.", True),
        ("Pin memory thread exited unexpectedly", True),
        ("Caught RuntimeError in DataLoader worker process 0.", False),
        ("a mistake of the program", False),
    ],
)
def test_a_death_is_told_from_a_mistake(words: str, death: bool) -> None:
    assert workers._is_death(RuntimeError(words)) is death


def test_a_killed_worker_is_replaced_loudly_and_no_batch_is_lost_or_comes_twice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain = maker(tmp_path, micro_batch_size=4)
    whole = rows_read(list(made_in_order(plain, 0, 0)))
    before = torch.get_rng_state()
    killed = maker(tmp_path, micro_batch_size=4, dies=whole[5][1][0])
    found = list(made_in_order(killed, 0, 2))
    assert (tmp_path / "died").exists(), "a worker was killed"
    assert rows_read(found) == whole
    assert os.getpid() not in {each.batch["by"] for each in found} and len({each.batch["by"] for each in found}) > 2
    assert "data workers start anew at micro batch" in caplog.text and "restart 1 of 3" in caplog.text
    assert torch.equal(torch.get_rng_state(), before), "loading draws nothing from training's random numbers"


def test_workers_that_die_again_and_again_stop_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "RESTARTS", 0)
    always = maker(tmp_path, dies_always=ORDER.rows(1, 8)[0])
    with pytest.raises(
        RuntimeError, match=r"died 1 times, the last time before micro batch 1 of step [12] .*data_workers"
    ):
        list(made_in_order(always, 0, 1))


@pytest.mark.parametrize("processes", [0, 1])
def test_what_goes_wrong_in_a_worker_arrives_as_it_was_said(tmp_path: Path, processes: int) -> None:
    third = ORDER.rows(2, 8)[3]
    source, seen = made_in_order(maker(tmp_path, refuses=third), 0, processes), []
    with pytest.raises(ManifestError) as refused:
        seen += [next(source), next(source)]
        next(source)
    assert str(refused.value) == "sample 7 is damaged; make the shards again" and len(seen) == 2
    with pytest.raises(ZeroDivisionError, match="a mistake of the program"):
        list(made_in_order(maker(tmp_path, breaks=third), 0, processes))
