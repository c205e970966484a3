"""Three steps of small objectives under any placement, in this process or in several."""

import gc
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from infra.cluster import InlineCluster
from infra.storage import Store
from models.config import InternVLConfig, TextConfig, VisionConfig
from models.contrastive_loss import info_nce
from models.contrastive_objective import ContrastiveObjective
from models.grad_cache import accumulate
from models.internvl import InternVL
from models.losses import gather
from models.objective import Joint, JointObjective, totals_of
from stages.batches import generator_of
from stages.manifest import Manifest
from stages.placement import Sharding
from stages.ref import Ref
from stages.train_loop import train
from stages.training import placing
from stages.training.gang import Gang
from stages.training.job import Job
from stages.training.loading import order_of, steps
from stages.training.optimizer import set_rates
from stages.training.placing import Placed, place
from stages.training.schedule import Schedule
from stages.training.sharding import Gathered
from stages.training.task import Finished, parameter_groups
from stages.workspace import Output, Placement, Workspace

SAMPLES, WIDTH = 40, 6
SMALL = InternVLConfig(
    vision=VisionConfig(
        image_size=16,
        patch_size=8,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        initializer_factor=1.0,
    ),
    text=TextConfig(
        vocab_size=24,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=24,
    ),
    embed_dim=8,
    attn_pool_num_heads=2,
    num_query_token=3,
    context_length=8,
)


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
        loss = info_nce(features["one"], features["other"], features["scale"]).loss
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


class Thrice(nn.Module):
    """InternVL-G's layers, each run several times in a step, behind frozen towers; a mean over rows."""

    def __init__(self) -> None:
        super().__init__()
        self.model = InternVL(SMALL)
        self.model.vision_model.requires_grad_(False)
        for name, parameter in self.model.qllama.named_parameters():
            parameter.requires_grad_("cross" in name)
        for unused in (self.model.clip_projector, self.model.text_projection, self.model.logit_scale):
            unused.requires_grad_(False)

    def counts(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"rows": torch.tensor(float(batch["input_ids"].shape[0]))}

    def forward(self, batch: Mapping[str, Tensor], totals: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        model, ids, mask = self.model, batch["input_ids"], batch["attention_mask"]
        vision = model.see(batch["pixel_values"])
        hidden, cache = model.ask(vision)
        terms = model.pool_queries(hidden).square()[:, 0] + model.match(vision, ids, mask)[:, 0].square()
        terms = terms + model.describe(cache, ids, mask).square().mean(dim=(1, 2))
        return {"loss": terms.sum() / (totals or totals_of(self, [batch]))["rows"]}


OBJECTIVES: dict[str, Callable[[], nn.Module]] = {
    "plain": Plain,
    "pairs": Pairs,
    "contrastive": lambda: ContrastiveObjective(InternVL(SMALL, generative=False)),
    "thrice": Thrice,
}


class Drawn:
    """A task on random numbers that belong to their rows."""

    samples = SAMPLES

    def __init__(self, parameters: Parameters) -> None:
        self.module: nn.Module = OBJECTIVES[parameters.kind]()
        if parameters.kind == "contrastive":
            self.module.model.qllama.lm_head.requires_grad_(False)

    def groups(self, weight_decay: float) -> list[dict[str, Any]]:
        return parameter_groups(self.module.named_parameters(), weight_decay)

    def batches(self, rows: Sequence[int], step: int) -> dict[str, Any]:
        def drawn(kind: str) -> Tensor:
            return torch.stack([torch.from_numpy(generator_of(kind, row).normal(size=WIDTH)).float() for row in rows])

        tokens = torch.tensor([1.0 + row % 7 for row in rows])
        ids = (drawn("text").abs() * 9).long() % 24
        pictures = drawn("image").repeat(1, 128).view(-1, 3, 16, 16)
        return {
            "image": drawn("image"),
            "text": drawn("text"),
            "tokens": tokens,
            "pixel_values": pictures,
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
        }

    def finish(self) -> Finished:
        assert not any(isinstance(each, DTensor) for each in gc.get_objects()), "shards lie beside the whole model"
        return Finished(self.module.state_dict())


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
    for step in steps(gang, task, order_of(gang, task), 0):
        set_rates(placed.optimizer, job.schedule.factor(step.number) * job.schedule.learning_rate)
        totals = totals_of(placed.objective, step.micro_batches)
        losses = accumulate(placed.module, step.micro_batches, totals, placed.backward, placed.no_sync)
        found["norms"].append(float(placed.clip(job.schedule.max_grad_norm)))
        found["losses"].append(gang.mean({"loss": losses["loss"]})["loss"])
        found["rows"].append(step.rows)
        placed.step()
    kinds = {name: type(p).__name__ for name, p in placed.bare.named_parameters()}
    states = {id(parameter) for parameter in placed.optimizer.state}
    return {
        **found,
        "weights": dict(Gathered(placed.bare)),
        "kinds": kinds,
        "held": sum(local_size(parameter) for parameter in placed.bare.parameters()),
        "states": sorted(name for name, p in placed.bare.named_parameters() if id(p) in states),
    }


def local_size(parameter: Tensor) -> int:
    return int(parameter.to_local().numel() if hasattr(parameter, "to_local") else parameter.numel())


class Case(NamedTuple):
    """One way to run one objective."""

    kind: str
    sharding: Sharding
    micro_batch_size: int | None
    optimizer: Literal["adamw", "stable_adamw"] = "adamw"

    def __str__(self) -> str:
        return "-".join(map(str, self))

    def run(self, folder: Path, **given: Any) -> dict[str, Any]:
        placement = Placement(sharding=self.sharding, micro_batch_size=self.micro_batch_size, **given)
        rate = 0.02 if self.kind in ("plain", "pairs") else 0.002
        return three_steps(job_of(folder, self.kind, placement, optimizer=self.optimizer, learning_rate=rate))

    def alone(self) -> "Case":
        """Return the same on one process, all rows at once."""
        return self._replace(sharding="ddp", micro_batch_size=None)


CASES = [
    *(Case(kind, how, size) for kind in ("plain", "pairs") for how in ("ddp", "fsdp2") for size in (1, 2, None)),
    *(Case(kind, how, 2) for kind in ("contrastive", "thrice") for how in ("ddp", "fsdp2")),
    *(Case("contrastive", how, None) for how in ("ddp", "fsdp2")),
    *(Case("pairs", how, 2, "stable_adamw") for how in ("ddp", "fsdp2")),
]


TRICKY = Case("contrastive", "fsdp2", 2)


def all_cases(folder: Path) -> None:
    """Run every case and leave what the first process found."""
    for case in CASES:
        found = case.run(folder)
        keep(found, folder / f"{case}.pt")
    keep(TRICKY.run(folder, activation_checkpointing=True), folder / "checkpointed.pt")
    train_whole(folder / "store", "fsdp2")
    placing.average_whole = lambda parameters: None
    keep(TRICKY.run(folder), folder / "not-averaged.pt")


def train_whole(folder: Path, sharding: Sharding) -> Manifest:
    """Train through the real loop, to a published checkpoint."""
    placement = Placement(sharding=sharding)
    job = job_of(folder, "plain", placement)
    here = Workspace(job.output.store, InlineCluster(), folder, placement=placement)
    return train(build, job.parameters, job.output, here)


def keep(found: dict[str, Any], path: Path) -> None:
    if os.environ["RANK"] == "0":
        torch.save(found, path)
