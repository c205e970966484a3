"""Three steps of small objectives under any placement, in this process or in several."""

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from installation import free_port
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from infra.storage import Store
from models.grad_cache import accumulate
from models.losses import gather, info_nce
from models.objective import Joint, JointObjective, totals_of
from stages.batches import generator_of
from stages.ref import Ref
from stages.training.gang import Gang
from stages.training.job import Job
from stages.training.loading import steps
from stages.training.optimizer import set_rates
from stages.training.placing import Placed, place
from stages.training.schedule import Schedule
from stages.training.sharding import full_state
from stages.training.task import Finished, parameter_groups
from stages.workspace import Output, Placement, Workspace

ROOT = Path(__file__).parents[3]
SAMPLES, WIDTH = 40, 6


class Parameters(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    schedule: Schedule
    kind: str


class Tower(nn.Module):
    """Layers with a frozen one among them, and what is in no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.layers[1].requires_grad_(False)
        self.head = nn.Linear(WIDTH, 5)
        self.gradient_checkpointing = False

    def forward(self, hidden: Tensor) -> Tensor:
        for layer in self.layers:
            hidden = hidden + torch.tanh(layer(hidden))
        return torch.as_tensor(self.head(hidden))


class Plain(nn.Module):
    """A mean over tokens, of which each row has another number."""

    def __init__(self) -> None:
        super().__init__()
        self.tower, self.scale = Tower(), nn.Parameter(torch.tensor(0.7))

    def counts(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"tokens": batch["tokens"].sum().float()}

    def forward(self, batch: Mapping[str, Tensor], totals: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        totals = totals or totals_of(self, [batch])
        errors = (self.scale * self.tower(batch["image"])).square().mean(dim=1) * batch["tokens"]
        return {"loss": errors.sum() / totals["tokens"], "sample_loss": errors.detach()}


class Pairs(JointObjective):
    """A contrast over the global batch, and a mean over rows that depends on what was found in it."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.text, self.scale = Tower(), Tower(), nn.Parameter(torch.tensor(1.0))

    def counts(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"rows": torch.tensor(float(batch["image"].shape[0]))}

    def embed(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        one, other = self.image(batch["image"]), self.text(batch["text"])
        return {"one": F.normalize(one, dim=-1), "other": F.normalize(other, dim=-1), "scale": self.scale.exp()}

    def joint(self, features: Mapping[str, Tensor]) -> Joint:
        loss = info_nce(features["one"], features["other"], features["scale"])
        nearest = gather(features["other"].detach()).mean(dim=0).expand(features["one"].shape[0], -1)
        return Joint({"loss": loss}, {"nearest": nearest})

    def rest(
        self,
        batch: Mapping[str, Tensor],
        features: Mapping[str, Tensor],
        context: Mapping[str, Tensor],
        totals: Mapping[str, Tensor] | None,
    ) -> dict[str, Tensor]:
        totals = totals or totals_of(self, [batch])
        return {"loss": (features["one"] * context["nearest"]).sum() / totals["rows"]}


class Drawn:
    """A task on random numbers that belong to their rows."""

    samples = SAMPLES

    def __init__(self, parameters: Parameters) -> None:
        self.module: nn.Module = {"plain": Plain, "pairs": Pairs}[parameters.kind]()

    def groups(self, weight_decay: float) -> list[dict[str, Any]]:
        return parameter_groups(self.module.named_parameters(), weight_decay)

    def batches(self, rows: Sequence[int], step: int) -> dict[str, Any]:
        def drawn(kind: str) -> Tensor:
            return torch.stack([torch.from_numpy(generator_of(kind, row).normal(size=WIDTH)).float() for row in rows])

        tokens = torch.tensor([1.0 + row % 7 for row in rows])
        return {"image": drawn("image"), "text": drawn("text"), "tokens": tokens}

    def finish(self) -> Finished:
        return Finished({"model.bin": b""})


def build(parameters: Parameters, here: Workspace) -> Drawn:
    return Drawn(parameters)


SCHEDULE = Schedule(global_batch_size=8, steps=3, learning_rate=0.02, warmup_steps=2, max_grad_norm=0.3)


def job_of(folder: Path, kind: str, placement: Placement, **given: Any) -> Job:
    output = Output(Store(str(folder)), Ref(name="checkpoints/small", version="t"), "small", {"kind": kind})
    parameters = Parameters(schedule=SCHEDULE.model_copy(update=given), kind=kind)
    return Job(build, parameters, {}, output, placement, "0" * 64)


def place_small(job: Job) -> tuple[Gang, Drawn, Placed]:
    gang = Gang(job)
    torch.manual_seed(0)
    task = Drawn(job.parameters)
    return gang, task, place(gang, task)


def three_steps(job: Job) -> dict[str, Any]:
    """Return losses, gradient norms and weights of three steps through the parts of the real loop."""
    gang, task, placed = place_small(job)
    found: dict[str, Any] = {"losses": [], "norms": [], "rows": []}
    for step in steps(gang, task, 0):
        set_rates(placed.optimizer, job.schedule.factor(step.number) * job.schedule.learning_rate)
        totals = totals_of(placed.objective, step.micro_batches)
        losses = accumulate(placed.module, step.micro_batches, totals, placed.backward, placed.no_sync)
        found["norms"].append(float(placed.clip(job.schedule.max_grad_norm)))
        found["losses"].append(gang.mean({"loss": losses["loss"]})["loss"])
        found["rows"].append(step.rows)
        placed.optimizer.step()
        placed.optimizer.zero_grad(set_to_none=True)
    kinds = {name: type(p).__name__ for name, p in placed.bare.named_parameters()}
    states = {id(parameter) for parameter in placed.optimizer.state}
    return {
        **found,
        "weights": full_state(placed.bare),
        "kinds": kinds,
        "held": sum(local_size(parameter) for parameter in placed.bare.parameters()),
        "states": sorted(name for name, p in placed.bare.named_parameters() if id(p) in states),
    }


def local_size(parameter: Tensor) -> int:
    return int(parameter.to_local().numel() if hasattr(parameter, "to_local") else parameter.numel())


def spawn(code: str, arguments: Iterable[object], processes: int = 2) -> list["subprocess.Popen[str]"]:
    """Start processes that find each other; `code` may import this file."""
    port, running = str(free_port()), []
    for rank in range(processes):
        env = {**os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
        env |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
        folders = [Path(__file__).parent, ROOT / "tests" / "stages", ROOT / "tests", ROOT]
        env["PYTHONPATH"] = os.pathsep.join(map(str, folders))
        command = [sys.executable, "-c", code, *map(str, arguments)]
        running.append(subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True))
    return running


def finished(running: list["subprocess.Popen[str]"]) -> None:
    """Wait for spawned processes.

    Raises:
        AssertionError: One ended with an error.
    """
    errors = [process.communicate(timeout=200)[1] for process in running]
    assert [process.returncode for process in running] == [0] * len(running), "\n".join(errors)[-4000:]


MICRO = (1, 2, None)
CASES = {
    f"{kind}-{sharding}-{micro}": (kind, Placement(sharding=sharding, micro_batch_size=micro))
    for kind in ("plain", "pairs")
    for sharding in ("ddp", "fsdp2")
    for micro in MICRO
}


def all_cases(folder: Path) -> None:
    """Run every case and leave what the first process found."""
    for optimizer in ("adamw", "stable_adamw"):
        for name, (kind, placement) in CASES.items():
            found = three_steps(job_of(folder, kind, placement, optimizer=optimizer))
            if os.environ["RANK"] == "0":
                torch.save(found, folder / f"{name}-{optimizer}.pt")


def alone(kind: str, folder: Path, micro_batch_size: int | None = None, **given: Any) -> dict[str, Any]:
    """Return what one process gives."""
    return three_steps(job_of(folder, kind, replace(Placement(), micro_batch_size=micro_batch_size), **given))
