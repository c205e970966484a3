"""The numbers that attention's softmax takes, read off a model that is not changed by it."""

import pytest
import torch

from models.attention_logits import attention_logits
from models.config import VisionConfig
from models.intern_vit import InternVisionModel


def model(normalised: bool) -> InternVisionModel:
    torch.manual_seed(0)
    return InternVisionModel(
        VisionConfig(
            image_size=16, patch_size=8, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=32, qk_normalization=normalised, initializer_factor=1.0,
        )
    )  # fmt: skip


def test_they_are_those_of_a_hand_made_block() -> None:
    made, pixels = model(normalised=True).requires_grad_(False), torch.randn(3, 3, 16, 16)
    layer = made.encoder.layers[0]
    hidden = layer.norm1(made.embeddings(pixels))  # type: ignore[operator, union-attr]
    query, key, _ = layer.attn.qkv(hidden).chunk(3, dim=-1)  # type: ignore[operator, union-attr]
    query, key = layer.attn.q_norm(query), layer.attn.k_norm(key)  # type: ignore[operator, union-attr]
    largest = 0.0
    for head in range(2):
        part = slice(8 * head, 8 * head + 8)
        largest = max(largest, float((query[..., part] @ key[..., part].transpose(1, 2)).abs().max()) / 8**0.5)
    found = attention_logits(made, pixels)
    assert len(found) == 2 and found[0] == pytest.approx(largest, rel=1e-5)


@pytest.mark.parametrize("normalised", [True, False])
def test_they_grow_with_the_projection_unless_it_is_normalised(normalised: bool) -> None:
    made, pixels = model(normalised), torch.randn(2, 3, 16, 16)
    before = attention_logits(made, pixels)[0]
    with torch.no_grad():
        made.encoder.layers[0].attn.qkv.weight.mul_(10)  # type: ignore[operator, union-attr]
    after = attention_logits(made, pixels)[0]
    assert after == pytest.approx(before, rel=0.05) if normalised else after == pytest.approx(100 * before, rel=1e-3)


def test_the_model_is_left_as_it_was() -> None:
    made, pixels = model(normalised=True).train(), torch.randn(1, 3, 16, 16)
    attention_logits(made, pixels)
    assert made.training and not made.encoder.layers[0].attn._forward_pre_hooks  # type: ignore[union-attr]
