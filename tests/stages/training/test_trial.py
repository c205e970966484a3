"""A few steps on drawn data, through the parts of the training loop."""

import pytest
import torch
from tiny_towers import GENERATIVE

from stages.placement import Placement
from stages.training.schedule import Schedule
from stages.training.trial import Trial

CPU = torch.device("cpu")
SCHEDULE = Schedule(global_batch_size=1, steps=1, learning_rate=1e-2)


def test_steps_move_what_learns() -> None:
    trial = Trial(GENERATIVE, 4, 2, device=CPU, schedule=SCHEDULE, placement=Placement())
    before = {name: value.detach().clone() for name, value in trial.module.named_parameters()}
    took = trial.take(1)
    assert took.gradients > 0 and took.update > 0 and trial.flops() > 0
    moved = {name for name, value in trial.module.named_parameters() if not torch.equal(before[name], value)}
    learns = {name for name, value in trial.module.named_parameters() if value.requires_grad}
    assert moved == learns and moved < before.keys()
    assert trial.trained == sum(before[name].numel() for name in learns)
    assert trial.held() is None, "the CPU's allocator tells nothing"


def test_frozen_towers_see_the_pictures_of_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """What they saw is remembered within a step; a trial that went on remembering would take too short."""
    trial, seen = Trial(GENERATIVE, 4, 2, device=CPU, schedule=SCHEDULE, placement=Placement()), []
    model = trial.module.model.vision_model  # type: ignore[union-attr]
    model.register_forward_hook(lambda *_: seen.append(1))  # type: ignore[union-attr,operator]
    counts = []
    for _ in range(3):
        trial.gradients()
        trial.update()
        counts.append(len(seen))
        seen.clear()
    assert counts == [2, 2, 2], "once for each micro batch, although each is computed twice"


def test_half_precision_is_around_each_pass_alone() -> None:
    half = SCHEDULE.model_copy(update={"precision": "bf16"})
    trial = Trial(GENERATIVE, 4, 1, device=CPU, schedule=half, placement=Placement(activation_checkpointing=True))
    kinds = set()
    head = trial.module.model.qllama.lm_head  # type: ignore[union-attr]
    head.register_forward_hook(lambda _, __, out: kinds.add(out.dtype))  # type: ignore[union-attr,operator]
    trial.gradients()
    assert kinds == {torch.bfloat16}
    assert {each.dtype for each in trial.module.parameters()} == {torch.float32}
