"""Packed batches hold what unpacked ones hold, and train to the same loss."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.chat import IGNORE, InternVLChat
from models.config import ChatConfig
from models.objective import added
from models.packing import Reduction
from stages.chat_batches import Example, collate, collate_packed

CONTEXT = 39
VISION = {"image_size": 16, "patch_size": 4, "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
TEXT = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
RECORDED = Path(__file__).parents[1] / "golden" / "chat_lengths.json"
ANSWERS = [2, 1, 5, 3]


def examples() -> list[Example]:
    torch.manual_seed(0)
    lengths, shown = [12, 5, 7, 9], [True, False, True, True]
    made = []
    for length, picture, learned in zip(lengths, shown, ANSWERS, strict=True):
        front = [CONTEXT] * 4 if picture else []
        ids = front + [int(each) for each in torch.randint(3, 39, (length - len(front),))]
        labels = [IGNORE] * (length - learned) + ids[length - learned :]
        made.append(Example(ids, labels, torch.randn(1, 3, 16, 16) if picture else None))
    return made


def model_of() -> InternVLChat:
    torch.manual_seed(0)
    config = {"vision": {**VISION, "intermediate_size": 32}, "text": TEXT}
    config |= {"image_context_token_id": CONTEXT, "eos_token_id": 2}  # type: ignore[dict-item]
    return InternVLChat(ChatConfig.model_validate(config)).eval()


def test_conversations_lie_end_to_end_and_every_place_is_read() -> None:
    given = examples()
    packed = collate_packed(given)
    assert packed["sample_index"].tolist() == [[0] * 12 + [1] * 5 + [2] * 7 + [3] * 9]
    assert packed["input_ids"].tolist() == [[token for each in given for token in each.input_ids]]
    assert packed["labels"].tolist() == [[token for each in given for token in each.labels]]
    assert "loss_weights" not in packed


def test_pictures_and_their_noise_follow_their_conversations() -> None:
    given = [replace(each, noise=torch.tensor([place])) for place, each in enumerate(examples())]
    chosen = [given[3], given[0]]
    packed = collate_packed([*chosen, replace(given[1], noise=None)])
    assert torch.equal(packed["pixel_values"], torch.cat([each.pixel_values for each in chosen]))  # type: ignore[misc]
    assert packed["noise"].tolist() == [3, 0]
    assert not {"pixel_values", "noise"} & collate_packed([replace(given[1], noise=None)]).keys()


def packed_loss(model: InternVLChat, parts: Sequence[Sequence[Example]], reduction: Reduction) -> torch.Tensor:
    """Return the loss of a step whose micro batches are these, and leave its gradients."""
    model.zero_grad()
    batches = [collate_packed(part, reduction) for part in parts]
    totals: dict[str, torch.Tensor] = {}
    for batch in batches:
        totals = added(totals, model.counts(batch))
    losses = [model(batch, totals)["loss"] for batch in batches]
    torch.stack(losses).sum().backward()
    return torch.stack(losses).detach().sum()


@pytest.mark.parametrize(("reduction", "power"), [("token", 1.0), ("sample", 0.0), ("square", 0.5)])
def test_packed_or_one_by_one_the_loss_is_the_same_for_each_weighting(reduction: Reduction, power: float) -> None:
    model, given = model_of(), examples()
    # By the book: each conversation alone, its mean loss weighed by x, 1 or sqrt(x).
    own = [model(collate([each], 2))["loss"].item() for each in given]
    weights = [count**power for count in ANSWERS]
    wanted = sum(weight * loss for weight, loss in zip(weights, own, strict=True)) / sum(weights)
    gradients = []
    for parts in ([given], [given[:1], given[1:]], [given[2:], given[:2]], [[each] for each in given]):
        assert packed_loss(model, parts, reduction).item() == pytest.approx(wanted, rel=1e-5)
        gradients.append(torch.cat([each.grad.flatten() for each in model.parameters() if each.grad is not None]))
    assert all(torch.allclose(each, gradients[0], rtol=1e-4, atol=1e-7) for each in gradients[1:])
    other = {"token": "sample", "sample": "square", "square": "token"}[reduction]
    assert packed_loss(model, [given], other).item() != pytest.approx(wanted, rel=1e-4)  # type: ignore[arg-type]


def places_used(batch: dict[str, torch.Tensor], read: int) -> float:
    """Return the share of computed places that hold a token of a conversation."""
    return read / batch["input_ids"].numel()


def test_at_least_97_percent_of_the_places_are_used_on_a_recorded_mix_of_lengths() -> None:
    recorded = json.loads(RECORDED.read_text())
    per_tile = 4
    for start in range(0, 512, 64):
        given = []
        for text, learned, tiles in recorded[start : start + 64]:
            ids = [CONTEXT] * per_tile * tiles + [5] * text
            given.append(Example(ids, [IGNORE] * (len(ids) - learned) + [5] * learned, None))
        read = sum(len(each.input_ids) for each in given)
        assert places_used(collate_packed(given), read) >= 0.97
        assert places_used(collate(given, 2), read) < 0.4, "what a padding collator does with the same"
