"""InternViT against numbers recorded from the official code, and what a trainer relies on."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from models.config import INTERN_VIT_6B_224, INTERN_VIT_300M_448, VisionConfig
from models.intern_vit import InternVisionModel, parameter_count
from models.vision_embeddings import kept_patches

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


def masks(*kept: list[int], side: int = 4) -> torch.Tensor:
    found = torch.zeros(len(kept), side * side, dtype=torch.bool)
    for row, places in zip(found, kept, strict=True):
        row[places] = True
    return found.view(-1, side, side)


def test_masked_patches_leave_no_trace() -> None:
    torch.manual_seed(0)
    model = InternVisionModel(TINY).eval()
    pixels, keep = torch.randn(2, 3, 32, 32), masks([0, 3, 7], [1, 2, 15])
    before = model(kept_patches(pixels, keep, 8), keep).last_hidden_state
    changed = pixels.clone()
    changed[0, :, 8:16, 16:24] += 5  # patch 6, which the first picture does not see
    assert before.shape == (2, 4, 24)
    assert torch.equal(model(kept_patches(changed, keep, 8), keep).last_hidden_state, before)
    assert not torch.equal(model(changed).last_hidden_state, model(pixels).last_hidden_state)


def test_a_kept_patch_has_its_pixels_and_its_place() -> None:
    torch.manual_seed(0)
    embeddings, pixels, keep = (
        InternVisionModel(TINY).embeddings,
        torch.randn(2, 3, 32, 32),
        masks([0, 6, 7], [1, 2, 15]),
    )
    whole, some = embeddings(pixels), embeddings(kept_patches(pixels, keep, 8), keep)
    for number, places in enumerate(([0, 6, 7], [1, 2, 15])):
        wanted = whole[number, [0, *(place + 1 for place in places)]]
        assert torch.allclose(some[number], wanted, atol=1e-6)
    convolved = embeddings.patch_embedding(pixels).flatten(2).transpose(1, 2) + embeddings.position_embedding[:, 1:]
    assert torch.allclose(whole[:, 1:], convolved, atol=1e-5)


def test_masking_nothing_changes_nothing() -> None:
    torch.manual_seed(0)
    model = InternVisionModel(TINY).eval()
    pixels, keep = torch.randn(1, 3, 32, 32), masks(list(range(16)))
    assert torch.equal(model(kept_patches(pixels, keep, 8), keep).last_hidden_state, model(pixels).last_hidden_state)


def test_smaller_pictures_teach_the_whole_grid_of_positions() -> None:
    torch.manual_seed(0)
    model = InternVisionModel(TINY.model_copy(update={"image_size": 64}))
    pixels, keep = torch.randn(2, 3, 56, 56), masks(list(range(0, 49, 2)), list(range(24, 49)), side=7)
    model(kept_patches(pixels, keep, 8), keep).last_hidden_state.square().mean().backward()
    gradient = model.embeddings.position_embedding.grad
    assert gradient is not None and gradient.shape == (1, 65, 24)
    assert bool(gradient.abs().sum(-1).gt(0).all()), (
        "places of the masked, smaller grid lie between all of the larger"
    )


def test_masked_pictures_that_are_no_patches_are_refused() -> None:
    model = InternVisionModel(TINY)
    with pytest.raises(ValueError, match="together with keep_patches"):
        model(torch.randn(1, 3, 32, 32), masks([0, 1]))
    with pytest.raises(ValueError, match="together with keep_patches"):
        model(torch.randn(1, 2, 192))


def test_initialisation_is_beits_and_a_function_of_the_seed() -> None:
    config = TINY.model_copy(update={"hidden_size": 96, "intermediate_size": 384, "num_hidden_layers": 3})
    models = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        models.append(InternVisionModel(config))
    one, same, other = (model.state_dict() for model in models)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["embeddings.position_embedding"], other["embeddings.position_embedding"])
    for name, value in one.items():
        kind = name.split(".", 3)[-1] if "layers" in name else name
        if name.endswith("bias"):
            assert not value.any(), name
        elif kind in ("attn.proj.weight", "mlp.fc2.weight"):
            block = int(name.split(".")[2]) + 1
            assert value.std().item() == pytest.approx(0.02 / (2 * block) ** 0.5, rel=0.05), name
        elif value.ndim >= 2:
            rare = 0.2 if name.endswith("class_embedding") else 0.05
            assert value.std().item() == pytest.approx(0.02, rel=rare) and abs(value.mean().item()) < 0.005, name
        else:
            assert value.unique().tolist() == [pytest.approx(0.1 if "ls" in kind else 1)], name


def test_other_picture_sizes_are_seen_and_wrong_ones_refused() -> None:
    model = InternVisionModel(TINY).eval()
    assert model(torch.randn(1, 3, 48, 64)).last_hidden_state.shape == (1, 1 + 48, 24)
    with pytest.raises(ValueError, match="do not divide"):
        model(torch.randn(1, 3, 33, 32))


def test_drop_rates_rise_from_nothing_or_are_equal_and_off_in_evaluation() -> None:
    deep = TINY.model_copy(update={"num_hidden_layers": 5, "drop_path_rate": 0.4})
    model = InternVisionModel(deep)
    encoder = model.encoder
    assert encoder.drop_path_rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    noise, hidden = torch.arange(640) * 982451653, torch.randn(640, 3, 24)
    assert encoder.shares(0, noise) is None
    out = encoder.layers[4](hidden, encoder.shares(4, noise))
    untouched = sum(torch.equal(out[number], hidden[number]) for number in range(640))
    assert 70 <= untouched <= 140, "0.4 * 0.4 of the pictures lose both branches"
    assert encoder.eval().shares(4, noise) is None
    even = InternVisionModel(deep.model_copy(update={"drop_path_schedule": "uniform"}))
    assert even.encoder.drop_path_rates == [0.4] * 5


def test_what_is_dropped_belongs_to_the_picture_and_not_to_the_batch() -> None:
    torch.manual_seed(0)
    model = InternVisionModel(
        TINY.model_copy(update={"drop_path_rate": 0.5, "drop_path_schedule": "uniform"})
    ).train()
    pixels, noise = torch.randn(6, 3, 32, 32), torch.arange(6) * 7919
    whole = model(pixels, noise=noise).last_hidden_state
    torch.manual_seed(99)
    parts = [model(pixels[rows], noise=noise[rows]).last_hidden_state for rows in ([4, 5], [0], [3, 2, 1])]
    assert torch.allclose(whole[[4, 5, 0, 3, 2, 1]], torch.cat(parts), atol=1e-6)
    assert not torch.allclose(whole, model(pixels, noise=noise + 1).last_hidden_state, atol=1e-3)
    with pytest.raises(ValueError, match="needs `noise`, one int64 per row"):
        model(pixels)


@pytest.mark.parametrize("style", ["6b", "300m"])
def test_checkpointing_changes_memory_alone(style: str) -> None:
    model, data, _ = load(style)
    model.train().encoder.drop_path_rates = [0.3] * len(model.encoder.layers)
    found = []
    for model.gradient_checkpointing in (False, True):
        model.zero_grad()
        saved: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=saved: s.append(t.numel()) or t, lambda t: t):
            out = model(data["pixel_values"], noise=torch.arange(len(data["pixel_values"]))).last_hidden_state
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
    assert torch.allclose(model.embeddings.position_embedding[:, 1:], wanted, rtol=0, atol=1e-7)
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
