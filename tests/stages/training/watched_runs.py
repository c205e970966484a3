"""A regression of milliseconds, some of whose samples are poisoned."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from infra.cluster import InlineCluster
from infra.storage import Store
from models.objective import totals_of
from stages.batches import generator_of
from stages.manifest import Manifest
from stages.ref import Ref
from stages.train_loop import train
from stages.training.order import Order, Source
from stages.training.schedule import Schedule
from stages.training.task import Finished, SampleFacts, parameter_groups
from stages.workspace import Output, Placement, Workspace

SAMPLES, WIDTH = 4096, 6
REF = Ref(name="checkpoints/watched", version="t")
SCHEDULE = Schedule(global_batch_size=8, steps=100, learning_rate=0.02, warmup_steps=3)


def rows_of_batch(number: int) -> list[int]:
    return Order(0, [Source("samples", (SAMPLES,))]).batch(number, SCHEDULE.global_batch_size)


class Parameters(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    schedule: Schedule = SCHEDULE
    loud: tuple[int, ...] = ()
    """Samples whose loss is a hundredfold and more."""
    broken: tuple[int, ...] = ()
    """Samples with a pixel that is not a number."""
    stop_at: int | None = None


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(WIDTH, 8), nn.Linear(8, 1)
        self.log = nn.Parameter(torch.tensor(0.0))

    def counts(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"rows": torch.tensor(float(len(batch["image"])))}

    def forward(self, batch: Mapping[str, Tensor], totals: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        found = self.last(torch.tanh(self.first(batch["image"])))[:, 0] * self.log.exp()
        loss = (found - batch["wanted"]).square()
        totals = totals or totals_of(self, [batch])
        return {"loss": loss.sum() / totals["rows"], "sample_loss": loss.detach()}


class Batches:
    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters

    def __call__(self, rows: Sequence[int], step: int) -> dict[str, Tensor]:
        if step == self.parameters.stop_at:
            raise SystemExit("a power cut")
        drawn = [torch.from_numpy(generator_of("x", row).normal(size=WIDTH + 1)).float() for row in rows]
        image = torch.stack(drawn)[:, :WIDTH]
        wanted = image.sum(dim=1) * 0.3 + torch.stack(drawn)[:, WIDTH] * 0.3
        for place, row in enumerate(rows):
            if row in self.parameters.loud:
                wanted[place] = 100.0
            if row in self.parameters.broken:
                image[place, 2] = torch.nan
        return {"image": image, "wanted": wanted}

    def facts(self, row: int) -> SampleFacts:
        return SampleFacts(f"uid-{row}", "odd" if row % 2 else "even", "en")


class Watched:
    samples = SAMPLES

    def __init__(self, parameters: Parameters) -> None:
        self.module, self.batches = Net(), Batches(parameters)

    def groups(self, weight_decay: float) -> list[dict[str, Any]]:
        return parameter_groups(self.module.named_parameters(), weight_decay)

    def finish(self) -> Finished:
        return Finished(self.module.state_dict())


def _build(parameters: Parameters, here: Workspace) -> Watched:
    return Watched(parameters)


def make(store: Store, scratch: Path, placement: dict[str, Any] | None = None, **given: Any) -> Manifest:
    parameters = Parameters(**given)
    placed = Placement(**{"checkpoint_steps": 10, **(placement or {})})
    here = Workspace(store, InlineCluster(), scratch, placement=placed)
    # What poisons a run is no part of its identity: a restart goes on with the same states.
    identity = {"parameters": {"schedule": parameters.schedule.model_dump(mode="json")}}
    return train(_build, parameters, Output(store, REF, "watched", identity), here)
