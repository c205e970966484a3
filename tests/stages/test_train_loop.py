"""The training loop: the same order, the same numbers after a crash, and the same on two processes as on one."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from installation import free_port
from pydantic import BaseModel, ConfigDict
from safetensors.torch import load
from torch import Tensor, nn

from infra.cluster import InlineCluster
from infra.storage import Store
from models.contrastive_loss import info_nce
from stages.batches import generator_of, share_of
from stages.checkpoints import fetch
from stages.manifest import Manifest, ManifestError
from stages.manifest import load as load_manifest
from stages.ref import Ref
from stages.train_loop import train
from stages.training.schedule import Schedule
from stages.training.stepping import recorded
from stages.training.task import Finished, Task, parameter_groups
from stages.workspace import Output, Placement, Workspace

SAMPLES = 30


class Parameters(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    schedule: Schedule
    crash_before: int | None = None
    refuse_on_rank: int | None = None


class Net(nn.Module):
    """Two small towers and a contrastive loss, which needs what all processes hold; with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.text = nn.Linear(6, 4), nn.Linear(5, 4)
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)
        self.drop = 0.0

    def counts(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        return {}

    def forward(self, batch: dict[str, Any], totals: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        one = nn.functional.normalize(self.image(batch["pairs"][0]), dim=-1)
        other = nn.functional.normalize(self.text(batch["pairs"][1]), dim=-1)
        one = nn.functional.dropout(one, self.drop, self.training)
        return {"loss": info_nce(one, other, self.scale.exp()).loss, "scale": self.scale.detach()}


class Drawn:
    """A task on random numbers that belong to their rows."""

    samples = SAMPLES

    def __init__(self, parameters: Parameters) -> None:
        self.parameters, self.module = parameters, Net()

    def groups(self, weight_decay: float) -> list[dict[str, Any]]:
        return parameter_groups(
            self.module.named_parameters(), weight_decay, lambda name: 0.5 if name.startswith("text") else 1.0
        )

    def batches(self, rows: Sequence[int], step: int) -> dict[str, Any]:
        if step == self.parameters.crash_before:
            raise SystemExit("a power cut")
        if step == 3 and os.environ.get("RANK") == str(self.parameters.refuse_on_rank):
            raise ManifestError("the shard holds no picture 17; make the shards again")

        def drawn(kind: str, width: int) -> Tensor:
            return torch.stack([torch.from_numpy(generator_of(kind, row).normal(size=width)).float() for row in rows])

        image = drawn("image", 6)
        return {"pairs": [image, drawn("text", 5)]}

    def finish(self) -> Finished:
        assert not self.module.training and not torch.is_grad_enabled()
        return Finished(self.module.state_dict(), metrics={"samples": self.samples})


def build(parameters: Parameters, here: Workspace) -> Task:
    return Drawn(parameters)


def build_with_dropout(parameters: Parameters, here: Workspace) -> Task:
    task = Drawn(parameters)
    task.module.drop = 0.3
    return task


def build_nothing(parameters: Parameters, here: Workspace) -> Task:
    raise ManifestError("shards/clean@t holds 3 samples and all are kept aside; lower held_out_share")


def build_without_end(parameters: Parameters, here: Workspace) -> Task:
    task = Drawn(parameters)

    def refuse() -> Finished:
        raise ManifestError("finish refused; measure on more")

    task.finish = refuse  # type: ignore[method-assign]
    return task


SCHEDULE = Schedule(global_batch_size=8, steps=11, learning_rate=0.02, warmup_steps=3)


def output_of(store: Store, version: str = "t") -> Output:
    return Output(store, Ref(name="checkpoints/contrastive", version=version), "contrastive", {"schedule": "small"})


def make(store: Store, tmp_path: Path, how: Any = build, version: str = "t", **given: Any) -> Manifest:
    here = Workspace(store, InlineCluster(), tmp_path, placement=Placement(checkpoint_steps=4))
    parameters = Parameters(schedule=SCHEDULE).model_copy(update=given)
    return train(how, parameters, output_of(store, version), here)


def read(store: Store, manifest: Manifest, folder: Path) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    files = fetch(store, manifest, folder)
    history = [json.loads(line) for line in (files / "history.jsonl").read_text().splitlines()]
    return load((files / "model.safetensors").read_bytes()), history


def test_processes_share_a_step_without_gap_or_overlap() -> None:
    rows = [11, 0, 2, 25, 22, 17, 5, 14]
    for processes in (1, 2, 4, 8):
        assert [row for rank in range(processes) for row in share_of(rows, rank, processes)] == rows
    with pytest.raises(ManifestError, match="does not divide by 3"):
        share_of(rows, 0, 3)


def test_the_learning_rate_rises_and_falls() -> None:
    factors = [SCHEDULE.factor(step) for step in range(SCHEDULE.steps)]
    assert factors[:4] == pytest.approx([1 / 3, 2 / 3, 1, 1])
    assert factors[3:] == sorted(factors[3:], reverse=True)
    assert SCHEDULE.factor(SCHEDULE.steps) == pytest.approx(SCHEDULE.final_ratio)


def test_training_learns_and_leaves_only_the_checkpoint(store: Store, tmp_path: Path) -> None:
    manifest = make(store, tmp_path)
    weights, history = read(store, manifest, tmp_path / "files")
    assert [row["step"] for row in history] == list(range(1, SCHEDULE.steps + 1))
    assert sum(row["loss"] for row in history[-3:]) < sum(row["loss"] for row in history[:3])
    assert torch.equal(weights["frozen"], torch.ones(3))
    assert manifest.totals["last_loss"] == history[-1]["loss"] and manifest.totals["samples"] == SAMPLES
    assert not [key for key in store.keys(output_of(store).ref.folder) if "/state/" in key]


@pytest.mark.parametrize("crash_before", [2, 4, 9])
@pytest.mark.parametrize("how", [build, build_with_dropout])
def test_a_run_that_crashed_ends_as_one_that_did_not(
    store: Store, tmp_path: Path, crash_before: int, how: Any
) -> None:
    whole, whole_history = read(store, make(store, tmp_path, how, "whole"), tmp_path / "whole")
    with pytest.raises(SystemExit, match="power cut"):
        make(store, tmp_path, how, "resumed", crash_before=crash_before)
    states = [key for key in store.keys("checkpoints/contrastive/resumed") if key.endswith("state.json")]
    assert len(states) == crash_before // 4
    resumed, history = read(store, make(store, tmp_path, how, "resumed"), tmp_path / "resumed")
    assert history == whole_history
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_a_damaged_state_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        make(store, tmp_path, crash_before=6)
    (state,) = [key for key in store.keys("checkpoints/contrastive/t") if key.endswith("state.json")]
    data = bytearray(store.read(state))
    data[len(data) // 2] ^= 1
    store.write(state, bytes(data))
    with pytest.raises(ManifestError, match=r"state.json cannot be read.*remove .* to train from the start"):
        make(store, tmp_path)


def test_a_finished_run_is_not_trained_again(store: Store, tmp_path: Path) -> None:
    first = make(store, tmp_path)
    again = make(store, tmp_path, crash_before=0)
    assert again == first


def test_a_refused_run_says_why_and_can_be_put_right(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="lower held_out_share"):
        make(store, tmp_path, build_nothing)
    assert make(store, tmp_path).totals["steps"] == SCHEDULE.steps


TWO = """
import sys
from pathlib import Path

import pytest
import torch

import test_train_loop as t
from infra.storage import Store
from stages.manifest import ManifestError

store, scratch = Store(sys.argv[1]), Path(sys.argv[2])
with pytest.raises(ManifestError, match="holds no picture 17"):
    t.make(store, scratch, refuse_on_rank=1)
torch.distributed.barrier()
with pytest.raises(ManifestError, match="finish refused"):
    t.make(store, scratch, t.build_without_end, "endless")
torch.distributed.barrier()
with pytest.raises(SystemExit):
    t.make(store, scratch, crash_before=10)
t.make(store, scratch)
"""


def test_two_processes_train_as_one_refuse_together_and_resume(store: Store, tmp_path: Path) -> None:
    one, history = read(store, make(store, tmp_path), tmp_path / "one")
    root, port, running = tmp_path / "two", str(free_port()), []
    for rank in range(2):
        env = {**os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
        env |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        env["PYTHONPATH"] = os.pathsep.join(str(folder) for folder in list(Path(__file__).parents)[:3])
        command = [sys.executable, "-c", TWO, str(root), str(tmp_path / "scratch")]
        running.append(subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True))
    errors = [process.communicate(timeout=200)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], "\n".join(errors)[-3000:]
    manifest = load_manifest(Store(str(root)), output_of(store).ref)
    two, shared = read(Store(str(root)), manifest, tmp_path / "files")
    assert [row["step"] for row in shared] == [row["step"] for row in history]
    for mine, theirs in zip(shared, history, strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-5), mine["step"]
        assert mine["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-4), mine["step"]
    assert all(torch.allclose(two[name], one[name], rtol=1e-4, atol=1e-5) for name in one)


def test_a_step_late_in_a_long_run_keeps_its_number() -> None:
    found = recorded(1_234_567, {"loss": 1.23456789, "grad_norm": float("nan")})
    assert found == {"step": 1_234_567.0, "loss": 1.23457}
