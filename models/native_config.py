"""Configurations of transformers' own InternVL, which needs no remote code, as `config.json` holds them."""

from collections.abc import Mapping
from typing import Any

from models.config import TextConfig, VisionConfig
from models.rope import LongRope, rope_fields

_NATIVE_NAMES = {"use_qk_norm": "qk_normalization", "attention_bias": "qkv_bias"}
_NATIVE_NAMES |= {"layer_scale_init_value": "initializer_factor"}
# What transformers leaves out of a file when it is the class's own value, where the official code has another.
_NATIVE_DEFAULTS: dict[str, Any] = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "image_size": 448,
    "patch_size": 14,
    "norm_type": "layer_norm",
    "use_qk_norm": False,
    "attention_bias": False,
}
NATIVE_QK_NORM_EPS = 1e-6  # transformers gives the norms of queries and keys no setting of their own


def native_vision_config(config: VisionConfig) -> dict[str, Any]:
    """Return the `config.json` of a `transformers.InternVLVisionModel`.

    Raises:
        ValueError: That model cannot compute the same.
    """
    if config.qk_normalization and config.layer_norm_eps != NATIVE_QK_NORM_EPS:
        raise ValueError(
            f"transformers normalises queries and keys with eps {NATIVE_QK_NORM_EPS:g} only, "
            f"not layer_norm_eps {config.layer_norm_eps:g}"
        )
    return {
        "architectures": ["InternVLVisionModel"],
        "model_type": "internvl_vision",
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "intermediate_size": config.intermediate_size,
        "image_size": [config.image_size, config.image_size],
        "patch_size": [config.patch_size, config.patch_size],
        "num_channels": config.num_channels,
        "norm_type": config.norm_type,
        "layer_norm_eps": config.layer_norm_eps,
        "use_qk_norm": config.qk_normalization,
        "attention_bias": config.qkv_bias,
        "hidden_act": "gelu",
        "layer_scale_init_value": config.initializer_factor,
        # Without it the native model puts a norm of its own behind the last block; ours has none.
        "use_mean_pooling": True,
        "dtype": "float32",
    }


def native_decoder(config: TextConfig) -> str:
    """Return the class of transformers that computes a decoder.

    Raises:
        ValueError: There is none.
    """
    if config.sliding_window is None and not isinstance(config.rope_scaling, LongRope):
        return "Qwen2ForCausalLM" if config.qkv_bias else "LlamaForCausalLM"
    if config.qkv_bias:
        raise ValueError(
            "transformers has no decoder with qkv_bias and with sliding_window or longrope in all layers; "
            "leave one of them out"
        )
    if config.rope_scaling is not None and not isinstance(config.rope_scaling, LongRope):
        raise ValueError(
            f"transformers has no decoder with sliding_window and rope_scaling {config.rope_scaling.rope_type!r}; "
            "leave one of them out"
        )
    return "Phi3ForCausalLM"


def decoder_config(config: TextConfig, **ids: int | None) -> dict[str, Any]:
    """Return the `config.json` of a LLaMA, of a Qwen2 where there are biases, or of a Phi-3 with what it alone has.

    Args:
        config: Shape of the decoder.
        ids: Token ids such as `eos_token_id`.

    Raises:
        ValueError: transformers has no class that computes it.
    """
    kind = native_decoder(config)
    of_kind: dict[str, Any] = {
        "LlamaForCausalLM": {"model_type": "llama", "attention_bias": False, "mlp_bias": False},
        "Qwen2ForCausalLM": {"model_type": "qwen2", "use_sliding_window": False},
        # Its own default for padding lies beyond small vocabularies.
        "Phi3ForCausalLM": {"model_type": "phi3", "sliding_window": config.sliding_window, "pad_token_id": None},
    }
    return {
        "architectures": [kind],
        **of_kind[kind],
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads or config.num_attention_heads,
        "max_position_embeddings": config.max_position_embeddings,
        "rms_norm_eps": config.rms_norm_eps,
        **rope_fields(config.rope_theta, config.rope_scaling),
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        **ids,
    }


def native_chat_config(
    vision: VisionConfig,
    text: TextConfig,
    *,
    image_token_id: int,
    downsample_ratio: float,
    ps_version: str = "v2",
    select_layer: int = -1,
    **ids: int | None,
) -> dict[str, Any]:
    """Return the `config.json` of a `transformers.InternVLForConditionalGeneration`.

    Args:
        vision: Shape of the vision model.
        text: Shape of the language model.
        image_token_id: Id of `<IMG_CONTEXT>`.
        downsample_ratio: One over how many patches per side become one visual token.
        ps_version: Order of the visual tokens; transformers knows `v2` only.
        select_layer: Whose hidden state the connector reads.
        ids: Token ids of the language model.

    Raises:
        ValueError: That model cannot compute the same.
    """
    if ps_version != "v2":
        raise ValueError(f"transformers orders visual tokens by ps_version v2 only, not {ps_version!r}")
    if vision.grid % downsample_ratio:
        raise ValueError(
            f"transformers takes {vision.grid} patches modulo downsample_ratio {downsample_ratio:g}, which rounding "
            "keeps from 0; only ratios that are powers of two work there"
        )
    return {
        "architectures": ["InternVLForConditionalGeneration"],
        "model_type": "internvl",
        "vision_config": native_vision_config(vision),
        "text_config": decoder_config(text, **ids),
        "image_token_id": image_token_id,
        "image_seq_length": round(vision.grid * downsample_ratio) ** 2,
        "downsample_ratio": downsample_ratio,
        "projector_hidden_act": "gelu",
        "vision_feature_layer": select_layer,
        "vision_feature_select_strategy": "default",
        "tie_word_embeddings": False,
        "dtype": "float32",
    }


def _side(field: str, value: Any) -> Any:
    """Return the side of a square; transformers writes pairs.

    Raises:
        ValueError: It is none.
    """
    if not isinstance(value, list | tuple):
        return value
    if len(set(value)) != 1:
        raise ValueError(f"{field} {list(value)} is no square, and only squares are computed here")
    return value[0]


def vision_from_native(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of a `transformers.InternVLVisionModel` under the official field names.

    Raises:
        ValueError: It has a part that the official class has not.
    """
    if not fields.get("use_mean_pooling", True):
        raise ValueError("InternVLVisionModel without use_mean_pooling has a norm that InternViT has not")
    found = {_NATIVE_NAMES.get(name, name): value for name, value in {**_NATIVE_DEFAULTS, **fields}.items()}
    return {**found, **{name: _side(name, found[name]) for name in ("image_size", "patch_size")}}


def chat_from_native(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of a native chat model under the official field names; others stay as they are.

    Raises:
        ValueError: It has a part that the official class has not.
    """
    if not isinstance(fields.get("text_config"), Mapping):
        raise ValueError("the configuration lacks 'text_config'")
    return {
        **fields,
        "vision_config": vision_from_native(fields.get("vision_config") or {}),
        "llm_config": fields["text_config"],
        "select_layer": fields.get("vision_feature_layer", -1),
        "ps_version": "v2",
        "downsample_ratio": fields.get("downsample_ratio", 0.5),
    }
