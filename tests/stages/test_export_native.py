"""What transformers computes from an exported folder, without remote code, is what our own model computes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from exporting import QUESTION, exported, make_chat
from PIL import Image
from transformers import (
    AutoProcessor,
    GotOcr2ImageProcessorPil,
    InternVLForConditionalGeneration,
)

from infra.storage import Store
from models.preprocess import pixel_values
from models.rope import DynamicRope, LinearRope, LongRope
from stages import export
from stages.chat_batches import tiles_of
from stages.chat_template import (
    IMG_CONTEXT,
    IMG_END,
    IMG_START,
    TEMPLATES,
    encode_conversation,
    place_images,
    render,
)
from stages.export_native import chat_template
from stages.sources.scenes import Split, draw, sample_scene


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
