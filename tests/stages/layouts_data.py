"""Tiny models of every shape that is converted, in every layout."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch

from models.chat import InternVLChat
from models.config import ChatConfig, InternVLConfig, TextConfig, VisionConfig
from models.decoders import BY_LAYOUT
from models.intern_vit import InternVisionModel
from models.internvl import InternVL
from models.layouts import config_in, to_layout
from models.recognise import Model, Whose
from models.renaming import State
from stages.weight_files import on_meta, write_weights

RMS = VisionConfig(
    image_size=16, patch_size=4, hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
)
LAYER = RMS.model_copy(
    update={"norm_type": "layer_norm", "qk_normalization": False, "qkv_bias": True, "drop_path_rate": 0.1}
)
TEXT = TextConfig(
    vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, rope_theta=5e4, rms_norm_eps=1e-5,
)  # fmt: skip
TOWERS = InternVLConfig(vision=RMS, text=TEXT, embed_dim=8, attn_pool_num_heads=2, num_query_token=5)
TALK = {"template": "internlm2-chat", "system_message": "Be brief.", "context_length": 99, "max_dynamic_patch": 6}
CHATS = {"llama": RMS, "qwen2": LAYER, "internlm2": LAYER, "phi3": RMS}
MODELS = ("6b_style", "300m_style", "c", "g", *CHATS)


@cache
def made(name: str) -> tuple[Model, dict[str, torch.Tensor], str]:
    """Return a tiny model's configuration, its weights under our names, and its decoder's class."""
    decoder = BY_LAYOUT.get(name, BY_LAYOUT["llama"]).class_name
    if name in CHATS:
        text = TEXT.model_copy(update={"qkv_bias": name == "qwen2"})
        config: Model = ChatConfig(
            vision=CHATS[name], text=text, image_context_token_id=4, eos_token_id=3, ps_version="v2", **TALK
        )
        model: torch.nn.Module = InternVLChat(config)
    elif name in ("c", "g"):
        config = TOWERS
        model = InternVL(TOWERS, generative=name == "g")
    else:
        config = RMS if name == "6b_style" else LAYER
        model = InternVisionModel(config)
    generator = torch.Generator().manual_seed(3)
    weights = {key: value + 0.2 * torch.randn(value.shape, generator=generator) for key, value in
               model.state_dict().items()}  # fmt: skip
    if name == "c":  # as it is published
        del weights["qllama.lm_head.weight"]
    return config, weights, decoder


def laid(name: str, layout: Whose) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    config, weights, decoder = made(name)
    return config_in(layout, config, decoder), dict(to_layout(layout, weights, config, decoder))


def write(name: str, layout: Whose, path: Path) -> Path:
    fields, weights = laid(name, layout)
    if layout == "pth":
        torch.save(weights, path.with_suffix(".pth"))
        path.with_suffix(".json").write_text(json.dumps(fields))
        return path.with_suffix(".pth")
    write_weights(weights, on_meta(weights), path, shard_bytes=20_000)
    (path / "config.json").write_text(json.dumps(fields))
    return path


def equal(ours: State, theirs: State) -> bool:
    return set(ours) == set(theirs) and all(
        ours[name].dtype == theirs[name].dtype and torch.equal(ours[name], theirs[name]) for name in ours
    )


def possible(name: str, layout: Whose) -> bool:
    return not (layout == "native" and name in ("c", "g")) and not (layout == "pth" and name in CHATS)
