"""Tell from a `config.json` which model lies beside it: ours, the official code's, or transformers' own InternVL."""

from collections.abc import Collection, Mapping
from typing import Any

from pydantic import ValidationError

from models.config import ChatConfig, InternVLConfig, TextConfig, VisionConfig
from models.rope import rope_scaling_of
from models.sizes import ChatPart, Language, Layout, Size

_LAYOUTS: dict[str, Layout] = {
    "LlamaForCausalLM": "llama",
    "Qwen2ForCausalLM": "qwen2",
    "InternLM2ForCausalLM": "internlm2",
    "Phi3ForCausalLM": "phi3",
}
_MODEL_TYPES: dict[str, Layout] = {"llama": "llama", "qwen2": "qwen2", "internlm2": "internlm2", "phi3": "phi3"}
_NATIVE_VISION = {"use_qk_norm": "qk_normalization", "attention_bias": "qkv_bias"}


def recognise(name: str, given: Mapping[str, Any], weights: Collection[str] | None = None) -> Size:
    """Return the model that a configuration describes.

    `qllama_config` is asked before `model_type`: the official InternVL-14B and transformers' chat model
    share the type `internvl`.

    Args:
        name: How to call it.
        given: What `config.json` holds.
        weights: Names of its tensors, where they are known: InternVL-C and -G differ by them alone; without
            them the model is taken to have all that its configuration allows.

    Raises:
        ValueError: The configuration is none of those, lacks a field, or holds a value that no such model has.
    """
    try:
        return _recognise(name, given, weights)
    except KeyError as error:
        raise ValueError(f"{name}: its config.json lacks {error.args[0]!r}") from None
    except ValidationError as error:
        wrong = error.errors()[0]
        field = ".".join(map(str, wrong["loc"])) or error.title
        raise ValueError(f"{name}: {field} of its config.json: {wrong['msg']}") from None


def _recognise(name: str, given: Mapping[str, Any], weights: Collection[str] | None) -> Size:
    if "image_context_token_id" in given:
        ours = ChatConfig.model_validate(given)
        part = ChatPart.model_validate(_known(ChatPart, ours.model_dump()))
        return _chat(name, ours.vision, _language(ours.text), part)
    if "embed_dim" in given:
        return _towers(name, InternVLConfig.model_validate(given), weights)
    if set(given) == {"text"}:
        return Size(name=name, kind="language", language=_language(TextConfig.model_validate(given["text"])))
    if "qllama_config" in given:
        return _towers(name, _official_towers(given), weights)
    if "llm_config" in given:
        vision = _vision(given["vision_config"], given.get("force_image_size"))
        part = ChatPart(
            downsample_ratio=given.get("downsample_ratio", 0.5),
            ps_version=given.get("ps_version", "v1"),
            # The official class's own defaults, which old checkpoints rely on.
            select_layer=given.get("select_layer", -4),
            template=given.get("template") or "",
            max_dynamic_patch=given.get("max_dynamic_patch", 1) if given.get("dynamic_image_size") else 1,
        )
        return _chat(name, vision, _official_language(given["llm_config"]), part)
    if "text_config" in given:
        part = ChatPart(
            downsample_ratio=given["downsample_ratio"],
            select_layer=given.get("vision_feature_layer", -1),
            template="",
        )
        return _chat(name, _vision(given["vision_config"]), _official_language(given["text_config"]), part)
    if given.get("model_type") in ("intern_vit_6b", "internvl_vision"):
        return Size(name=name, kind="vision", vision=_vision(given))
    if given.get("model_type") in _MODEL_TYPES:
        return Size(name=name, kind="language", language=_official_language(given))
    raise ValueError(
        f"{name}: its config.json is neither one of ours nor one of InternViT's, InternVL's or a language model's "
        f"(model_type {given.get('model_type')!r})"
    )


def _known(model: type[ChatPart] | type[VisionConfig], given: Mapping[str, Any]) -> dict[str, Any]:
    return {field: value for field, value in given.items() if field in model.model_fields}


def _towers(name: str, towers: InternVLConfig, weights: Collection[str] | None) -> Size:
    kind = "contrastive" if weights is not None and "query_tokens" not in weights else "generative"
    return Size(name=name, kind=kind, vision=towers.vision, towers=towers)


def _chat(name: str, vision: VisionConfig, language: Language, part: ChatPart) -> Size:
    return Size(name=name, kind="chat", vision=vision, language=language, chat=part)


def _language(text: TextConfig) -> Language:
    return Language(source="", layout="qwen2" if text.qkv_bias else "llama", shape=text)


def _side(value: Any) -> Any:
    """Return the side of a square: transformers writes pairs."""
    return value[0] if isinstance(value, list | tuple) else value


def _vision(given: Mapping[str, Any], image_size: int | None = None) -> VisionConfig:
    renamed = {_NATIVE_VISION.get(field, field): value for field, value in given.items()}
    renamed |= {field: _side(given[field]) for field in ("image_size", "patch_size")}
    if image_size:
        renamed["image_size"] = image_size
    return VisionConfig.model_validate(_known(VisionConfig, renamed))


def _text(given: Mapping[str, Any]) -> TextConfig:
    rope = given.get("rope_parameters") or {}
    return TextConfig(
        vocab_size=given["vocab_size"],
        hidden_size=given["hidden_size"],
        intermediate_size=given["intermediate_size"],
        num_hidden_layers=given["num_hidden_layers"],
        num_attention_heads=given["num_attention_heads"],
        num_key_value_heads=given.get("num_key_value_heads"),
        rms_norm_eps=given.get("rms_norm_eps", 1e-6),
        rope_theta=given.get("rope_theta") or rope.get("rope_theta", 10000.0),
        max_position_embeddings=given.get("max_position_embeddings", 2048),
    )


def _official_language(given: Mapping[str, Any]) -> Language:
    architecture = (given.get("architectures") or [""])[0]
    layout = _LAYOUTS.get(architecture) or _MODEL_TYPES.get(given.get("model_type", ""))
    if layout is None:
        raise ValueError(
            f"a language model of architecture {architecture!r} and type {given.get('model_type')!r} is not known; "
            f"known are {', '.join(_LAYOUTS)}"
        )
    kind = next(name for name, each in _LAYOUTS.items() if each == layout)
    more = {
        "qkv_bias": layout == "qwen2",
        "rope_scaling": rope_scaling_of(given, kind),
        "sliding_window": given.get("sliding_window") if layout == "phi3" else None,
    }
    shape = TextConfig(**_text(given).model_dump() | more)
    return Language(source=str(given.get("_name_or_path", "")), layout=layout, shape=shape)


def _official_towers(given: Mapping[str, Any]) -> InternVLConfig:
    qllama = given["qllama_config"]
    return InternVLConfig(
        vision=_vision(given["vision_config"], given.get("force_image_size")),
        text=_text(qllama),
        embed_dim=given["clip_embed_dim"],
        attn_pool_num_heads=given.get("attn_pool_num_heads", 16),
        num_query_token=given.get("num_query_token") or qllama.get("num_query_token", 96),
        cross_attention_frequency=qllama.get("cross_attention_frequency", 2),
    )
