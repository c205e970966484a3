"""An exported folder loads in transformers without remote code and says what our own model says."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save
from tokenizers import Tokenizer
from training_data import tiny_tokenizer
from transformers import (
    AutoProcessor,
    AutoTokenizer,
    GotOcr2ImageProcessorPil,
    InternVLForConditionalGeneration,
    InternVLVisionModel,
)

from infra.cluster import InlineCluster
from infra.storage import Store
from models.chat import InternVLChat
from models.config import ChatConfig, InternVLConfig, TextConfig, VisionConfig
from models.internvl import InternVL
from models.preprocess import pixel_values
from models.rope import DynamicRope, LinearRope, LongRope
from models.weights import chat_from_native, chat_to_native
from stages import export
from stages.chat_data import tiles_of
from stages.chat_template import (
    CHAT_TOKENS,
    IMG_CONTEXT,
    IMG_END,
    IMG_START,
    TEMPLATES,
    encode_conversation,
    place_images,
    render,
)
from stages.checkpoints import publish
from stages.export_native import chat_template
from stages.manifest import Manifest, ManifestError, digest_of, verify
from stages.ref import Ref
from stages.sources.scenes import Split, draw, sample_scene
from stages.workspace import Output, Workspace

VISION = VisionConfig(
    image_size=48, patch_size=8, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
)
QUESTION = "What color are the equal objects?"


def commit(store: Store, name: str, config: str, weights: dict[str, torch.Tensor], tokenizer: Tokenizer) -> Manifest:
    identity = {"stage": name.rpartition("/")[2], "parameters": {"seed": 1}, "inputs": {"conversations": "c" * 64}}
    files = {
        "model.safetensors": save({key: value.contiguous() for key, value in weights.items()}),
        "config.json": config.encode(),
        "tokenizer.json": tokenizer.to_str().encode(),
    }
    named = {key.partition(".")[0]: (key, data) for key, data in files.items()}
    output = Output(store, Ref(name=name, version="t"), str(identity["stage"]), identity)
    facts = {"names": {role: key for role, (key, _) in named.items()}}
    return output.commit([publish(output, digest_of(name), named, 1, facts)])


def randomised(model: torch.nn.Module) -> torch.nn.Module:
    torch.manual_seed(3)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 or name.endswith("proj.bias"):
            torch.nn.init.normal_(parameter, std=0.2)
        elif "norm" in name or ".ls" in name:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return model.eval()


def make_chat(
    store: Store, shape: Mapping[str, Any] = MappingProxyType({}), **changes: Any
) -> tuple[InternVLChat, Tokenizer, Manifest]:
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens([*CHAT_TOKENS, IMG_START, IMG_END, IMG_CONTEXT])
    text = TextConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        rope_theta=5000.0,
        **shape,
    )
    config = ChatConfig(
        vision=VISION,
        text=text,
        image_context_token_id=tokenizer.token_to_id(IMG_CONTEXT),
        eos_token_id=tokenizer.token_to_id("</s>"),
        system_message="Say what \"you\" see,\n'now'.",
        **changes,
    )
    model = randomised(InternVLChat(config))
    assert isinstance(model, InternVLChat)
    manifest = commit(store, "checkpoints/instruct", config.model_dump_json(), model.state_dict(), tokenizer)
    return model, tokenizer, manifest


def exported(store: Store, tmp_path: Path, checkpoint: Manifest, kind: Any, version: str = "t") -> Manifest:
    output = Output(store, Ref(name=f"exports/{kind}", version=version), "export", {"kind": kind})
    scratch = tmp_path / f"scratch-{version}"
    scratch.mkdir()
    here = Workspace(store, InlineCluster(), scratch, {checkpoint.ref.name: checkpoint})
    return export.run(export.Parameters(kind=kind), output, here)


def long_rope(original: int) -> dict[str, Any]:
    factors = {"short_factor": (1.0, 1.2, 1.5, 2.0), "long_factor": (1.1, 3.0, 9.0, 30.0)}
    return {"rope_scaling": LongRope(**factors, original_max_position_embeddings=original)}


# What a language model brings along, and the class of transformers that must hold it then.
SHAPES: dict[str, tuple[dict[str, Any], str, int]] = {
    "llama": ({}, "llama", -1),
    "biases": ({"qkv_bias": True}, "qwen2", -2),
    "linear": ({"rope_scaling": LinearRope(factor=4.0)}, "llama", -1),
    "dynamic": ({"rope_scaling": DynamicRope(factor=2.0), "max_position_embeddings": 40}, "llama", -1),
    "dynamic with biases": (
        {"rope_scaling": DynamicRope(factor=2.0), "max_position_embeddings": 40, "qkv_bias": True}, "qwen2", -1
    ),
    "longrope, short": (long_rope(2000), "phi3", -1),
    "longrope, long": (long_rope(40), "phi3", -1),
    "window": ({"sliding_window": 9}, "phi3", -2),
}  # fmt: skip


@pytest.mark.parametrize(("shape", "kind", "select_layer"), SHAPES.values(), ids=SHAPES.keys())
def test_a_chat_model_loads_natively_and_says_the_same(
    store: Store, tmp_path: Path, shape: dict[str, Any], kind: str, select_layer: int
) -> None:
    model, tokenizer, checkpoint = make_chat(store, shape, select_layer=select_layer)
    manifest = exported(store, tmp_path, checkpoint, "instruct")
    folder = export.unpack(store, manifest, tmp_path / "out")
    native, loading = InternVLForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    assert not any(loading[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    native.eval()
    assert native.config.text_config.model_type == kind
    picture = draw(sample_scene(0, 0, Split.IID), 48)

    # Our own road: template, tokens, pixels.
    ids, _ = encode_conversation(
        lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
        model.config.template,
        model.config.system_message,
        [QUESTION],
        [],
        tokens_per_image=[model.config.num_image_token],
    )
    pixels = pixel_values(picture, 48)[None]
    assert 40 < len(ids) < 200, "past the shortest of the lengths above"
    input_ids, mask = torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.long)
    with torch.no_grad():
        wanted = model.logits(input_ids, mask, pixels)

    # The road of somebody who has only transformers and the folder.
    processor = AutoProcessor.from_pretrained(folder)
    turn = {"role": "user", "content": [{"type": "image", "image": picture}, {"type": "text", "text": QUESTION}]}
    inputs = processor.apply_chat_template(
        [turn], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    assert inputs["input_ids"].tolist() == [ids]
    assert torch.allclose(inputs["pixel_values"], pixels, atol=1e-5)
    with torch.no_grad():
        found = native(**inputs).logits
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    said = native.generate(**inputs, max_new_tokens=12)[0, len(ids) :].tolist()
    stop = [tokenizer.token_to_id("<|im_end|>"), model.config.eos_token_id]
    ours = model.generate(input_ids, mask, pixels, max_new_tokens=12, stop=stop)[0].tolist()
    assert said == ours and len(set(said)) > 1
    other = pixel_values(draw(sample_scene(0, 1, Split.IID), 48), 48)[None]
    with torch.no_grad():
        assert (model.logits(input_ids, mask, other) - wanted).abs().max() > 1e-3 * wanted.abs().max()


def test_past_the_original_length_transformers_is_to_go_without_its_cache(store: Store, tmp_path: Path) -> None:
    """Its chat class keeps keys of the short factors; its Phi3ForCausalLM and ours read the whole text anew."""
    model, _, checkpoint = make_chat(store, long_rope(16))
    folder = export.unpack(store, exported(store, tmp_path, checkpoint, "instruct"), tmp_path / "out")
    native = InternVLForConditionalGeneration.from_pretrained(folder).eval()
    native.generation_config.eos_token_id = None
    asked = torch.tensor([[7, 30, 12, 41, 9, 25, 50, 60, 33, 21, 19, 77]])
    ours = model.generate(asked, torch.ones_like(asked), max_new_tokens=12)[0].tolist()
    said = {
        cached: native.generate(input_ids=asked, max_new_tokens=12, use_cache=cached)[0, 12:].tolist()
        for cached in (False, True)
    }
    assert said[False] == ours
    assert said[True][:5] == ours[:5] and said[True] != ours


def test_a_chat_export_is_whole_repeatable_and_can_come_back(store: Store, tmp_path: Path) -> None:
    model, _, checkpoint = make_chat(store)
    manifest = exported(store, tmp_path, checkpoint, "instruct")
    assert verify(store, manifest) == []
    again = exported(store, tmp_path, checkpoint, "instruct", version="again")
    assert again.parts[0].files == manifest.parts[0].files
    folder = export.unpack(store, manifest, tmp_path / "out")
    back = chat_from_native(load_file(folder / "model.safetensors"))
    fused = chat_to_native(model.state_dict(), "Phi3ForCausalLM")
    state = model.state_dict()
    assert len(fused) == len(chat_to_native(state)) - 3 * 2, "five weights of each layer become two"
    again = chat_from_native(fused)
    assert set(again) == set(state) and all(torch.equal(again[name], state[name]) for name in state)
    assert set(back) == set(state) and all(torch.equal(back[name], state[name]) for name in state)
    assert manifest.totals["parameters"] == sum(value.numel() for value in state.values())
    assert manifest.ledger.listed == manifest.ledger.kept == len(chat_names(folder))
    card = (folder / "README.md").read_text()
    assert "processor.image_processor = GotOcr2ImageProcessorPil.from_pretrained(FOLDER)" in card
    assert checkpoint.digest in card and "c" * 64 in card and str(checkpoint.ref) in card
    assert "Not evaluated when it was exported." in card
    assert len(AutoTokenizer.from_pretrained(folder)) == model.config.text.vocab_size


def test_pixels_of_one_tile_are_those_of_training_but_for_torchvisions_rounding(store: Store, tmp_path: Path) -> None:
    _, _, checkpoint = make_chat(store)
    folder = export.unpack(store, exported(store, tmp_path, checkpoint, "instruct"), tmp_path / "out")
    noise = torch.randint(0, 256, (90, 140, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    photo = Image.fromarray(noise.numpy())
    wanted = pixel_values(photo, 48)
    found = AutoProcessor.from_pretrained(folder).image_processor(images=photo, return_tensors="pt")["pixel_values"]
    assert found.shape == (1, 3, 48, 48)
    assert (found[0] - wanted).abs().max() < 1.01 / 255 / 0.224
    exact = GotOcr2ImageProcessorPil.from_pretrained(folder)(images=photo, return_tensors="pt")["pixel_values"]
    assert torch.allclose(exact[0], wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("width", "height", "limits", "tiles"),
    [
        (200, 70, {"max_dynamic_patch": 6}, 4),  # 3 x 1 and the thumbnail
        (70, 200, {"max_dynamic_patch": 6}, 4),
        (50, 50, {"max_dynamic_patch": 6}, 1),  # a tie of 1 x 1 and 2 x 2 that the small one wins
        (90, 90, {"max_dynamic_patch": 6}, 5),  # and one that the large one wins
        (200, 70, {"max_dynamic_patch": 6, "min_dynamic_patch": 5}, 7),
        (200, 70, {"max_dynamic_patch": 1, "use_thumbnail": False}, 1),
    ],
)
def test_tiles_are_cut_natively_as_in_training(
    store: Store, tmp_path: Path, width: int, height: int, limits: dict[str, Any], tiles: int
) -> None:
    model, tokenizer, checkpoint = make_chat(store, **limits)
    folder = export.unpack(store, exported(store, tmp_path, checkpoint, "instruct"), tmp_path / "out")
    noise = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    picture = Image.fromarray(noise.numpy())
    pixels = tiles_of(picture, model.config)
    ids, _ = encode_conversation(
        lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
        model.config.template,
        model.config.system_message,
        [QUESTION],
        [],
        tokens_per_image=[tiles * model.config.num_image_token],
    )
    processor = AutoProcessor.from_pretrained(folder)
    turn = {"role": "user", "content": [{"type": "image", "image": picture}, {"type": "text", "text": QUESTION}]}
    inputs = processor.apply_chat_template(
        [turn], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    assert inputs["input_ids"].tolist() == [ids] and len(pixels) == tiles
    assert inputs["pixel_values"].shape == pixels.shape
    off = (inputs["pixel_values"] - pixels).abs() * 255 * 0.225
    assert off.mean() < 0.5 and off.max() < 12, "in grey levels, of a picture that is all noise"

    # As the model card says it, for the very pixels of training.
    processor.image_processor = GotOcr2ImageProcessorPil.from_pretrained(folder)
    inputs = processor.apply_chat_template(
        [turn], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    assert inputs["input_ids"].tolist() == [ids]
    assert torch.allclose(inputs["pixel_values"], pixels, atol=1e-5)
    native = InternVLForConditionalGeneration.from_pretrained(folder).eval()
    mask = torch.ones(1, len(ids), dtype=torch.long)
    with torch.no_grad():
        wanted = model.logits(torch.tensor([ids]), mask, pixels)
        assert (native(**inputs).logits - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    said = native.generate(**inputs, max_new_tokens=8)[0, len(ids) :].tolist()
    stop = [tokenizer.token_to_id("<|im_end|>"), model.config.eos_token_id]
    assert said == model.generate(torch.tensor([ids]), mask, pixels, max_new_tokens=8, stop=stop)[0].tolist()


def test_tiles_without_a_thumbnail_are_refused(store: Store, tmp_path: Path) -> None:
    _, _, checkpoint = make_chat(store, max_dynamic_patch=4, use_thumbnail=False)
    with pytest.raises(ManifestError, match=r"use_thumbnail False with max_dynamic_patch 4.*use_thumbnail=True"):
        exported(store, tmp_path, checkpoint, "instruct")


def test_the_card_carries_the_evaluation(store: Store, tmp_path: Path) -> None:
    _, _, checkpoint = make_chat(store)
    measured = Output(store, Ref(name="evaluations/instruct", version="t"), "evaluate", {}).commit(
        [], totals={"markdown": "| 42.0 % | chance 20.0 % |"}
    )
    inputs = {manifest.ref.name: manifest for manifest in (checkpoint, measured)}
    here = Workspace(store, InlineCluster(), tmp_path / "scratch", inputs)
    output = Output(store, Ref(name="exports/instruct", version="t"), "export", {})
    manifest = export.run(export.Parameters(kind="instruct"), output, here)
    card = (export.unpack(store, manifest, tmp_path / "out") / "README.md").read_text()
    assert measured.digest in card and "| 42.0 % | chance 20.0 % |" in card and "Not evaluated" not in card


def chat_names(folder: Path) -> set[str]:
    return set(load_file(folder / "model.safetensors"))


def test_a_model_that_transformers_cannot_hold_is_refused(store: Store, tmp_path: Path) -> None:
    _, _, checkpoint = make_chat(store, ps_version="v1")
    with pytest.raises(ManifestError, match=r"checkpoints/instruct@t cannot be exported: .*ps_version v2 only"):
        exported(store, tmp_path, checkpoint, "instruct")


def test_a_foreign_configuration_is_refused_by_name(store: Store, tmp_path: Path) -> None:
    model, tokenizer, _ = make_chat(Store(str(tmp_path / "other")))
    checkpoint = commit(store, "checkpoints/instruct", '{"hidden_size": 3}', model.state_dict(), tokenizer)
    with pytest.raises(ManifestError, match=r"config.json of checkpoints/instruct@t is not one of this version's"):
        exported(store, tmp_path, checkpoint, "instruct")


@pytest.mark.parametrize("generative", [False, True])
def test_towers_keep_the_official_layout_and_the_vision_tower_loads(
    store: Store, tmp_path: Path, generative: bool
) -> None:
    tokenizer = tiny_tokenizer()
    config = InternVLConfig(
        vision=VISION,
        text=TextConfig(
            vocab_size=tokenizer.get_vocab_size(),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
        ),
        embed_dim=16,
        attn_pool_num_heads=2,
        num_query_token=4,
    )
    model = randomised(InternVL(config, generative=generative))
    assert isinstance(model, InternVL)
    kind = "generative" if generative else "contrastive"
    checkpoint = commit(store, f"checkpoints/{kind}", config.model_dump_json(), model.state_dict(), tokenizer)
    folder = export.unpack(store, exported(store, tmp_path, checkpoint, kind), tmp_path / "out")
    weights = load_file(folder / "model.safetensors")
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    written = json.loads((folder / "config.json").read_text())
    assert (written["model_type"], written["clip_embed_dim"]) == ("internvl", 16)
    vision, loading = InternVLVisionModel.from_pretrained(folder / "vision", output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"]
    pixels = pixel_values(Image.new("RGB", (60, 50), (200, 30, 90)), 48)[None]
    with torch.no_grad():
        wanted, found = model.vision_model(pixels), vision.eval()(pixels, output_hidden_states=True)
    for ours, theirs in zip(wanted.hidden_states, found.hidden_states, strict=True):
        assert (ours - theirs).abs().max() <= 1e-5 * ours.abs().max()


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_templates_as_jinja_say_what_ours_say(name: str) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    system = 'You see "all".\nDon\'t lie. {{ 7 }} 图'
    questions, answers = ["What is <this>?", " Und dann?"], ["a 'moon'", "{% raw %}"]
    template = chat_template(name, system)
    bos = "<s>" if TEMPLATES[name].bos else ""
    turns: list[dict[str, Any]] = []
    for number, question in enumerate(questions):
        image = [{"type": "image"}] if number == 0 else []
        turns.append({"role": "user", "content": [*image, {"type": "text", "text": question}]})
        turns.append({"role": "assistant", "content": answers[number]})
    for stop, opened in ((4, False), (3, True), (1, True)):
        conversation = turns[:stop]
        (found,), _ = render_jinja_template(
            [conversation], chat_template=template, add_generation_prompt=opened, bos_token="<s>"
        )
        asked = place_images(questions[: (stop + 1) // 2], [1])
        asked = [each.replace(IMG_START + IMG_CONTEXT + IMG_END, IMG_CONTEXT) for each in asked]
        assert found == bos + render(name, system, asked, answers[: stop // 2])
    own = [{"role": "system", "content": "Other."}, turns[0]]
    (found,), _ = render_jinja_template([own], chat_template=template, add_generation_prompt=True, bos_token="<s>")
    asked = [place_images(questions[:1], [1])[0].replace(IMG_START + IMG_CONTEXT + IMG_END, IMG_CONTEXT)]
    assert found == bos + render(name, "Other.", asked, [])


def test_a_name_outside_the_folder_is_refused(store: Store, tmp_path: Path) -> None:
    output = Output(store, Ref(name="exports/instruct", version="t"), "export", {})
    files = {"a": ("a.json", b"{}")}
    part = publish(output, digest_of("x"), files, 1, {"names": {"a": "../a.json"}})
    with pytest.raises(ManifestError, match="outside its folder"):
        export.unpack(store, output.commit([part]), tmp_path / "out")
    assert not (tmp_path / "a.json").exists()
