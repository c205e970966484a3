"""What a `config.json` says, in whosever layout it is; the sizes that come of it are tested with the sizes."""

from typing import Any

import pytest

from models.config import ChatConfig, InternVLConfig, TextConfig, VisionConfig
from models.decoders import DECODERS, decoder_of, usual_decoder
from models.layouts import config_in
from models.recognise import Model, Whose, describe

VISION = VisionConfig(
    image_size=32, patch_size=8, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
)
TEXT = TextConfig(
    vocab_size=60, hidden_size=24, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=4,
)  # fmt: skip
CHAT = ChatConfig(vision=VISION, text=TEXT, image_context_token_id=7, eos_token_id=2, template="phi3-chat")
TOWERS = InternVLConfig(vision=VISION, text=TEXT, embed_dim=8, attn_pool_num_heads=2, context_length=33)


@pytest.mark.parametrize(
    ("config", "whose"),
    [
        *((VISION, whose) for whose in ("ours", "official", "native")),
        *((TOWERS, whose) for whose in ("ours", "official")),
        *((CHAT, whose) for whose in ("ours", "official", "native")),
    ],
)
def test_what_is_written_is_read_again(config: Model, whose: Whose) -> None:
    found = describe(config_in(whose, config, "LlamaForCausalLM"))
    assert (found.whose, found.config, found.decoder) == (whose, config, "LlamaForCausalLM")


@pytest.mark.parametrize("decoder", DECODERS)
def test_the_way_back_from_the_native_class_is_known(decoder: str) -> None:
    text = TEXT.model_copy(update={"qkv_bias": decoder == "Qwen2ForCausalLM"})
    chat = CHAT.model_copy(update={"text": text})
    for whose in ("official", "native"):
        assert describe(config_in(whose, chat, decoder)).decoder == decoder
    assert describe(config_in("ours", chat, decoder)).decoder == usual_decoder(text)


def test_fields_that_old_official_configurations_leave_out_are_the_classes_own() -> None:
    given = config_in("official", CHAT, "LlamaForCausalLM")
    for field in ("ps_version", "select_layer", "dynamic_image_size", "template"):
        del given[field]
    given["llm_config"]["eos_token_id"] = [5, 6]
    found = describe({**given, "vision_config": {**given["vision_config"], "image_size": 16}}).config
    assert isinstance(found, ChatConfig)
    assert (found.ps_version, found.select_layer, found.max_dynamic_patch, found.eos_token_id) == ("v1", -4, 1, 5)
    assert found.vision.image_size == 32, "the size that the whole model forces"


def native(**changes: Any) -> dict[str, Any]:
    given = config_in("native", CHAT, "LlamaForCausalLM")
    vision = {name: changes.pop(name) for name in ("image_size", "use_mean_pooling") if name in changes}
    return {**given, **changes, "vision_config": {**given["vision_config"], **vision}}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"model_type": "internvl_chat", "llm_config": {}}, "its config.json does not tell the id of <IMG_CONTEXT>"),
        ({"model_type": "internvl", "architectures": ["InternVLModel"]}, "is neither one of ours nor"),
        (native(image_size=[32, 16]), r"image_size \[32, 16\] is no square"),
        (native(use_mean_pooling=False), "has a norm that InternViT has not"),
        (native(text_config=None), "lacks 'text_config'"),
        (native(language_layout="qwen2"), "language_layout 'qwen2' of its config.json is not its decoder's"),
        ({**CHAT.model_dump(), "depth": 3}, "depth of its config.json: Extra inputs"),
        ({"vision": {**VISION.model_dump(), "image_size": None}}, "image_size of its config.json"),
    ],
)
def test_what_is_wrong_is_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        describe(given)


def test_what_is_not_computed_is_counted() -> None:
    given = config_in("official", VISION, "LlamaForCausalLM") | {"hidden_act": "relu"}
    with pytest.raises(ValueError, match="hidden_act 'relu'"):
        describe(given)
    assert describe(given, strict=False).config == VISION


def test_language_models_are_known_by_class_and_else_by_type() -> None:
    assert decoder_of({"architectures": ["Phi3ForCausalLM"], "model_type": "llama"}) == "Phi3ForCausalLM"
    assert decoder_of({"architectures": ["LlamaModel"], "model_type": "llama"}) == "LlamaForCausalLM"
    assert decoder_of({"architectures": None}) == decoder_of({}) == "LlamaForCausalLM"
    for given, named in (({"architectures": ["OPT"]}, "'OPT'"), ({"model_type": "opt"}, "of the type 'opt'")):
        with pytest.raises(ValueError, match=f"language model {named} is not computed here; known are Llama"):
            decoder_of(given)
