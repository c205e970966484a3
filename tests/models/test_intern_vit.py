"""InternViT against numbers recorded from the official code, and what a trainer relies on."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

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


def test_linear_drop_path_rises_from_nothing_and_drops_whole_branches() -> None:
    deep = TINY.model_copy(update={"num_hidden_layers": 5, "drop_path_rate": 0.4})
    model = InternVisionModel(deep)
    assert [layer.drop_path_rate for layer in model.encoder.layers] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    torch.manual_seed(0)
    layer, hidden = model.encoder.layers[4].train(), torch.randn(64, 3, 24)
    out = layer(hidden)
    untouched = sum(torch.equal(out[number], hidden[number]) for number in range(64))
    assert 3 <= untouched <= 20, "0.4 * 0.4 of the pictures lose both branches"
    assert torch.equal(layer.eval()(hidden), layer(hidden))


@pytest.mark.parametrize("style", ["6b", "300m"])
def test_checkpointing_changes_memory_alone(style: str) -> None:
    model, data, _ = load(style)
    for layer in model.train().encoder.layers:
        layer.drop_path_rate = 0.3
    found = []
    for model.gradient_checkpointing in (False, True):
        model.zero_grad()
        torch.manual_seed(0)
        saved: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=saved: s.append(t.numel()) or t, lambda t: t):
            out = model(data["pixel_values"]).last_hidden_state
        out.pow(2).mean().backward()
        found.append((out.detach(), {n: p.grad for n, p in model.named_parameters()}, sum(saved)))
    (plain, gradients, kept), (again, same, kept_less) = found
    assert torch.equal(plain, again)
    for name, gradient in gradients.items():
        other = same[name]
        assert gradient is not None and other is not None and torch.equal(gradient, other), name
    assert kept_less < kept / 3, (kept_less, kept)


@pytest.mark.parametrize("style", ["6b", "300m"])
def test_a_compiled_block_says_the_same(style: str) -> None:
    model, data, _ = load(style)
    block, hidden = model.encoder.layers[0], model.embeddings(data["pixel_values"]).detach()
    # A backend without code generation, so that no C++ compiler is needed; fullgraph: no part falls out.
    compiled = torch.compile(block, backend="aot_eager", fullgraph=True)
    found = []
    for function in (block, compiled):
        block.zero_grad()
        given = hidden.clone().requires_grad_()
        out = function(given)
        out.square().mean().backward()
        found.append([out.detach(), given.grad, *(parameter.grad for parameter in block.parameters())])
    for ours, theirs in zip(*found, strict=True):
        assert ours is not None and theirs is not None and close(ours, theirs, 1e-5)


@pytest.mark.parametrize("style", ["6b", "300m"])
def test_half_precision_is_close_to_fp32(style: str) -> None:
    model, data, _ = load(style)
    wanted = model(data["pixel_values"]).last_hidden_state
    half = model.to(torch.bfloat16)
    found = half(data["pixel_values"].bfloat16()).last_hidden_state
    assert found.dtype == torch.bfloat16
    assert close(found.float(), wanted, 0.03) and not close(found.float(), wanted, 1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = load(style)[0](data["pixel_values"]).last_hidden_state
    assert close(mixed.float(), wanted, 0.03)


def test_positions_interpolated_per_call_are_those_interpolated_once() -> None:
    torch.manual_seed(0)
    model, pixels = InternVisionModel(TINY).eval(), torch.randn(2, 3, 48, 48)
    per_call = model(pixels).last_hidden_state
    square = model.embeddings.position_embedding[:, 1:].detach().reshape(1, 4, 4, 24).permute(0, 3, 1, 2)
    wanted = F.interpolate(square, size=(6, 6), mode="bicubic", align_corners=False).flatten(2).transpose(1, 2)
    model.resize_position_embedding(48)
    assert torch.equal(model.embeddings.position_embedding[:, 1:], wanted)
    assert model.config.image_size == model.embeddings.image_size == 48
    assert torch.equal(model(pixels).last_hidden_state, per_call)
    # From now on 48 is the trained size: 32 is interpolated from the new grid, not given back.
    assert model(torch.randn(1, 3, 32, 32)).last_hidden_state.shape == (1, 17, 24)
    assert model.embeddings.position_embedding.requires_grad


def test_positions_of_half_precision_are_interpolated_in_fp32() -> None:
    torch.manual_seed(0)
    model = InternVisionModel(TINY).to(torch.bfloat16)
    found = model.embeddings.positions(6, 5)
    wide = InternVisionModel(TINY)
    wide.load_state_dict({name: value.float() for name, value in model.state_dict().items()})
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, wide.embeddings.positions(6, 5).bfloat16())
