"""Configurations of the official code, read and written."""

from collections.abc import Mapping
from typing import Any

from models.config import ChatConfig, InternVLConfig, TextConfig, VisionConfig
from models.decoders import DECODERS, decoder_of
from models.native_config import decoder_config
from models.rope import ORIGINAL, LongRope, rope_scaling_of

_ENDS = ("bos_token_id", "eos_token_id")
"""Tokens, not shape: published files give lists of them, nothing, or others than their tokenizer uses."""
TALK = ("template", "system_message", "context_length", "min_dynamic_patch", "use_thumbnail")
"""Fields of a chat model that say how it is talked to; foreign classes keep those they do not know."""


def _only(fields: Mapping[str, Any], allowed: Mapping[str, tuple[Any, ...]], what: str) -> None:
    """Refuse values that our models cannot compute.

    Raises:
        ValueError: There is one.
    """
    wrong = [f"{name} {fields[name]!r}" for name, known in allowed.items() if fields.get(name, known[0]) not in known]
    if wrong:
        raise ValueError(
            f"{what} with {', '.join(wrong)} is not computed here; run this model with transformers' own class"
        )


def _need(fields: Mapping[str, Any], name: str) -> Any:
    """Return a field.

    Raises:
        ValueError: It is not there.
    """
    if name not in fields:
        raise ValueError(f"the configuration lacks {name!r}")
    return fields[name]


def vision_of(fields: Mapping[str, Any], strict: bool = True) -> VisionConfig:
    """Return the shape of an official InternViT; fields that change no number are passed over.

    Args:
        fields: As in `config.json`.
        strict: Refuse what ours cannot compute; left out where parameters alone are counted.

    Raises:
        ValueError: Ours cannot compute the same, or a field is missing.
    """
    if strict:
        _only(fields, {"hidden_act": ("gelu",), "norm_type": ("rms_norm", "layer_norm")}, "InternViT")
    return VisionConfig(**{name: fields[name] for name in VisionConfig.model_fields if name in fields})


def text_of(fields: Mapping[str, Any], strict: bool = True) -> TextConfig:
    """Return the shape of an official language model; fields that change no number are passed over.

    Args:
        fields: As in `config.json`.
        strict: Refuse what ours cannot compute; left out where parameters alone are counted.

    Raises:
        ValueError: Ours cannot compute the same, or a field is missing.
    """
    kind = decoder_of(fields)
    if strict:
        _computed(fields, kind)
    # Newer configurations hold the base of the rotation one level below.
    known = {**(fields.get("rope_scaling") or fields.get("rope_parameters") or {}), **fields}
    known = {name: known[name] for name in TextConfig.model_fields if name in known and name not in _ENDS}
    # Of all these classes Phi-3's alone reads the window; Qwen2's has a switch for it, and LLaMA's passes it over.
    return TextConfig(
        **{
            **known,
            "qkv_bias": kind == "Qwen2ForCausalLM",
            "rope_scaling": rope_scaling_of(fields, kind),
            "sliding_window": fields.get("sliding_window") if kind == "Phi3ForCausalLM" else None,
        }
    )


def _computed(fields: Mapping[str, Any], kind: str) -> None:
    """Refuse a language model that ours cannot compute.

    Raises:
        ValueError: It is one.
    """
    plain: dict[str, tuple[Any, ...]] = {"hidden_act": ("silu",), "bias": (False,), "mlp_bias": (False,)}
    if kind != "Qwen2ForCausalLM":  # which has these biases whatever is said
        plain["attention_bias"] = (False,)
    _only(fields, {**plain, "use_sliding_window": (False,)}, kind)
    width = _need(fields, "hidden_size") // _need(fields, "num_attention_heads")
    _only(fields, {"head_dim": (width, None)}, kind)


def internvl_of(fields: Mapping[str, Any], strict: bool = True) -> InternVLConfig:
    """Return the shape of an official InternVL-14B; its class is told from others by `qllama_config`.

    Raises:
        ValueError: Ours cannot compute the same, or a field is missing.
    """
    qllama = _need(fields, "qllama_config")
    shared = {**qllama, **fields}
    ends = {name: qllama[name] for name in _ENDS if isinstance(qllama.get(name), int)}
    names = (
        "attn_pool_num_heads",
        "num_query_token",
        "cross_attention_frequency",
        "label_smoothing",
        "context_length",
    )
    return InternVLConfig(
        vision=vision_of(_sized(fields), strict),
        text=text_of({**qllama, "architectures": None}, strict).model_copy(update=ends),
        embed_dim=_need(fields, "clip_embed_dim"),
        **{name: shared[name] for name in (*names, "context_length") if name in shared},
    )


def _sized(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model's vision configuration, with the picture size that the whole model forces."""
    vision = dict(_need(fields, "vision_config"))
    return {**vision, "image_size": fields["force_image_size"]} if fields.get("force_image_size") else vision


def chat_of(fields: Mapping[str, Any], strict: bool = True, **ours: Any) -> ChatConfig:
    """Return the shape of an official chat model.

    Args:
        fields: As in `config.json`; `ps_version` is v1 and `select_layer` -4 where they are left out, as there.
        strict: Refuse what ours cannot compute; left out where parameters alone are counted.
        ours: Fields that the official configuration does not hold, such as `image_context_token_id`.

    Raises:
        ValueError: Ours cannot compute the same, or a field is missing.
    """
    text = _need(fields, "llm_config")
    ends, begin = text.get("eos_token_id", 2), text.get("bos_token_id")
    spoken = text_of(text, strict)
    return ChatConfig(
        vision=vision_of(_sized(fields), strict),
        text=spoken.model_copy(update={"bos_token_id": begin}) if isinstance(begin, int) else spoken,
        downsample_ratio=fields.get("downsample_ratio", 0.5),
        ps_version=fields.get("ps_version", "v1"),
        select_layer=fields.get("select_layer", -4),
        max_dynamic_patch=fields.get("max_dynamic_patch", 1) if fields.get("dynamic_image_size") else 1,
        **{name: fields[name] for name in TALK if fields.get(name) is not None},
        **{"eos_token_id": ends[0] if isinstance(ends, list) else ends, **ours},
    )


def official_vision_config(config: VisionConfig) -> dict[str, Any]:
    """Return a vision model's configuration under the official code's field names."""
    return {
        "architectures": ["InternVisionModel"],
        "model_type": "intern_vit_6b",
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "intermediate_size": config.intermediate_size,
        "image_size": config.image_size,
        "patch_size": config.patch_size,
        "num_channels": config.num_channels,
        "norm_type": config.norm_type,
        "layer_norm_eps": config.layer_norm_eps,
        "qk_normalization": config.qk_normalization,
        "qkv_bias": config.qkv_bias,
        "hidden_act": "gelu",
        "initializer_factor": config.initializer_factor,
        "drop_path_rate": config.drop_path_rate,
        "use_flash_attn": False,
    }


def official_config(config: InternVLConfig) -> dict[str, Any]:
    """Return the `config.json` that the official code of InternVL-14B-224px reads."""
    return {
        "architectures": ["InternVLModel"],
        "model_type": "internvl",
        "vision_config": official_vision_config(config.vision),
        "qllama_config": {
            **decoder_config(config.text, **{name: getattr(config.text, name) for name in _ENDS}, pad_token_id=0),
            "architectures": None,
            "cross_attention_frequency": config.cross_attention_frequency,
            "num_query_token": config.num_query_token,
        },
        "clip_embed_dim": config.embed_dim,
        "attn_pool_num_heads": config.attn_pool_num_heads,
        "num_query_token": config.num_query_token,
        "label_smoothing": config.label_smoothing,
        "max_txt_len": config.context_length,
        "force_image_size": None,
        "initializer_range": 0.02,
        "use_backbone_lora": 0,
        "use_qllama_lora": 0,
        "dtype": "float32",
    }


def official_chat_config(config: ChatConfig, decoder: str) -> dict[str, Any]:
    """Return the `config.json` that the official code of the chat models reads.

    Args:
        config: Of the model.
        decoder: Class of the language model in whose layout its weights are written.

    Raises:
        ValueError: That class cannot compute the same.
    """
    return {
        "architectures": ["InternVLChatModel"],
        "model_type": "internvl_chat",
        "vision_config": official_vision_config(config.vision),
        "llm_config": _spoken_config(config.text, decoder, config.eos_token_id),
        "downsample_ratio": config.downsample_ratio,
        "ps_version": config.ps_version,
        "select_layer": config.select_layer,
        "force_image_size": config.vision.image_size,
        "dynamic_image_size": config.max_dynamic_patch > 1,
        "max_dynamic_patch": config.max_dynamic_patch,
        **{name: getattr(config, name) for name in TALK},
        # Not the official code's own: it asks the tokenizer.
        "image_token_id": config.image_context_token_id,
        "use_backbone_lora": 0,
        "use_llm_lora": 0,
        "dtype": "float32",
    }


def _spoken_config(text: TextConfig, decoder: str, eos_token_id: int) -> dict[str, Any]:
    """Return a language model's configuration as the official code's version of transformers looks for it.

    Raises:
        ValueError: That class cannot compute the same.
    """
    scaling = text.rope_scaling
    fields: dict[str, Any] = {"rope_theta": text.rope_theta, "bias": False}
    if decoder != "Phi3ForCausalLM" and (isinstance(scaling, LongRope) or text.sliding_window is not None):
        raise ValueError(f"{decoder} knows neither longrope nor a sliding window; Phi3ForCausalLM, layout phi3, does")
    if decoder == "Phi3ForCausalLM" and scaling is not None and not isinstance(scaling, LongRope):
        raise ValueError(f"Phi3ForCausalLM knows no rope_scaling {scaling.rope_type!r} but longrope; leave it out")
    if isinstance(scaling, LongRope):
        given = scaling.model_dump(mode="json", exclude_none=True, exclude={"rope_type", ORIGINAL})
        fields |= {"rope_scaling": {"type": "su", **given}, ORIGINAL: scaling.original_max_position_embeddings}
    elif scaling is not None:
        fields["rope_scaling"] = {"type": scaling.rope_type, "factor": scaling.factor}
    if decoder == "Phi3ForCausalLM":
        fields |= {"sliding_window": text.sliding_window, "pad_token_id": None}
    plain = decoder_config(text.model_copy(update={"rope_scaling": None, "sliding_window": None}))
    del plain["rope_parameters"]
    kind = DECODERS[decoder].model_type
    ends = {"bos_token_id": text.bos_token_id, "eos_token_id": eos_token_id}
    return {**plain, **fields, "architectures": [decoder], "model_type": kind, **ends}
