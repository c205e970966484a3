"""Our weights under transformers' names, against numbers recorded from the official code."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, InternVLForConditionalGeneration, InternVLVisionConfig, InternVLVisionModel

from models.config import INTERN_VIT_6B_224, ChatConfig, InternVLConfig, TextConfig, VisionConfig
from models.intern_vit import InternVisionModel
from models.internvl import InternVL
from models.native_config import native_chat_config, native_vision_config
from models.official_config import official_config, text_of, vision_of
from models.renaming import below
from models.weights import chat_from_native, chat_to_native, vision_from_native, vision_to_native
from stages.parity import read_recording

PARITY = Path(__file__).parents[1] / "parity"
TEXT = TextConfig(
    vocab_size=120,
    hidden_size=48,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
)


@pytest.mark.parametrize("layer", [-1, -2])
def test_transformers_computes_what_the_official_code_computed(layer: int) -> None:
    stem = f"internvl_chat_llama_psv2_layer{layer}"
    facts, data = read_recording(PARITY, stem)
    config = native_chat_config(
        vision_of(facts["vision_config"]),
        text_of(facts["llm_config"]),
        image_token_id=facts["img_context_token_id"],
        downsample_ratio=facts["downsample_ratio"],
        select_layer=facts["select_layer"],
        eos_token_id=2,
    )
    model = InternVLForConditionalGeneration(AutoConfig.for_model(**config)).eval()
    model.load_state_dict(chat_to_native(below(data, "w.")), strict=True)
    given = {name: data[name] for name in ("input_ids", "pixel_values", "attention_mask")}
    with torch.no_grad():
        found = model(**given)
    read = data["attention_mask"].bool()
    assert (found.logits - data["logits"])[read].abs().max() <= 1e-5 * data["logits"].abs().max()
    seen = data["image_features"]
    assert (found.image_hidden_states - seen).abs().max() <= 1e-5 * seen.abs().max()


@pytest.mark.parametrize("norm", ["rms_norm", "layer_norm"])
def test_there_and_back_is_exact_to_the_bit(norm: Any) -> None:
    torch.manual_seed(0)
    config = VisionConfig(
        image_size=32,
        patch_size=8,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        norm_type=norm,
        qk_normalization=norm == "rms_norm",
        qkv_bias=norm == "layer_norm",
    )
    ours = InternVisionModel(config).eval()
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    state = ours.state_dict()
    native = vision_to_native(state)
    theirs = InternVLVisionModel(InternVLVisionConfig(**native_vision_config(config))).eval()
    theirs.load_state_dict(native, strict=True)
    back = vision_from_native(theirs.state_dict())
    assert set(back) == set(state) and all(torch.equal(back[name], state[name]) for name in state)
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        wanted, found = ours(pixels), theirs(pixels, output_hidden_states=True)
    for ours_state, their_state in zip(wanted.hidden_states, found.hidden_states, strict=True):
        assert (ours_state - their_state).abs().max() <= 1e-5 * ours_state.abs().max()
    assert (wanted.last_hidden_state - found.last_hidden_state).abs().max() <= 1e-5 * wanted.last_hidden_state.max()


def test_chat_weights_survive_the_round_trip() -> None:
    from models.chat import InternVLChat

    vision = VisionConfig(
        image_size=32, patch_size=8, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    model = InternVLChat(ChatConfig(vision=vision, text=TEXT, image_context_token_id=7, eos_token_id=2))
    state = model.state_dict()
    back = chat_from_native(chat_to_native(state))
    assert set(back) == set(state) and all(torch.equal(back[name], state[name]) for name in state)


def test_what_transformers_cannot_compute_is_refused() -> None:
    with pytest.raises(ValueError, match="eps 1e-06 only"):
        native_vision_config(INTERN_VIT_6B_224.model_copy(update={"layer_norm_eps": 1e-5}))
    with pytest.raises(ValueError, match="ps_version v2 only, not 'v1'"):
        native_chat_config(INTERN_VIT_6B_224, TEXT, image_token_id=7, downsample_ratio=0.5, ps_version="v1")
    six = INTERN_VIT_6B_224.model_copy(update={"image_size": 84})
    with pytest.raises(ValueError, match="only ratios that are powers of two"):
        native_chat_config(six, TEXT, image_token_id=7, downsample_ratio=1 / 3)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (vision_to_native, "encoder.layers.0.attn.other.weight"),
        (vision_to_native, "vision_model.encoder.layers.0.norm1.weight"),
        (vision_from_native, "encoder.layer.0.attention.other.weight"),
        (vision_from_native, "encoder.layer.0.attention.q_proj.weight"),
        (chat_to_native, "mlp2.0.weight"),
        (chat_from_native, "model.mlp2.weight"),
    ],
)
def test_an_unknown_or_half_present_weight_is_named(function: Any, name: str) -> None:
    with pytest.raises(ValueError, match="weight '"):
        function({name: torch.zeros(3)})


def test_the_official_names_and_shapes_of_internvl_14b() -> None:
    names = set(below(load_file(PARITY / "internvl_stage2.safetensors"), "w."))
    tiny = InternVLConfig(
        vision=VisionConfig(
            image_size=16,
            patch_size=8,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=16,
        ),
        text=TextConfig(
            vocab_size=8, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2
        ),
        embed_dim=8,
    )
    ours = set(InternVL(tiny).state_dict())
    assert {name for name in names if "layers." not in name} == {name for name in ours if "layers." not in name}
    config = official_config(tiny)
    assert config["qllama_config"]["cross_attention_frequency"] == 2
    assert config["vision_config"]["qk_normalization"] is True and config["clip_embed_dim"] == 8
