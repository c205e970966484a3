"""Frozen means frozen in each real stage: same bytes, no gradients, no optimizer state; and how much is trained."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from real_stages import STAGES, ref_of, workspace_of
from torch import Tensor, nn

from infra.storage import Store
from models.grad_cache import accumulate, bare
from stages import train_loop
from stages.training import stepping
from stages.training.placing import Placed, place
from stages.training.task import Task
from stages.workspace import Output

STEPS = 3
HALVES = {"micro_batch_size": 4}


def nothing(name: str) -> bool:
    return False


def carried_head(name: str) -> bool:
    return name == "model.qllama.lm_head.weight"


def towers(name: str) -> bool:
    inside = name.startswith("model.qllama.") and ".cross_attn." not in name
    return inside or name.startswith(("model.vision_model.", "model.clip_projector.", "model.text_projection"))


def encoder(name: str) -> bool:
    return name.startswith("vision_model.")


CASES: dict[str, tuple[str, dict[str, Any], Callable[[str], bool], tuple[int, int]]] = {
    "language": ("language", {}, nothing, (41_120, 0)),
    "contrastive": ("contrastive", {}, carried_head, (55_537, 11_520)),
    "contrastive on a frozen text tower": (
        "contrastive",
        {"text_learning_rate_scale": 0},
        lambda name: name.startswith("model.qllama."),
        (23_377, 43_680),
    ),
    "generative": ("generative", {}, towers, (11_363, 67_056)),
    "instruct": ("instruct", {}, nothing, (69_448, 0)),
    "instruct adapters alone": (
        "instruct",
        {"train_connector": False, "lora": {"vision": 2, "language": 2}},
        lambda name: ".lora_" not in name,
        (3_328, 69_448),
    ),
    "instruct adapters in the language model": (
        "instruct",
        {"train_vision": False, "lora": {"vision": 2, "language": 2}},
        lambda name: ".lora_" not in name and not name.startswith("mlp1."),
        (6_528, 65_096),
    ),
    "instruct alignment": (
        "instruct",
        {"train_vision": False, "train_language": False},
        lambda name: not name.startswith("mlp1."),
        (4_352, 65_096),
    ),
    "instruct alignment with the encoder": (
        "instruct",
        {"train_language": False},
        lambda name: name.startswith("language_model."),
        (24_872, 44_576),
    ),
    "instruct as in the paper": ("instruct", {"train_vision": False}, encoder, (48_928, 20_520)),
}
"""Stage, changed parameters, which weights are frozen, and how many numbers are trained and frozen."""


def digests(module: nn.Module) -> dict[str, str]:
    named = ((name, value.detach().numpy().tobytes()) for name, value in module.named_parameters())
    return {name: hashlib.sha256(data).hexdigest() for name, data in named}


class Watch:
    """Looks at what the loop trains: before the first step, at each step's gradients, and after the last step."""

    def __init__(self) -> None:
        self.before: dict[str, str] = {}
        self.gradients: set[str] = set()
        self.placed: Placed

    def place(self, gang: Any, task: Task) -> Placed:
        self.placed = place(gang, task)
        self.before = digests(self.placed.bare)
        return self.placed

    def accumulate(self, module: nn.Module, *given: Any) -> dict[str, Tensor]:
        losses = accumulate(module, *given)
        self.gradients |= {name for name, value in bare(module).named_parameters() if value.grad is not None}
        return losses


@pytest.mark.parametrize("case", list(CASES))
def test_frozen_means_frozen(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    stage, given, frozen, counts = CASES[case]
    watch = Watch()
    monkeypatch.setattr(train_loop, "place", watch.place)
    monkeypatch.setattr(stepping, "accumulate", watch.accumulate)
    parameters = STAGES[stage].parameters({**given, "schedule": {"steps": STEPS}})
    here = workspace_of(Store(str(world / "store")), stage, tmp_path, **HALVES)
    output = Output(here.store, ref_of(stage, f"frozen-{case.replace(' ', '-')}"), stage, parameters.model_dump())
    STAGES[stage].module.run(parameters, output, here)

    named = dict(watch.placed.bare.named_parameters())
    still, learned = {name for name in named if frozen(name)}, {name for name in named if not frozen(name)}
    after = digests(watch.placed.bare)
    assert {name for name in named if after[name] == watch.before[name]} == still
    assert watch.gradients == learned
    states = {id(parameter) for parameter in watch.placed.optimizer.state}
    assert {name for name, value in named.items() if id(value) in states} == learned
    assert {id(p) for group in watch.placed.optimizer.param_groups for p in group["params"]} == states
    assert tuple(sum(named[name].numel() for name in some) for some in (learned, still)) == counts
