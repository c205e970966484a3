"""Distillation: what is compared, what learns, and shares that add up."""

import hashlib
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from models.config import VisionConfig
from models.distillation import DistillationObjective
from models.intern_vit import InternVisionModel

SHAPE = {"image_size": 16, "patch_size": 4, "num_attention_heads": 2, "initializer_factor": 1.0}


def encoder(width: int, layers: int, seed: int, **fields: Any) -> InternVisionModel:
    torch.manual_seed(seed)
    given = {**SHAPE, "hidden_size": width, "num_hidden_layers": layers, "intermediate_size": 2 * width, **fields}
    model = InternVisionModel(VisionConfig.model_validate(given))
    with torch.no_grad():
        for value in model.parameters():  # so that pictures tell in the outputs of an untrained model
            value.mul_(3 if value.ndim == 2 else 1)
    return model


def objective(layers: int = 2) -> DistillationObjective:
    return DistillationObjective(encoder(24, 3, seed=0), encoder(16, 2, seed=1), layers)


def pictures(rows: int = 4) -> dict[str, torch.Tensor]:
    return {"pixel_values": torch.randn(rows, 3, 16, 16, generator=torch.Generator().manual_seed(5))}


def test_the_loss_is_one_less_the_mean_cosine_of_the_last_layers() -> None:
    module, batch = objective(), pictures()
    found = module(batch)
    theirs = module.teacher(batch["pixel_values"]).hidden_states
    mine = module.student(batch["pixel_values"]).hidden_states
    cosines = [
        F.cosine_similarity(module.maps[place](mine[place - 2]), theirs[place - 2], dim=-1) for place in (0, 1)
    ]
    assert cosines[0].shape == (4, 17), "the class token is one of the tokens"
    assert found["loss"].item() == pytest.approx(1 - torch.stack(cosines).mean().item(), rel=1e-5)
    assert found["cosine"].item() == pytest.approx(1 - found["loss"].item(), rel=1e-5)
    assert torch.allclose(found["sample_loss"].mean(), found["loss"])


def test_micro_batches_add_up() -> None:
    module, batch = objective(), pictures()
    totals = module.counts(batch)
    parts = [module({"pixel_values": each}, totals) for each in batch["pixel_values"].split([1, 3])]
    for name in ("loss", "cosine"):
        assert sum(part[name].item() for part in parts) == pytest.approx(module(batch)[name].item(), rel=1e-5)


def test_a_batch_is_learned_by_heart_and_the_teacher_stays() -> None:
    module, batch = objective(), pictures()

    def digest() -> str:
        data = b"".join(value.numpy().tobytes() for value in module.teacher.state_dict().values())
        return hashlib.sha256(data).hexdigest()

    before = digest()
    learns = [value for value in module.parameters() if value.requires_grad]
    assert {id(value) for value in learns} == {
        id(value) for part in (module.student, module.maps) for value in part.parameters()
    }
    optimizer = torch.optim.AdamW(learns, lr=1e-2, weight_decay=0.0)
    first = module(batch)["loss"].item()
    for _ in range(80):
        optimizer.zero_grad()
        module(batch)["loss"].backward()
        optimizer.step()
    assert first > 0.5 > 0.05 > module(batch)["loss"].item()
    assert digest() == before and all(value.grad is None for value in module.teacher.parameters())


def test_encoders_that_do_not_see_the_same_places_are_refused() -> None:
    with pytest.raises(ValueError, match="3 last blocks are to be compared and one of the encoders has 2"):
        objective(layers=3)
    with pytest.raises(ValueError, match="patches have 4 pixels a side and the student's 8"):
        DistillationObjective(encoder(24, 3, seed=0), encoder(16, 2, seed=1, patch_size=8), 1)
