"""Our weights under transformers' names, against numbers recorded from the official code."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    InternVLForConditionalGeneration,
    InternVLVisionConfig,
    InternVLVisionModel,
    Phi3Config,
    Phi3ForCausalLM,
)

from models.chat import InternVLChat
from models.config import INTERN_VIT_6B_224, ChatConfig, InternVLConfig, TextConfig, VisionConfig
from models.intern_vit import InternVisionModel
from models.internvl import InternVL
from models.native_config import native_chat_config, native_vision_config
from models.official_config import internvl_of, official_config, official_vision_config, text_of, vision_of
from models.phi3_names import llama_from_phi3
from models.pth_names import encoder_from_pth, encoder_to_pth, towers_from_pth, towers_to_pth
from models.qllama import LlamaForCausalLM
from models.renaming import State, WeightsError, below, fill
from models.weights import (
    chat_from_native,
    chat_from_official,
    chat_to_native,
    chat_to_official,
    vision_from_native,
    vision_to_native,
)
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
TINY_VISION = VisionConfig(
    image_size=32, patch_size=8, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
)


def same_weights(ours: State, theirs: State) -> bool:
    return set(ours) == set(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)


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


def test_everything_that_is_wrong_is_named_in_one_error() -> None:
    model = InternVisionModel(TINY_VISION)
    state = dict(model.state_dict())
    state["encoder.layers.0.ls3"] = state.pop("encoder.layers.0.ls1")
    state["encoder.layers.0.mlp.fc1.weight"] = torch.zeros(2, 3)
    state["encoder.layers.0.ls2"] = torch.zeros(16, dtype=torch.int64)
    before = model.embeddings.class_embedding.clone()
    state["embeddings.class_embedding"] = before + 1
    with pytest.raises(WeightsError) as caught:
        fill(model, state, "InternViT")
    for part in (
        "'encoder.layers.0.ls1' is missing",
        "'encoder.layers.0.ls3' is not known",
        "'encoder.layers.0.mlp.fc1.weight' has shape (2, 3) instead of (32, 16)",
        "'encoder.layers.0.ls2' holds int64",
    ):
        assert part in str(caught.value)
    assert torch.equal(model.embeddings.class_embedding, before), "nothing is copied unless all of it fits"
    with pytest.raises(WeightsError, match=r"'encoder\.layers\.0\.ls3' is not known.*'head\.bias' is not known"):
        vision_to_native({**state, "head.bias": torch.zeros(1)})


@pytest.mark.parametrize("decoder", ["LlamaForCausalLM", "InternLM2ForCausalLM", "Phi3ForCausalLM"])
def test_official_chat_weights_survive_the_round_trip(decoder: str) -> None:
    config = ChatConfig(vision=TINY_VISION, text=TEXT, image_context_token_id=7, eos_token_id=2)
    state = InternVLChat(config).state_dict()
    official = chat_to_official(state, decoder, TEXT)
    ours = chat_from_official(official, decoder, TEXT)
    assert same_weights(ours, state)
    assert same_weights(chat_to_official(ours, decoder, TEXT), official)
    assert (set(official) == set(state)) is (decoder == "LlamaForCausalLM")
    model = InternVLChat(config)
    fill(model, ours, "the chat model")
    assert same_weights(model.state_dict(), state)
    old = {**official, "language_model.model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(3)}
    assert same_weights(chat_from_official(old, decoder, TEXT), state)


def test_pieces_of_fused_projections_that_do_not_fit_are_named() -> None:
    state = dict(
        InternVLChat(ChatConfig(vision=TINY_VISION, text=TEXT, image_context_token_id=7, eos_token_id=2)).state_dict()
    )
    official = dict(chat_to_official(state, "InternLM2ForCausalLM", TEXT))
    name = "language_model.model.layers.1.attention.wqkv.weight"
    official[name] = official[name][:-1]
    with pytest.raises(WeightsError, match=r"'mlp1\.1\.bias' has shape.*layers\.1\.attention\.wqkv"):
        fill(
            InternVLChat(ChatConfig(vision=TINY_VISION, text=TEXT, image_context_token_id=7, eos_token_id=2)),
            chat_from_official({**official, "mlp1.1.bias": torch.zeros(1)}, "InternLM2ForCausalLM", TEXT),
            "the chat model",
        )
    del state["language_model.model.layers.0.self_attn.k_proj.weight"]
    with pytest.raises(WeightsError, match=r"self_attn\.k_proj\.weight' is missing"):
        chat_to_official(state, "InternLM2ForCausalLM", TEXT)


def test_phi3_says_what_transformers_says() -> None:
    shape = TEXT.model_dump(exclude={"qkv_bias", "rope_theta", "rope_scaling"})
    theirs = Phi3ForCausalLM(Phi3Config(**shape, tie_word_embeddings=False, pad_token_id=0)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    ours = LlamaForCausalLM(TEXT.model_copy(update={"rms_norm_eps": theirs.config.rms_norm_eps})).eval()
    fill(ours, llama_from_phi3(theirs.state_dict()), "Phi-3")
    ids = torch.tensor([[3, 9, 27, 5, 11, 8]])
    with torch.no_grad():
        wanted, found = theirs(ids).logits, ours(ids)
    assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def test_older_native_names_are_understood() -> None:
    state = InternVLChat(
        ChatConfig(vision=TINY_VISION, text=TEXT, image_context_token_id=7, eos_token_id=2)
    ).state_dict()
    older = {}
    for name, value in chat_to_native(state).items():
        old = name.removeprefix("model.").replace("language_model.", "language_model.model.", 1)
        older["language_model.lm_head.weight" if name == "lm_head.weight" else old] = value
    assert "vision_tower.embeddings.cls_token" in older and "language_model.model.norm.weight" in older
    assert same_weights(chat_from_native(older), state)


def test_the_first_releases_names_are_those_that_were_published() -> None:
    model = InternVL(
        InternVLConfig(vision=TINY_VISION, text=TEXT, embed_dim=8, attn_pool_num_heads=2), generative=False
    )
    state = model.state_dict()
    pth = towers_to_pth(state)
    for name in (
        "cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias", "blocks.0.norm1.weight",
        "blocks.0.attn.qkv.weight", "blocks.0.attn.q_norm.weight", "blocks.0.attn.proj.bias", "blocks.0.mlp.fc2.bias",
        "blocks.0.ls1.gamma", "transformer.layers.1.self_attn.q_proj.weight", "transformer.embed_tokens.weight",
        "text_projection", "logit_scale", "clip_projector.cross_attn.q_bias",
    ):  # fmt: skip
        assert name in pth, name
    assert same_weights(towers_from_pth(pth), {n: v for n, v in state.items() if n != "qllama.lm_head.weight"})
    vision = model.vision_model.state_dict()
    assert same_weights(encoder_from_pth(encoder_to_pth(vision)), vision)
    with pytest.raises(WeightsError, match="'itm_head' is not known"):
        towers_to_pth({**state, "itm_head": torch.zeros(1)})


def test_official_configurations_are_read_as_they_were_written() -> None:
    config = InternVLConfig(
        vision=TINY_VISION, text=TextConfig(**{**TEXT.model_dump(), "rope_theta": 5e4}), embed_dim=8,
        attn_pool_num_heads=2, num_query_token=5, cross_attention_frequency=2,
    )  # fmt: skip
    assert internvl_of(official_config(config)) == config
    with pytest.raises(ValueError, match="hidden_act 'relu'"):
        vision_of({**official_vision_config(TINY_VISION), "hidden_act": "relu"})
    with pytest.raises(ValueError, match="lacks 'vision_config'"):
        internvl_of({"qllama_config": {}})
