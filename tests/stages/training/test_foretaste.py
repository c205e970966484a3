"""What a recipe's own data cost: counted over the batches of its first steps."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_towers import TOWERS

from infra.cluster import InlineCluster
from infra.storage import Store
from models.generative_objective import GenerativeObjective
from models.step_cost import step_cost
from models.step_shape import Shape
from models.trials import batches, objective_of
from stages.placement import Placement
from stages.training.foretaste import sample_flops
from stages.training.schedule import Schedule
from stages.workspace import Workspace

LANGUAGE = Shape("language", text=TOWERS.text, tokens=0)


def flops(module: Any, make: Any, folder: Path, **schedule: int) -> float:
    given = SimpleNamespace(schedule=Schedule(learning_rate=1e-3, **schedule))
    task = SimpleNamespace(module=module, samples=20, batches=make)
    here = Workspace(Store(str(folder)), InlineCluster(), folder, {}, Placement(workers=2))
    return sample_flops(lambda *_: task, given, here)  # type: ignore[arg-type,return-value]


def test_it_is_the_mean_of_the_first_steps_of_one_process(tmp_path: Path) -> None:
    objective, made = objective_of(LANGUAGE), []

    def make(rows: list[int], step: int) -> dict[str, torch.Tensor]:
        ids = torch.full((len(rows), 4 + 4 * step), 7)
        made.append({"input_ids": ids, "labels": ids.clone()})
        return made[-1]

    found = flops(objective, make, tmp_path, global_batch_size=6, steps=10)
    assert [tuple(each["input_ids"].shape) for each in made] == [(3, 4), (3, 8)], "half of each step's rows"
    assert found == pytest.approx(sum(step_cost(objective, each).computed for each in made) / 6)


def test_what_frozen_towers_remember_costs_once(tmp_path: Path) -> None:
    shape, model = Shape("generative", towers=TOWERS, tokens=6), objective_of(Shape("generative", towers=TOWERS))
    assert isinstance(model, GenerativeObjective)
    (batch,) = batches(shape, 2, 1)

    def make(rows: list[int], step: int) -> dict[str, torch.Tensor]:
        return {**batch, "row": batch["row"].clone()}

    def whole(room: int, steps: int) -> float:
        objective = GenerativeObjective(model.model, paired=True, vision_bytes=room)
        return flops(objective, make, tmp_path, global_batch_size=4, steps=steps)

    once = step_cost(model, batch).computed / 2
    assert whole(room=0, steps=50) == pytest.approx(once), "nothing is remembered"
    assert whole(room=1 << 20, steps=5) == pytest.approx(once), "each of the 20 samples is read once"
    rest = whole(room=1 << 20, steps=10**6)
    assert whole(room=1 << 20, steps=50) == pytest.approx(0.1 * once + 0.9 * rest, rel=1e-4) and rest < once
