"""The published systems, counted on the meta device and held against what was published."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from models.chat import InternVLChat
from models.composition import Language
from models.config import ChatConfig, TextConfig, VisionConfig
from models.counting import STAGE_2, count, digest, parts, shapes
from models.decoders import BY_LAYOUT
from models.qllama import LlamaForCausalLM
from models.recognise import recognise
from models.rope import LongRope
from models.rotary import attention_factor
from models.sizes import INTERNVL_14B, SIZES, VARIANTS, find_size, variant

# Recorded from the official code: tensors, parameters, and the digest of all names and shapes (`digest`).
RECORDED = {
    "InternViT-6B-224px": (628, 5_902_793_600, "a15f0285f79ca765dafc1cc2f0c27eff494260ddb66814aa3b7b73d190bf40ab"),
    "InternVL-14B-224px": (1048, 13_834_975_747, "7ddfbb9cfe4f8179cb099582346e552b72d3c1132c3e36ee6bfa8dd4470cbc61"),
    "InternVL-Chat-V1-5": (934, 25_514_186_112, "2bf0a6ccb13a59f4e5278cec7f58ddfb5e92d3e2c3df8c5ae33b69077cfc7bd1"),
    "InternVL2-1B": (637, 938_158_976, "5c9ce551efecac544890228c458e12cb3f17ba6016416d4e7837d3e0dc843b75"),
    "InternVL2-2B": (517, 2_205_754_368, "cbe4533f6daa23c6ce1575f097e3478787eaf6e2bc6c8e1ab69b465fe33bc4df"),
    "Mini-InternVL-Chat-2B-V1-5": (
        517, 2_205_754_368, "cbe4533f6daa23c6ce1575f097e3478787eaf6e2bc6c8e1ab69b465fe33bc4df",
    ),
}  # fmt: skip

# Parameters of encoder, connector, language model and all, as published; None where nothing was.
PUBLISHED: dict[str, tuple[str | None, str | None, str | None, str | None]] = {
    "InternViT-6B-224px": ("5903M", None, None, "5903M"),
    "InternViT-6B-448px-V1-0": ("5.91B", None, None, None),
    "InternViT-6B-448px-V1-2": ("5.54B", None, None, None),
    "InternViT-6B-448px-V1-5": ("5.54B", None, None, None),
    "InternViT-300M-448px": ("304.01M", None, None, None),
    "InternVL-C": ("5903M", None, None, "13B"),
    "InternVL-Chat-QLLaMA-7B": (None, "63M", None, None),
    "InternVL-Chat-QLLaMA-13B": (None, "90M", None, None),
    "InternVL-Chat-V1-0-7B": ("5.904B", "29.9M", "6.738B", None),
    "InternVL-Chat-V1-0-13B": ("5.904B", "42.6M", "13.016B", "18.96B"),
    "InternVL-Chat-V1-1": ("5.91B", "91.79M", "13.12B", "19.11B"),
    "InternVL-Chat-V1-2": ("5.54B", "143.17M", "34.39B", "40.07B"),
    "InternVL-Chat-V1-2-Plus": ("5.54B", "143.17M", "34.39B", "40.07B"),
    "InternVL-Chat-V1-5": ("5.54B", "116.43M", "19.86B", "25.51B"),
    "InternVL-Chat-V1-5-Plus": ("5.54B", "143.17M", "34.39B", "40.07B"),
    "Mini-InternVL-Chat-2B-V1-5": ("304.01M", "12.60M", "1.889B", None),
    "Mini-InternVL-Chat-4B-V1-5": ("304.01M", "22.03M", "3.821B", None),
    "InternVL2-1B": ("304.01M", "4.48M", "629.66M", None),
    "InternVL2-8B": ("304.01M", "33.57M", "7.738B", None),
    "InternVL2-26B": ("5.54B", "116.43M", "19.86B", "25.51B"),
    "InternVL2-40B": ("5.54B", "143.17M", "34.39B", "40.07B"),
    "InternVL2-Llama3-76B": ("5.54B", "172.01M", "70.55B", "76.26B"),
}
EXACT = {
    "InternViT-6B-448px-V1-0": 5_905_251_200,
    "InternViT-6B-448px-V1-2": 5_536_496_000,
    "InternViT-300M-448px": 304_012_288,
    "InternVL-C": 12_620_029_697,
    "InternVL-G": 13_834_975_747,
    "InternVL-Chat-V1-5": 25_514_186_112,
    "Mini-InternVL-Chat-4B-V1-5": 4_146_855_936,
    "InternVL2-4B": 4_146_855_936,
    "InternVL2-8B": 8_075_365_376,
    "InternVL2-26B": 25_514_186_112,
    # Their vocabularies are assumed (64,011 and 128,265): published sums are too round to tell.
    "InternVL2-40B": 40_068_741_504,
    "InternVL2-Llama3-76B": 76_262_358_400,
}


def close_to(number: int, said: str) -> bool:
    """Whether a count rounds to what was said, to the digits that were said."""
    unit = {"M": 1e6, "B": 1e9}[said[-1]]
    digits = len(said[:-1].partition(".")[2])
    return f"{number / unit:.{digits}f}" == said[:-1]


def sums(name: str) -> tuple[int, int, int, int]:
    found = parts(shapes(SIZES[name]))

    def whole(group: str) -> int:
        return sum(number for part, number in found.items() if part.partition(":")[0] == group)

    return whole("vision"), whole("connector"), whole("language"), sum(found.values())


@pytest.mark.parametrize("name", RECORDED)
def test_every_name_and_shape_is_the_official_one(name: str) -> None:
    found = shapes(SIZES[name])
    assert (len(found), count(found), digest(found)) == RECORDED[name]


@pytest.mark.parametrize("name", RECORDED)
def test_the_recorded_files_give_the_same(name: str) -> None:
    file = Path(__file__).parents[3] / "shared" / "parity" / f"shapes_{name}.json"
    if not file.exists():
        pytest.skip(f"{file} is not there; its digest is tested above")
    recorded = json.loads(file.read_text())
    wanted = {tensor: tuple(shape) for tensor, shape in recorded["tensors"].items()}
    assert shapes(SIZES[name]) == wanted
    assert (len(wanted), recorded["parameters"], digest(wanted)) == RECORDED[name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_parts_are_as_large_as_published(name: str) -> None:
    for number, said in zip(sums(name), PUBLISHED[name], strict=True):
        assert said is None or close_to(number, said), (number, said)


def test_exact_counts() -> None:
    for name, number in EXACT.items():
        size = find_size(name)
        assert size is not None and count(shapes(size)) == number, name
    assert sums("InternVL-Chat-QLLaMA-7B")[1] == 63_455_232
    assert sums("InternVL-Chat-QLLaMA-13B")[1] == 89_804_800
    assert sums("InternVL-Chat-V1-5")[1] == 116_429_824


def test_the_sums_of_qllama() -> None:
    found = parts(shapes(SIZES["InternVL-14B-224px"]))
    assert found["cross-attention"] == 956_418_048 == 16 * 59_776_128
    assert found["pooling of the picture"] == 33_207_168 and found["pooling of the queries"] == 53_515_008
    qllama = sum(number for part, number in found.items() if part.startswith("text tower"))
    assert qllama + found["cross-attention"] == 7_841_912_832
    assert sum(found[part] for part in STAGE_2) == 1_010_334_467


def test_every_size_is_counted_and_every_name_is_one_of_a_kind() -> None:
    names = [name.lower() for size in SIZES.values() for name in (size.name, *size.aliases)]
    assert len(names) == len(set(names))
    covered = {*RECORDED, *PUBLISHED, "InternVL2-4B", "InternVL-14B-224px"}
    others = set(SIZES) - covered - {size.name for size in VARIANTS}
    assert others == {"InternVL-14B-Flickr30K-FT-364px", "InternVL-Chat-V1-0-13B-448px"}
    longer = count(shapes(SIZES["InternVL-14B-Flickr30K-FT-364px"])) - count(shapes(SIZES["InternVL-14B-224px"]))
    assert longer == (26**2 - 16**2) * 3200


@pytest.mark.parametrize(
    ("number", "width", "depth", "mlp", "heads", "millions"),
    [
        (1, 3968, 32, 15872, 62, 6051),
        (2, 3200, 48, 12800, 50, 5903),
        (3, 3200, 48, 12800, 25, 5903),
        (4, 2496, 48, 19968, 39, 5985),
        (5, 2816, 64, 11264, 44, 6095),
        (6, 2496, 80, 9984, 39, 5985),
    ],
)
def test_the_rule_gives_the_rows_of_table_11(
    number: int, width: int, depth: int, mlp: int, heads: int, millions: int
) -> None:
    size = SIZES[f"variant-{number}"]
    assert size.vision is not None
    found = size.vision
    assert (found.hidden_size, found.num_hidden_layers) == (width, depth)
    assert (found.intermediate_size, found.num_attention_heads) == (mlp, heads)
    assert round(count(shapes(size)) / 1e6) == millions


def test_the_rule_for_other_scales() -> None:
    size = variant("small", depth=24, ratio=4, head_dim=64, target=302e6)
    assert size.vision is not None
    assert (size.vision.hidden_size, size.vision.num_attention_heads) == (1024, 16)


def decoder(shape: TextConfig) -> dict[str, Any]:
    """Return a language model's fields as the config.json of others has them."""
    fields = shape.model_dump(exclude={"qkv_bias"})
    return {**fields, "tie_word_embeddings": False}


def official_vision(shape: VisionConfig) -> dict[str, Any]:
    """Return an encoder's fields as the official config.json has them; a class without norm types leaves it out."""
    fields = shape.model_dump(exclude={"drop_path_schedule"})
    if shape.norm_type == "rms_norm":
        del fields["norm_type"]
    return {**fields, "model_type": "intern_vit_6b", "hidden_act": "gelu", "initializer_range": 1e-10}


@pytest.mark.parametrize("name", ["InternVL2-4B", "InternVL2-1B", "InternVL2-40B"])
def test_language_models_have_the_names_and_shapes_of_transformers(name: str) -> None:
    language = SIZES[name].language
    assert language is not None
    config = {**decoder(language.shape), "model_type": language.layout, "pad_token_id": 0}
    with torch.device("meta"):
        theirs = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
    wanted = {f"language_model.{name}": tuple(value.shape) for name, value in theirs.state_dict().items()}
    ours = {tensor: shape for tensor, shape in shapes(SIZES[name]).items() if tensor.startswith("language_model.")}
    assert ours == wanted


def test_internlm2_shapes_are_those_that_our_reader_takes() -> None:
    language = SIZES["InternVL2-2B"].language
    assert language is not None
    text = language.shape.model_copy(update={"num_hidden_layers": 2})
    published = shapes(SIZES["InternVL2-2B"].model_copy(
        update={"kind": "language", "language": Language(source="", layout="internlm2", shape=text)}
    ))  # fmt: skip
    assert published["model.layers.1.attention.wqkv.weight"] == (4096, 2048)
    read = BY_LAYOUT["internlm2"].to_llama(
        {name: torch.empty(shape, device="meta") for name, shape in published.items()}, text
    )
    with torch.device("meta"):
        llama = LlamaForCausalLM(text).state_dict()
    assert {name: value.shape for name, value in read.items()} == {name: value.shape for name, value in llama.items()}


def test_tokens_per_tile() -> None:
    wanted = {
        "InternVL-Chat-QLLaMA-7B": 96 + 256,
        "InternVL-Chat-QLLaMA-13B": 96 + 576,
        "InternVL-Chat-V1-0-13B": 576,
        "InternVL-Chat-V1-0-13B-448px": 1024,
        "InternVL-Chat-V1-1": 256,
        "InternVL2-8B": 256,
        "InternVL-14B-224px": 0,
    }
    assert {name: SIZES[name].image_tokens for name in wanted} == wanted


def test_names_are_found_in_either_case_and_by_repository() -> None:
    assert find_size("OpenGVLab/internvl2-8b") is SIZES["InternVL2-8B"]
    assert find_size("InternVL-G") is SIZES["InternVL-14B-224px"]
    assert find_size("InternVL9") is None
    with pytest.raises(ValueError, match="never released"):
        find_size("InternVL2-Pro")
    assert not SIZES["InternVL-Chat-V1-5-Plus"].released


LONG = LongRope(short_factor=(1.0,) * 48, long_factor=(2.0,) * 48, original_max_position_embeddings=4096)


@pytest.mark.parametrize("name", [name for name, size in SIZES.items() if size.kind == "chat"])
def test_a_chat_model_is_built_from_its_size(name: str) -> None:
    size = SIZES[name]
    assert size.language is not None and size.chat is not None
    ids = {"image_context_token_id": 92546, "eos_token_id": 2}
    if size.language.layout == "phi3":
        with pytest.raises(ValueError, match=r"Phi-3-mini-128k.*in its config.json.*give rope_scaling="):
            size.chat_config(**ids)
    config = size.chat_config(**ids, rope_scaling=LONG if size.language.layout == "phi3" else None)
    assert config.num_image_token == size.image_tokens
    with torch.device("meta"):
        model = InternVLChat(config)
    assert sum(value.numel() for value in model.parameters()) == count(shapes(size))


def test_lists_of_another_model_are_refused() -> None:
    few = LongRope(short_factor=(1.0,), long_factor=(2.0,), original_max_position_embeddings=4096)
    with pytest.raises(ValueError, match="short_factor holds 1 numbers, and heads of 96 have 48"):
        SIZES["InternVL2-4B"].chat_config(image_context_token_id=0, eos_token_id=0, rope_scaling=few)
    config = SIZES["InternVL2-4B"].chat_config(image_context_token_id=0, eos_token_id=0, rope_scaling=LONG)
    assert attention_factor(config.text) == pytest.approx((1 + 5 / 12) ** 0.5), "32 = 2**5 times 4096 = 2**12"


def test_a_folder_brings_how_its_positions_are_stretched() -> None:
    llm = {
        "architectures": ["Phi3ForCausalLM"], "vocab_size": 32020, "hidden_size": 3072, "intermediate_size": 8192,
        "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 131072,
        "rope_scaling": {"type": "su", "short_factor": [1.0] * 48, "long_factor": [2.0] * 48},
        "sliding_window": 262144,
    }  # fmt: skip
    vision = SIZES["InternViT-300M-448px"].vision
    assert vision is not None
    given = {"vision_config": vision.model_dump(), "llm_config": llm}
    found = recognise("mine", given)
    assert found.language is not None and found.language.shape.rope_scaling == LONG
    assert found.language.shape.sliding_window == 262144
    assert found.chat_config(image_context_token_id=0, eos_token_id=0).text.rope_scaling == LONG
    llm["rope_scaling"] = {"type": "yarn", "factor": 2.0}
    with pytest.raises(ValueError, match=r"rope_scaling.rope_type 'yarn' is not computed here"):
        recognise("mine", given)


def test_what_is_no_chat_model_cannot_be_one() -> None:
    with pytest.raises(ValueError, match="InternVL-C is no chat model"):
        SIZES["InternVL-C"].chat_config(image_context_token_id=0, eos_token_id=0)


# What a config.json tells


def without_names(size: Any) -> tuple[Any, ...]:
    return size.kind, size.vision, size.towers, size.language.layout, size.language.shape


def official_chat(name: str, architecture: str) -> dict[str, Any]:
    """Return what matters of a published config.json of the chat models."""
    size = SIZES[name]
    assert size.vision is not None and size.language is not None and size.chat is not None
    return {
        "model_type": "internvl_chat",
        "architectures": ["InternVLChatModel"],
        "vision_config": official_vision(size.vision),
        "llm_config": {**decoder(size.language.shape), "architectures": [architecture]},
        "downsample_ratio": 0.5,
        "ps_version": "v2",
        "select_layer": -1,
        "force_image_size": 448,
        "dynamic_image_size": True,
        "use_thumbnail": True,
        "max_dynamic_patch": 12,
        "template": size.chat.template,
    }


def official_towers() -> dict[str, Any]:
    """Return what matters of the config.json of InternVL-14B-224px."""
    return {
        "model_type": "internvl",
        "architectures": ["InternVLModel"],
        "vision_config": official_vision(INTERNVL_14B.vision),
        "qllama_config": {**decoder(INTERNVL_14B.text), "architectures": None, "cross_attention_frequency": 2},
        "clip_embed_dim": 768,
        "attn_pool_num_heads": 16,
        "num_query_token": 96,
        "force_image_size": None,
    }


@pytest.mark.parametrize(
    ("name", "architecture"),
    [
        ("InternVL2-1B", "Qwen2ForCausalLM"),
        ("InternVL2-4B", "Phi3ForCausalLM"),
        ("InternVL-Chat-V1-5", "InternLM2ForCausalLM"),
        ("InternVL2-40B", "LlamaForCausalLM"),
    ],
)
def test_an_official_chat_config_is_recognised(name: str, architecture: str) -> None:
    found = recognise("it", official_chat(name, architecture))
    assert without_names(found) == without_names(SIZES[name])
    assert shapes(found) == shapes(SIZES[name])
    assert found.chat is not None and found.chat.max_dynamic_patch == 12 and found.chat.ps_version == "v2"


def test_an_old_official_chat_config_means_its_class_defaults() -> None:
    given = official_chat("InternVL2-40B", "LlamaForCausalLM")
    for field in ("ps_version", "select_layer", "dynamic_image_size"):
        del given[field]
    found = recognise("it", given).chat
    assert found is not None
    assert (found.ps_version, found.select_layer, found.max_dynamic_patch) == ("v1", -4, 1)


def test_the_name_collision_is_settled_by_the_qllama_config() -> None:
    towers = recognise("it", official_towers())
    assert shapes(towers) == shapes(SIZES["InternVL-14B-224px"])
    contrastive = recognise("it", official_towers(), weights=["logit_scale"])
    assert shapes(contrastive) == shapes(SIZES["InternVL-C"])
    size = SIZES["InternVL2-1B"]
    assert size.vision is not None and size.language is not None
    vision = size.vision.model_dump(include={"hidden_size", "num_hidden_layers", "num_attention_heads"})
    native = {
        "model_type": "internvl",
        "vision_config": {
            **vision,
            "model_type": "internvl_vision",
            "intermediate_size": 4096,
            "image_size": [448, 448],
            "patch_size": [14, 14],
            "norm_type": "layer_norm",
            "use_qk_norm": False,
            "attention_bias": True,
        },
        "text_config": {**decoder(size.language.shape), "model_type": "qwen2"},
        "downsample_ratio": 0.5,
    }
    assert native["model_type"] == official_towers()["model_type"]
    assert shapes(recognise("it", native)) == shapes(size)


def test_our_own_configs_are_recognised() -> None:
    chat = SIZES["InternVL2-40B"].chat_config(image_context_token_id=7, eos_token_id=2)
    found = recognise("it", json.loads(chat.model_dump_json()))
    assert found.chat == SIZES["InternVL2-40B"].chat and isinstance(chat, ChatConfig)
    assert recognise("it", json.loads(INTERNVL_14B.model_dump_json())).kind == "generative"
    assert recognise("it", {"text": chat.text.model_dump()}).kind == "language"
    assert recognise("it", {**decoder(chat.text), "model_type": "llama"}).kind == "language"
    vision = SIZES["InternViT-300M-448px"].vision
    assert vision is not None
    assert recognise("it", official_vision(vision)).vision == vision


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"model_type": "bert"}, "neither one of ours nor"),
        ({"qllama_config": {}}, "lacks 'vision_config'"),
        ({"model_type": "intern_vit_6b", "image_size": 224}, "lacks 'patch_size'"),
        ({"model_type": "intern_vit_6b", "image_size": 224, "patch_size": 14}, "lacks 'hidden_size'"),
        ({**official_chat("InternVL2-1B", "Qwen2ForCausalLM"), "downsample_ratio": 0}, "downsample_ratio of its"),
        (
            {**official_chat("InternVL2-1B", "Qwen2ForCausalLM"), "llm_config": {"architectures": ["OPT"]}},
            "language model 'OPT' is not computed here",
        ),
    ],
)
def test_what_no_such_model_has_is_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recognise("it", given)
