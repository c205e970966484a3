"""Weight names and configurations of others: the official code's, and those of transformers' own InternVL.

Our models use the official names. transformers' InternVL (without remote code) holds the same
numbers under other names and splits the fused projection of queries, keys and values, so both
directions are exact to the bit.
"""

from collections.abc import Mapping
from typing import Any

import torch

from models.config import InternVLConfig, TextConfig, VisionConfig

Weights = dict[str, torch.Tensor]

NATIVE_QK_NORM_EPS = 1e-6  # transformers gives the norms of queries and keys no setting of their own

_EMBEDDINGS = {
    "embeddings.class_embedding": "embeddings.cls_token",
    "embeddings.position_embedding": "embeddings.position_embeddings",
    "embeddings.patch_embedding.weight": "embeddings.patch_embeddings.projection.weight",
    "embeddings.patch_embedding.bias": "embeddings.patch_embeddings.projection.bias",
}
_LAYER = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.q_norm": "attention.q_norm",
    "attn.k_norm": "attention.k_norm",
    "attn.proj": "attention.projection_layer",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
    "ls1": "lambda_1",
    "ls2": "lambda_2",
}
_PROJECTOR = {"mlp1.0": "layer_norm", "mlp1.1": "linear_1", "mlp1.3": "linear_2"}
_QKV = ("q_proj", "k_proj", "v_proj")
_KINDS = ("weight", "bias")


def _stem(name: str) -> tuple[str, str]:
    """Return (name without its kind, kind with its dot); layer scales have no kind."""
    head, dot, kind = name.rpartition(".")
    return (head, dot + kind) if kind in _KINDS else (name, "")


def below(weights: Mapping[str, torch.Tensor], prefix: str) -> Weights:
    """Return the weights whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def vision_to_native(weights: Mapping[str, torch.Tensor]) -> Weights:
    """Return InternViT's weights under the names of `transformers.InternVLVisionModel`.

    Raises:
        ValueError: A name is not InternViT's.
    """
    found: Weights = {}
    for name, value in weights.items():
        if name in _EMBEDDINGS:
            found[_EMBEDDINGS[name]] = value
            continue
        stem, kind = _stem(name)
        encoder, _, rest = stem.partition("encoder.layers.")
        number, _, part = rest.partition(".")
        if not encoder and part == "attn.qkv":
            for each, piece in zip(_QKV, value.chunk(3, dim=0), strict=True):
                found[f"encoder.layer.{number}.attention.{each}{kind}"] = piece.clone()
        elif not encoder and part in _LAYER:
            found[f"encoder.layer.{number}.{_LAYER[part]}{kind}"] = value
        else:
            raise ValueError(f"weight {name!r} is not one of InternViT's; the official names are expected")
    return found


def vision_from_native(weights: Mapping[str, torch.Tensor]) -> Weights:
    """Return the weights of `transformers.InternVLVisionModel` under the official names.

    Raises:
        ValueError: A name is not that model's, or a query, key or value projection is missing.
    """
    embeddings = {native: name for name, native in _EMBEDDINGS.items()}
    layer = {native: name for name, native in _LAYER.items()}
    found: Weights = {}
    for name, value in weights.items():
        if name in embeddings:
            found[embeddings[name]] = value
            continue
        stem, kind = _stem(name)
        encoder, _, rest = stem.partition("encoder.layer.")
        number, _, part = rest.partition(".")
        if not encoder and part == f"attention.{_QKV[0]}":
            needed = [f"encoder.layer.{number}.attention.{each}{kind}" for each in _QKV]
            if missing := [each for each in needed if each not in weights]:
                raise ValueError(f"weight {missing[0]!r} is missing beside {name!r}")
            found[f"encoder.layers.{number}.attn.qkv{kind}"] = torch.cat([weights[each] for each in needed])
        elif not encoder and part in layer:
            found[f"encoder.layers.{number}.{layer[part]}{kind}"] = value
        elif encoder or part not in (f"attention.{each}" for each in _QKV):
            raise ValueError(f"weight {name!r} is not one of transformers' InternVLVisionModel")
    return found


def chat_to_native(weights: Mapping[str, torch.Tensor]) -> Weights:
    """Return a chat model's weights under the names of `transformers.InternVLForConditionalGeneration`.

    Raises:
        ValueError: A name is neither the vision model's, the connector's, nor of a LLaMA- or
            Qwen2-shaped language model.
    """
    vision = vision_to_native(below(weights, "vision_model."))
    found = {f"model.vision_tower.{name}": value for name, value in vision.items()}
    for name, value in weights.items():
        stem, kind = _stem(name)
        if name.startswith("vision_model."):
            continue
        if stem in _PROJECTOR:
            found[f"model.multi_modal_projector.{_PROJECTOR[stem]}{kind}"] = value
        elif name.startswith("language_model.model."):
            found["model.language_model." + name.removeprefix("language_model.model.")] = value
        elif name == "language_model.lm_head.weight":
            found["lm_head.weight"] = value
        else:
            raise ValueError(f"weight {name!r} has no place in transformers' InternVL")
    return found


def chat_from_native(weights: Mapping[str, torch.Tensor]) -> Weights:
    """Return the weights of `transformers.InternVLForConditionalGeneration` under the official names.

    Raises:
        ValueError: A name is not that model's.
    """
    vision = vision_from_native(below(weights, "model.vision_tower."))
    found = {f"vision_model.{name}": value for name, value in vision.items()}
    projector = {native: name for name, native in _PROJECTOR.items()}
    for name, value in weights.items():
        stem, kind = _stem(name)
        part = stem.removeprefix("model.multi_modal_projector.")
        if name.startswith("model.vision_tower."):
            continue
        if part != stem and part in projector:
            found[projector[part] + kind] = value
        elif name.startswith("model.language_model."):
            found["language_model.model." + name.removeprefix("model.language_model.")] = value
        elif name == "lm_head.weight":
            found["language_model.lm_head.weight"] = value
        else:
            raise ValueError(f"weight {name!r} is not one of transformers' InternVL")
    return found


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


def decoder_config(config: TextConfig, **ids: int | None) -> dict[str, Any]:
    """Return the `config.json` of a LLaMA or, with biases, of a Qwen2; `ids` are token ids such as `eos_token_id`."""
    llama = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "mlp_bias": False,
    }
    qwen2 = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "use_sliding_window": False}
    return {
        **(qwen2 if config.qkv_bias else llama),
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads or config.num_attention_heads,
        "max_position_embeddings": config.max_position_embeddings,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
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
