"""Runs tell what they read: the same with and without data workers, and an audit finds what is wrong."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from typer.testing import CliRunner

from infra.cluster import InlineCluster
from infra.storage import Store
from pipelines.cli import app
from stages.checkpoints import fetch
from stages.manifest import Manifest, ManifestError
from stages.ref import Ref
from stages.train_loop import train
from stages.training.audit import audit, audit_run, rows_digest
from stages.training.order import Order, Source
from stages.training.schedule import Schedule
from stages.training.task import Finished, SampleFacts, Task, parameter_groups
from stages.workspace import Opened, Output, Placement, Workspace

MIXTURE = (Source("web", (20, 10), 3.0), Source("news", (12,), 1.0, 30))
SCHEDULE = Schedule(global_batch_size=8, steps=9, learning_rate=0.05)


class Parameters(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    schedule: Schedule = SCHEDULE
    mixed: bool = False
    damaged: tuple[str, ...] = ()
    crash_at: int | None = None


class Numbers:
    """Batches of numbers that belong to their rows."""

    def __init__(self, crash_at: int | None) -> None:
        self.crash_at = crash_at

    def __call__(self, rows: Sequence[int], step: int) -> dict[str, Tensor]:
        if step == self.crash_at:
            raise SystemExit("a power cut")
        return {"x": torch.tensor([[row / 7, (row * row) % 11] for row in rows], dtype=torch.float32)}

    def facts(self, row: int) -> SampleFacts:
        return SampleFacts(str(row), "drawn", None)


class Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(2, 1)

    def counts(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"loss": torch.tensor(float(len(batch["x"])))}

    def forward(self, batch: dict[str, Tensor], totals: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        losses = (self.line(batch["x"])[:, 0] - batch["x"].sum(dim=1)).square()
        return {"loss": losses.sum() / (totals["loss"] if totals else len(losses)), "sample_loss": losses.detach()}


class Fitting:
    def __init__(self, parameters: Parameters) -> None:
        self.module = Line()
        self.batches = Numbers(parameters.crash_at)
        self.samples: int | Sequence[Source] = MIXTURE if parameters.mixed else [Source("samples", (12, 13, 5))]

    def groups(self, weight_decay: float) -> list[dict[str, Any]]:
        return parameter_groups(self.module.named_parameters(), weight_decay)

    def finish(self) -> Finished:
        return Finished(self.module.state_dict())


def build(parameters: Parameters, here: Workspace) -> Task:
    here.opened.append(Opened("shards/clean", parameters.damaged))
    return Fitting(parameters)


def make(store: Store, tmp_path: Path, version: str = "t", workers: int = 0, **given: Any) -> Manifest:
    output = Output(store, Ref(name="checkpoints/line", version=version), "line", {"schedule": "small"})
    placement = Placement(checkpoint_steps=3, data_workers=workers)
    return train(build, Parameters(**given), output, Workspace(store, InlineCluster(), tmp_path, placement=placement))


def history_of(store: Store, manifest: Manifest, folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (fetch(store, manifest, folder) / "history.jsonl").read_text().splitlines()]


def test_data_workers_change_nothing_and_a_resumed_run_reads_the_same(store: Store, tmp_path: Path) -> None:
    plain = make(store, tmp_path, "plain")
    ahead = make(store, tmp_path, "ahead", workers=1)
    with pytest.raises(SystemExit):
        make(store, tmp_path, "resumed", crash_at=5)
    resumed = make(store, tmp_path, "resumed")
    histories = [history_of(store, made, tmp_path / made.ref.version) for made in (plain, ahead, resumed)]
    assert histories[0] == histories[1] == histories[2]
    assert len({row["rows_digest"] for row in histories[0]}) == SCHEDULE.steps
    digest = 0.0
    for step, row in enumerate(histories[0]):
        digest = rows_digest(digest, Order(0, [Source("samples", (30,))]).rows(step, 8))
        assert row["rows_digest"] == digest


@pytest.mark.parametrize(
    "given", [{}, {"mixed": True}, {"schedule": SCHEDULE.model_copy(update={"shuffle_window": 2})}]
)
def test_a_finished_run_proves_that_each_sample_came_once_per_epoch(
    store: Store, tmp_path: Path, given: dict[str, Any]
) -> None:
    found = audit_run(store, make(store, tmp_path, **given))
    assert found.sound and found.steps == found.compared == 9
    assert sum(each.read for each in found.sources) == 72
    assert [each.name for each in found.sources] == (["web", "news"] if given.get("mixed") else ["samples"])
    assert found.sources[0].epochs >= 1


def test_a_window_of_shards_decides_the_order_of_a_run(store: Store, tmp_path: Path) -> None:
    made = make(store, tmp_path, schedule=SCHEDULE.model_copy(update={"shuffle_window": 1}))
    order = Order.read(made.parts[0].facts["order"])
    assert order.window == 1 and order.sources[0].shards == (12, 13, 5)
    assert {row // 12 for row in order.rows(0, 8)} in ({0}, {1}, {1, 2}, {2})


def test_what_is_left_out_as_damaged_is_counted_in_the_metrics(store: Store, tmp_path: Path) -> None:
    made = make(store, tmp_path, damaged=("a", "b"))
    assert made.totals["damaged_samples_left_out"] == {"shards/clean": 2}
    assert "damaged_samples_left_out" not in make(store, tmp_path, "whole").totals


class Twice(Order):
    """An order that shows its first sample where another should be."""

    def row(self, place: int) -> int:
        return super().row(0 if place == 9 else place)


def test_the_audit_finds_a_sample_that_comes_twice_and_the_one_that_is_missing() -> None:
    source = [Source("samples", (30,))]
    right, wrong = Order(0, source), Twice(0, source)
    assert audit(right, 8, 8).sound and audit(right, 8, 8).compared == 0
    found = audit(wrong, 8, 8)
    assert not found.sound
    assert found.sources[0].repeated == (right.row(0),) and found.sources[0].missing == (right.row(9),)
    digests, digest = [], 0.0
    for step in range(8):
        digest = rows_digest(digest, wrong.rows(step, 8))
        digests.append(digest)
    other = audit(right, 8, 8, digests)
    assert not other.sound and other.differs_at == 2, "the run read something else than its order says"


def test_the_command_says_what_was_read_and_fails_where_it_is_wrong(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("INTERNVL_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("INTERNVL_STORE", raising=False)
    monkeypatch.setenv("COLUMNS", "160")
    store = Store(str(tmp_path / "home" / "store"))
    made = make(store, tmp_path)
    result = CliRunner().invoke(app, ["audit-order", str(made.ref)])
    assert result.exit_code == 0, result.output
    assert "each sample came once per epoch; the run says the same of 9 of 9 steps" in result.output
    monkeypatch.setattr("stages.training.audit.Order", Twice)
    result = CliRunner().invoke(app, ["audit-order", str(made.ref)])
    assert result.exit_code == 1
    order = Order(0, [Source("samples", (30,))])
    assert f"samples {order.row(9)} came not at all in an epoch" in result.output
    assert "from step 2 on the run read other samples" in result.output
    assert CliRunner().invoke(app, ["audit-order", "checkpoints/line@nothing"]).exit_code == 2


def test_a_checkpoint_that_tells_nothing_is_refused(store: Store, tmp_path: Path) -> None:
    made = make(store, tmp_path)
    facts = {name: value for name, value in made.parts[0].facts.items() if name != "order"}
    silent = made.model_copy(update={"parts": (made.parts[0].model_copy(update={"facts": facts}),)})
    with pytest.raises(ManifestError, match=r"does not tell in which order.*train it again"):
        audit_run(store, silent)
