"""InternViT against numbers recorded from the official code, and what a trainer relies on."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from models.attention import attention
from models.config import INTERN_VIT_6B_224, INTERN_VIT_300M_448, VisionConfig
from models.intern_vit import InternVisionModel, drop_path, parameter_count

PARITY = Path(__file__).parents[1] / "parity"


def load(style: str) -> tuple[InternVisionModel, dict[str, torch.Tensor], dict[str, Any]]:
    facts = json.loads((PARITY / f"intern_vit_{style}_style.json").read_text())
    given = facts["config"]
    config = VisionConfig(
        **{k: given[k] for k in VisionConfig.model_fields if k in given},
        **({} if "norm_type" in given else {"norm_type": "rms_norm" if style == "6b" else "layer_norm"}),
    )
    data = load_file(PARITY / f"intern_vit_{style}_style.safetensors")
    model = InternVisionModel(config).eval()
    model.load_state_dict({k.removeprefix("w."): v for k, v in data.items() if k.startswith("w.")}, strict=True)
    return model, data, facts


def close(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float) -> bool:
    return bool((ours - theirs).abs().max() <= tolerance * theirs.abs().max())


def test_sizes_are_the_published_ones() -> None:
    assert parameter_count(INTERN_VIT_6B_224) == 5_902_793_600
    assert parameter_count(INTERN_VIT_300M_448) == 304_012_288


TINY = VisionConfig(
    image_size=32, patch_size=8, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=48
)


def test_masked_patches_leave_no_trace() -> None:
    torch.manual_seed(0)
    model = InternVisionModel(TINY).eval()
    pixels = torch.randn(2, 3, 32, 32)
    keep = torch.tensor([[0, 3, 7], [1, 2, 15]])
    before = model(pixels, keep).last_hidden_state
    changed = pixels.clone()
    changed[0, :, 8:16, 16:24] += 5  # patch 6, which the first picture does not see
    assert before.shape == (2, 4, 24)
    assert torch.equal(model(changed, keep).last_hidden_state, before)
    assert not torch.equal(model(changed).last_hidden_state, model(pixels).last_hidden_state)


def test_keeping_all_patches_in_order_changes_nothing() -> None:
    torch.manual_seed(0)
    model = InternVisionModel(TINY).eval()
    pixels = torch.randn(1, 3, 32, 32)
    assert torch.equal(model(pixels, torch.arange(16)[None]).last_hidden_state, model(pixels).last_hidden_state)


def test_other_picture_sizes_are_seen_and_wrong_ones_refused() -> None:
    model = InternVisionModel(TINY).eval()
    assert model(torch.randn(1, 3, 48, 64)).last_hidden_state.shape == (1, 1 + 48, 24)
    with pytest.raises(ValueError, match="do not divide"):
        model(torch.randn(1, 3, 33, 32))


def test_drop_path_keeps_the_mean_and_is_off_in_evaluation() -> None:
    torch.manual_seed(0)
    ones = torch.ones(20_000, 1, 1)
    dropped = drop_path(ones, 0.25, training=True)
    assert dropped.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert dropped.mean().item() == pytest.approx(1, abs=0.02)
    assert drop_path(ones, 0.25, training=False) is ones
    rates = [
        layer.drop_path_rate
        for layer in InternVisionModel(
            TINY.model_copy(update={"drop_path_rate": 0.2, "drop_path_schedule": "uniform"})
        ).encoder.layers
    ]
    assert rates == [0.2, 0.2]


@pytest.mark.parametrize("causal", [False, True])
def test_every_attention_is_the_same_attention(causal: bool) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 3, 5, 8) for _ in range(3))
    fast = attention(query, key, value, causal=causal)
    assert torch.allclose(fast, attention(query, key, value, causal=causal, implementation="reference"), atol=1e-6)


def test_masks_of_both_kinds_agree_and_misuse_is_refused() -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 2, 4, 8) for _ in range(3))
    seen = torch.tensor([[True, True, False, True]]).expand(4, 4)
    added = torch.zeros(4, 4).masked_fill(~seen, float("-inf"))
    one = attention(query, key, value, mask=seen)
    assert torch.allclose(one, attention(query, key, value, mask=added, implementation="reference"), atol=1e-6)
    with pytest.raises(ValueError, match="either a mask or"):
        attention(query, key, value, mask=seen, causal=True)
    with pytest.raises(ValueError, match="extra"):
        attention(query, key, value, implementation="flash")
