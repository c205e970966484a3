"""Packed batches hold what unpacked ones hold, and train to the same loss."""

import pytest
import torch

from models.chat import IGNORE, InternVLChat
from models.config import ChatConfig
from stages.chat_data import Example, collate, collate_packed

CONTEXT = 39
VISION = {"image_size": 16, "patch_size": 4, "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
TEXT = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


def examples() -> list[Example]:
    torch.manual_seed(0)
    lengths, shown = [12, 5, 7, 9], [True, False, True, True]
    made = []
    for length, picture in zip(lengths, shown, strict=True):
        front = [CONTEXT] * 4 if picture else []
        ids = front + [int(each) for each in torch.randint(3, 39, (length - len(front),))]
        labels = [IGNORE] * (length - 2) + ids[-2:]
        made.append(Example(ids, labels, torch.randn(1, 3, 16, 16) if picture else None))
    return made


def test_packed_and_padded_batches_have_the_same_loss() -> None:
    config = {"vision": {**VISION, "intermediate_size": 32}, "text": TEXT}
    model = InternVLChat(
        ChatConfig.model_validate({**config, "image_context_token_id": CONTEXT, "eos_token_id": 2})
    ).eval()
    given = examples()
    packed = collate_packed(given, 2, tokens=18)
    # 12 + 5, then 7 + 9: a conversation goes to the first row with room.
    assert packed["sample_index"].tolist() == [[0] * 12 + [1] * 5, [2] * 7 + [3] * 9 + [-1]]
    assert packed["input_ids"][1, :7].tolist() == given[2].input_ids
    loss = model(packed)["loss"].item()
    assert loss == pytest.approx(model(collate(given, 2))["loss"].item(), rel=1e-5)
    one_row = collate_packed(given, 2, tokens=40)
    assert one_row["input_ids"].shape == (1, 33)
    assert model(one_row)["loss"].item() == pytest.approx(loss, rel=1e-5)


def test_pictures_follow_their_conversations_through_the_rows() -> None:
    given = examples()
    packed = collate_packed([given[0], given[3], given[1]], 2, tokens=17)  # rows 0 + 1 of ours, then 3
    assert torch.equal(packed["pixel_values"], torch.cat([given[0].pixel_values, given[3].pixel_values]))  # type: ignore[list-item]
    assert "pixel_values" not in collate_packed([given[1]], 2, tokens=17)
    with pytest.raises(ValueError, match="a row holds 11"):
        collate_packed(given, 2, tokens=11)
