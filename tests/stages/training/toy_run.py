"""A training run of milliseconds whose numbers depend on everything that a state must hold."""

import os
import random
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from safetensors.torch import load
from torch import Tensor, nn

from infra.cluster import Cluster, InlineCluster
from infra.storage import Store
from models.objective import totals_of
from stages.batches import generator_of
from stages.checkpoints import fetch
from stages.manifest import Manifest
from stages.ref import Ref
from stages.train_loop import train
from stages.training.guard import GuardPolicy
from stages.training.schedule import Schedule
from stages.training.task import Finished, parameter_groups
from stages.workspace import Output, Placement, Workspace

SAMPLES, STEPS = 30, 11
SCHEDULE = Schedule(
    global_batch_size=8,
    steps=STEPS,
    learning_rate=0.02,
    warmup_steps=3,
    # It never goes back, so no state is kept for that: `states_kept` alone says how many there are.
    guard=GuardPolicy(skips_within=1, high_steps=1),
)
REF = Ref(name="checkpoints/contrastive", version="t")


class Parameters(BaseModel):
    """What happens to the run; not part of the identity that the tests give their output."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schedule: Schedule = SCHEDULE
    noise: bool = True
    trace: str = ""
    """A folder that gets the losses of each process in hexadecimal, and the samples of its batches."""
    rank: int = 0
    """Which process the following happens to."""
    stop_at: int | None = None
    """At this step an exception ends the run."""
    signal_at: tuple[int, int] | None = None
    """(step, signal number): the process sends itself a signal while it makes this step's batch."""
    kill_in_backward: int | None = None
    """The process dies after so many backward passes: gradients are there, and were not used yet."""


class Net(nn.Module):
    """Two towers, parameters of all kinds, and noise from all generators of a process."""

    def __init__(self, parameters: Parameters) -> None:
        super().__init__()
        self.given, self._passes = parameters, 0
        self.image, self.text = nn.Linear(6, 5), nn.Linear(7, 5)
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("scratch", torch.zeros(2), persistent=False)

    def counts(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"rows": torch.tensor(float(len(batch["image"])))}

    def forward(self, batch: Mapping[str, Tensor], totals: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        image, text = self.image(batch["image"]), self.text(batch["text"])
        if self.given.noise:
            drawn = [random.random(), np.random.standard_normal(), float(torch.randn(()))]
            image = image + 0.1 * torch.tensor(drawn).sum()
            image = nn.functional.dropout(image, 0.2, self.training)
        self.seen += len(image)
        totals = totals or totals_of(self, [batch])
        loss = (self.scale.exp() * image - text).square().mean(dim=1).sum() / totals["rows"]
        self._note(loss)
        return {"loss": loss}

    def _note(self, loss: Tensor) -> None:
        if self.given.trace:
            with _trace(self.given, "losses").open("a") as out:
                out.write(f"{float(loss.detach()).hex()}\n")
        if self.given.kill_in_backward is not None and rank() == self.given.rank:
            self._passes += 1
            if self._passes == self.given.kill_in_backward:
                self.image.bias.register_hook(lambda _: os.kill(os.getpid(), signal.SIGKILL))


def rank() -> int:
    return int(os.environ.get("RANK", "0"))


def _trace(parameters: Parameters, kind: str) -> Path:
    return Path(parameters.trace) / f"{kind}-{rank()}.txt"


class Batches:
    """Random numbers that belong to their rows; what happens to a run happens here."""

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters

    def __call__(self, rows: Sequence[int], step: int) -> dict[str, Any]:
        given = self.parameters
        if rank() == given.rank:
            if step == given.stop_at:
                raise SystemExit("a power cut")
            if given.signal_at is not None and step == given.signal_at[0]:
                os.kill(os.getpid(), given.signal_at[1])
        if given.trace:
            with _trace(given, "rows").open("a") as out:
                out.write(f"{step} {' '.join(map(str, rows))}\n")

        def drawn(kind: str, width: int) -> Tensor:
            return torch.stack([torch.from_numpy(generator_of(kind, row).normal(size=width)).float() for row in rows])

        return {"image": drawn("image", 6), "text": drawn("text", 7)}


class Toy:
    """The task; where nothing else says so, its generators begin where a new process's would not."""

    samples = SAMPLES

    def __init__(self, parameters: Parameters) -> None:
        random.seed(rank())
        np.random.seed(rank())
        self.module, self.batches = Net(parameters), Batches(parameters)

    def groups(self, weight_decay: float) -> list[dict[str, Any]]:
        return parameter_groups(
            self.module.named_parameters(), weight_decay, lambda name: 0.5 if name.startswith("text") else 1.0
        )

    def finish(self) -> Finished:
        return Finished(self.module.state_dict())


def build(parameters: Parameters, here: Workspace) -> Toy:
    return Toy(parameters)


def output_of(store: Store) -> Output:
    return Output(store, REF, "contrastive", {"schedule": "small"})


def make(
    store: Store,
    scratch: Path,
    placement: dict[str, Any] | None = None,
    cluster: Cluster | None = None,
    how: Callable[[Parameters, Workspace], Toy] = build,
    **given: Any,
) -> Manifest:
    """Train to the end, or until what `given` says happens."""
    placed = Placement(**{"checkpoint_steps": 3, **(placement or {})})
    here = Workspace(store, cluster or InlineCluster(), scratch, placement=placed)
    return train(how, Parameters(**given), output_of(store), here)


def result(store: Store, manifest: Manifest, folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files that a run leaves behind."""
    files = fetch(store, manifest, folder)
    return {path.name: path.read_bytes() for path in sorted(files.iterdir())}


def weights(found: dict[str, bytes]) -> dict[str, Tensor]:
    loaded: dict[str, Tensor] = load(found["model.safetensors"])
    return loaded


def state_keys(store: Store, ending: str = "") -> list[str]:
    """Return the keys of a run's states, the oldest first."""
    return [key for key in store.keys(f"{REF.folder}/state") if key.endswith(ending)]
