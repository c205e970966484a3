"""Objectives on drawn data: they train what the stage trains, and their FLOPs are those that the plan counts."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from models.objective import totals_of
from models.step_cost import step_cost
from models.step_shape import Shape
from models.trials import batches, objective_of
from pipelines.names import FlowName, RecipeName
from pipelines.plan import steps_of
from pipelines.plan_shapes import shapes_of
from pipelines.training_price import Training, training_prices


@pytest.fixture(scope="module")
def planned() -> tuple[dict[str, Shape], dict[str, Training]]:
    """Return what the tiny recipe's trainings compute, and what they cost, by stage."""
    steps = steps_of(FlowName.TRAIN, RecipeName.TINY)
    specs = {step.artifact.removeprefix("checkpoints/"): step.spec for step in steps}
    return shapes_of(specs), {each.stage: each for each in training_prices(steps)}


@pytest.mark.parametrize("stage", ["language", "generative", "instruct"])
def test_a_step_costs_what_the_plan_says(stage: str, planned: tuple[dict[str, Shape], dict[str, Training]]) -> None:
    shapes, prices = planned
    shape, rows = shapes[stage], 2
    if shape.packed:
        shape = replace(shape, tokens=2 * shape.length, tiles=2 * (shape.tiles * shape.length // shape.tokens))
        rows = 1
    objective = objective_of(shape)
    assert isinstance(objective, nn.Module)
    assert sum(each.numel() for each in objective.parameters()) == prices[stage].parameters
    assert sum(each.numel() for each in objective.parameters() if each.requires_grad) == prices[stage].trained
    (batch,) = batches(shape, rows, 1)
    one = prices[stage].flops / prices[stage].samples
    # The plan counts a prediction for each token, and a text's last predicts nothing.
    assert step_cost(objective, batch).useful == pytest.approx(2 * one, rel=0.02)


@pytest.mark.parametrize("kept", [None, 5])
def test_masked_pictures_cost_what_is_seen_of_them(
    kept: int | None, planned: tuple[dict[str, Shape], dict[str, Training]]
) -> None:
    shape = replace(planned[0]["contrastive"], kept=kept).cut(1)
    objective, (batch, other) = objective_of(shape), batches(shape, 3, 2)
    assert shape.towers is not None
    patches = kept or shape.towers.vision.grid**2
    assert step_cost(objective, batch).tokens == 3 * (patches + 1 + shape.tokens)
    losses = objective(batch, totals_of(objective, [batch, other]))
    losses["loss"].backward()
    learned = [each for each in objective.parameters() if each.requires_grad]  # type: ignore[attr-defined]
    assert all(each.grad is not None and torch.isfinite(each.grad).all() for each in learned)


def test_shallower_models_keep_their_widths(planned: tuple[dict[str, Shape], dict[str, Training]]) -> None:
    for shape in planned[0].values():
        cut = shape.cut(1)
        told, before = cut.sizes(), shape.sizes()
        changed = {name for name in told if told[name] != before[name]}
        assert changed <= {"towers", "text", "chat"}
        wide = [config for config in (cut.towers, cut.chat) if config is not None]
        assert all(each.vision.num_hidden_layers == each.text.num_hidden_layers == 1 for each in wide)
        assert cut.cut(1) == cut
