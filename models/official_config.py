"""Configurations of the official code, read and written."""

from collections.abc import Mapping
from typing import Any

from models.config import ChatConfig, InternVLConfig, TextConfig, VisionConfig
from models.native_config import decoder_config
from models.rope import rope_scaling_of

DECODERS = ("LlamaForCausalLM", "Qwen2ForCausalLM", "InternLM2ForCausalLM", "Phi3ForCausalLM")
"""Language models of the official chat models that ours computes, by the name of their class."""


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


def vision_of(fields: Mapping[str, Any]) -> VisionConfig:
    """Return the shape of an official InternViT; fields that change no number are passed over.

    Raises:
        ValueError: Ours cannot compute the same, or a field is missing.
    """
    _only(fields, {"hidden_act": ("gelu",), "norm_type": ("rms_norm", "layer_norm")}, "InternViT")
    return VisionConfig(**{name: fields[name] for name in VisionConfig.model_fields if name in fields})


def decoder_of(fields: Mapping[str, Any]) -> str:
    """Return the class of an official chat model's language model.

    Raises:
        ValueError: Ours knows none of this name.
    """
    by_type = {"llama": DECODERS[0], "qwen2": DECODERS[1], "internlm2": DECODERS[2], "phi3": DECODERS[3]}
    found = (fields.get("architectures") or [by_type.get(fields.get("model_type", "llama"))])[0]
    if found not in DECODERS:
        raise ValueError(f"language model {found!r} is not computed here; known are {', '.join(DECODERS)}")
    return str(found)


def text_of(fields: Mapping[str, Any]) -> TextConfig:
    """Return the shape of an official language model; fields that change no number are passed over.

    Raises:
        ValueError: Ours cannot compute the same, or a field is missing.
    """
    kind = decoder_of(fields)
    plain: dict[str, tuple[Any, ...]] = {"hidden_act": ("silu",), "bias": (False,), "mlp_bias": (False,)}
    if kind != "Qwen2ForCausalLM":  # which has these biases whatever is said
        plain["attention_bias"] = (False,)
    _only(fields, {**plain, "use_sliding_window": (False,)}, kind)
    width = _need(fields, "hidden_size") // _need(fields, "num_attention_heads")
    _only(fields, {"head_dim": (width, None)}, kind)
    # Newer configurations hold the base of the rotation one level below.
    known = {**(fields.get("rope_scaling") or fields.get("rope_parameters") or {}), **fields}
    known = {name: known[name] for name in TextConfig.model_fields if name in known}
    # Of all these classes Phi-3's alone reads the window; Qwen2's has a switch for it, and LLaMA's passes it over.
    return TextConfig(
        **{
            **known,
            "qkv_bias": kind == "Qwen2ForCausalLM",
            "rope_scaling": rope_scaling_of(fields, kind),
            "sliding_window": fields.get("sliding_window") if kind == "Phi3ForCausalLM" else None,
        }
    )


def internvl_of(fields: Mapping[str, Any]) -> InternVLConfig:
    """Return the shape of an official InternVL-14B; its class is told from others by `qllama_config`.

    Raises:
        ValueError: Ours cannot compute the same, or a field is missing.
    """
    qllama = _need(fields, "qllama_config")
    shared = {**qllama, **fields}
    names = ("attn_pool_num_heads", "num_query_token", "cross_attention_frequency", "label_smoothing")
    return InternVLConfig(
        vision=vision_of(_need(fields, "vision_config")),
        text=text_of({**qllama, "architectures": None}),
        embed_dim=_need(fields, "clip_embed_dim"),
        **{name: shared[name] for name in names if name in shared},
    )


def chat_of(fields: Mapping[str, Any], **ours: Any) -> ChatConfig:
    """Return the shape of an official chat model.

    Args:
        fields: As in `config.json`; `ps_version` is v1 and `select_layer` -4 where they are left out, as there.
        ours: Fields that the official configuration does not hold, such as `image_context_token_id`.

    Raises:
        ValueError: Ours cannot compute the same, or a field is missing.
    """
    text = _need(fields, "llm_config")
    return ChatConfig(
        vision=vision_of(_need(fields, "vision_config")),
        text=text_of(text),
        downsample_ratio=fields.get("downsample_ratio", 0.5),
        ps_version=fields.get("ps_version", "v1"),
        select_layer=fields.get("select_layer", -4),
        **{"eos_token_id": text.get("eos_token_id", 2), **ours},
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
            **decoder_config(config.text, bos_token_id=1, eos_token_id=2, pad_token_id=0),
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
