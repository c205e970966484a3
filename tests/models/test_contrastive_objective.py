"""InternVL-C's objective: one step of it, whole or in micro batches, with what it tells beside its loss."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models.contrastive_objective import ContrastiveObjective
from models.grad_cache import accumulate
from models.internvl import MAX_LOGIT_SCALE, InternVL
from models.official_config import internvl_of
from models.renaming import below
from stages.parity import read_recording

ROWS = 4


def recorded() -> tuple[InternVL, dict[str, Tensor]]:
    facts, data = read_recording(Path(__file__).parents[1] / "parity", "internvl_stage2")
    model = InternVL(internvl_of(facts), generative=False)
    weights = below(data, "w.")
    model.load_state_dict({name: weights[name] for name in model.state_dict()})
    batch = {
        "pixel_values": data["pixel_values"],
        "input_ids": data["summarize_input_ids"],
        "attention_mask": data["summarize_attention_mask"],
        "image_id": torch.tensor([5, 5, 6, 7]),
        "caption_id": torch.tensor([1, 2, 3, 4]),
    }
    return model, batch


def step(sizes: Sequence[int], **choices: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    model, batch = recorded()
    objective = ContrastiveObjective(model, **choices)
    cuts = {name: value.split(list(sizes)) for name, value in batch.items()}
    pieces = [{name: each[number] for name, each in cuts.items()} for number in range(len(sizes))]
    losses = accumulate(objective, pieces, {}, lambda loss: loss.backward(), nullcontext)
    return losses, {n: p.grad for n, p in objective.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("choices", [{}, {"soft_targets": True}, {"loss": "sigmoid"}])
def test_micro_batches_decide_nothing(choices: dict[str, Any]) -> None:
    losses, gradients = step([ROWS], **choices)
    assert gradients["model.logit_scale"] != 0 and all(gradient.any() for gradient in gradients.values())
    for sizes in ([1, 3], [1, 1, 2], [1] * ROWS):
        cut_losses, cut_gradients = step(sizes, **choices)
        assert cut_losses.keys() == losses.keys() and cut_gradients.keys() == gradients.keys()
        for name, value in {**losses, **gradients}.items():
            found = {**cut_losses, **cut_gradients}[name]
            # What single precision leaves of a whole network; `test_grad_cache.py` has the digits of double.
            assert (found - value).abs().max() <= 5e-6 * value.abs().max() + 1e-7, name


def test_a_step_tells_what_the_meters_show() -> None:
    losses, gradients = step([ROWS])
    assert losses.keys() == {"loss", "sample_loss", "scale", "positive_cosine", "hardest_gap", "masked_share"}
    assert losses["sample_loss"].shape == (ROWS,) and losses["sample_loss"].mean().item() == pytest.approx(
        losses["loss"].item()
    )
    assert losses["masked_share"].item() == pytest.approx(2 / 12), "two pairs share a picture"
    assert "logit_bias" not in gradients and "logit_bias" in step([ROWS], loss="sigmoid")[1]
    # With soft targets what was left out is right instead.
    soft = step([ROWS], soft_targets=True)[0]
    assert soft["masked_share"] == 0 and soft["loss"] != pytest.approx(losses["loss"].item(), rel=1e-3)


def test_the_learned_scale_stays_below_a_hundred() -> None:
    model, batch = recorded()
    with torch.no_grad():
        model.logit_scale.fill_(9.0)
    objective = ContrastiveObjective(model)
    assert objective(batch)["scale"].item() == pytest.approx(model.logit_scale.exp().item()), "clamped after the step"
    objective.after_step()
    assert objective(batch)["scale"].item() == pytest.approx(100)
    assert model.logit_scale.item() == pytest.approx(MAX_LOGIT_SCALE)
