"""Compare our models with a published list of tensor names and shapes, on the meta device: no memory is taken.

The shape of the model is read from the list itself (widths, depths, patch and grid), and then every
name and shape that our model of this shape has must be in the list, and no other.
"""

import math
import re
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from models.chat import InternVLChat
from models.config import ChatConfig, InternVLConfig, TextConfig, VisionConfig
from models.intern_vit import InternVisionModel
from models.internvl import InternVL
from models.recording import Line, equal
from models.renaming import State, differences, passing
from models.weights import chat_to_official

Shapes = Mapping[str, Sequence[int]]


def _below(shapes: Shapes, prefix: str) -> dict[str, Sequence[int]]:
    return {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}


def _at(shapes: Shapes, name: str, side: int) -> int:
    """Return one side of a tensor.

    Raises:
        ValueError: The tensor is not in the list or has fewer sides.
    """
    if name not in shapes or len(shapes[name]) <= side:
        raise ValueError(f"no shape can be read from {name!r}: {shapes.get(name, 'it is not in the list')}")
    return int(shapes[name][side])


def _depth(shapes: Shapes, layers: str) -> int:
    numbers = [int(found[1]) for name in shapes if (found := re.match(rf"{re.escape(layers)}(\d+)\.", name))]
    if not numbers:
        raise ValueError(f"there is no tensor below {layers!r}")
    return 1 + max(numbers)


def vision_from_shapes(shapes: Shapes) -> VisionConfig:
    """Return the shape of the InternViT that has these tensors, with one head: heads leave no trace in shapes.

    Raises:
        ValueError: A tensor that tells is missing.
    """
    patch = _at(shapes, "embeddings.patch_embedding.weight", 2)
    places = _at(shapes, "embeddings.position_embedding", 1) - 1
    first = "encoder.layers.0."
    return VisionConfig(
        image_size=math.isqrt(places) * patch,
        patch_size=patch,
        hidden_size=_at(shapes, "embeddings.patch_embedding.weight", 0),
        num_channels=_at(shapes, "embeddings.patch_embedding.weight", 1),
        num_hidden_layers=_depth(shapes, "encoder.layers."),
        num_attention_heads=1,
        intermediate_size=_at(shapes, f"{first}mlp.fc1.weight", 0),
        norm_type="layer_norm" if f"{first}norm1.bias" in shapes else "rms_norm",
        qk_normalization=f"{first}attn.q_norm.weight" in shapes,
        qkv_bias=f"{first}attn.qkv.bias" in shapes,
    )


def text_from_shapes(shapes: Shapes) -> tuple[TextConfig, str]:
    """Return the shape of the language model that has these tensors, and the class whose layout they have.

    Raises:
        ValueError: A tensor that tells is missing.
    """
    first = "model.layers.0."
    if "model.tok_embeddings.weight" in shapes:
        kind, table, gate = "InternLM2ForCausalLM", "model.tok_embeddings.weight", f"{first}feed_forward.w1.weight"
    elif f"{first}self_attn.qkv_proj.weight" in shapes:
        kind, table, gate = "Phi3ForCausalLM", "model.embed_tokens.weight", f"{first}mlp.gate_up_proj.weight"
    else:
        kind, table, gate = "LlamaForCausalLM", "model.embed_tokens.weight", f"{first}mlp.gate_proj.weight"
    width, wide = _at(shapes, table, 1), _at(shapes, gate, 0)
    if kind == "InternLM2ForCausalLM":
        key_width = (_at(shapes, f"{first}attention.wqkv.weight", 0) - width) // 2
    elif kind == "Phi3ForCausalLM":
        key_width, wide = (_at(shapes, f"{first}self_attn.qkv_proj.weight", 0) - width) // 2, wide // 2
    else:
        key_width = _at(shapes, f"{first}self_attn.k_proj.weight", 0)
    if not 1 <= key_width <= width:
        raise ValueError(f"keys of width {key_width} beside queries of width {width} cannot be")
    head_dim = math.gcd(width, key_width)  # the true heads may be smaller: shapes do not tell
    return TextConfig(
        vocab_size=_at(shapes, table, 0),
        hidden_size=width,
        intermediate_size=wide,
        num_hidden_layers=_depth(shapes, "model.layers."),
        num_attention_heads=width // head_dim,
        num_key_value_heads=key_width // head_dim,
        qkv_bias=f"{first}self_attn.q_proj.bias" in shapes,
    ), kind


def _towers(shapes: Shapes) -> nn.Module:
    text, _ = text_from_shapes(_below(shapes, "qllama."))
    seeing = sorted(
        int(found[1])
        for name in shapes
        if (found := re.match(r"qllama\.model\.layers\.(\d+)\.cross_attn\.q_p", name))
    )
    config = InternVLConfig(
        vision=vision_from_shapes(_below(shapes, "vision_model.")),
        text=text,
        embed_dim=_at(shapes, "text_projection", 1),
        attn_pool_num_heads=1,
        num_query_token=_at(shapes, "query_tokens", 1) if "query_tokens" in shapes else 1,
        # The first layer always sees the picture; where no second one does, there is one stride over all layers.
        cross_attention_frequency=seeing[1] if len(seeing) > 1 else text.num_hidden_layers,
    )
    return InternVL(config, generative="query_tokens" in shapes)


def build(shapes: Shapes) -> State:
    """Return our model's weights, without memory, under the official names, for a model with these tensors.

    Raises:
        ValueError: A tensor that tells the model's shape is missing.
    """
    with torch.device("meta"):
        if "text_projection" in shapes:
            return _towers(shapes).state_dict()
        if "mlp1.1.weight" not in shapes:
            return InternVisionModel(vision_from_shapes(shapes)).state_dict()
        vision = vision_from_shapes(_below(shapes, "vision_model."))
        text, kind = text_from_shapes(_below(shapes, "language_model."))
        cell = math.isqrt(_at(shapes, "mlp1.1.weight", 1) // vision.hidden_size)
        config = ChatConfig(
            vision=vision, text=text, downsample_ratio=1 / max(cell, 1), image_context_token_id=0, eos_token_id=0
        )
        return chat_to_official(InternVLChat(config).state_dict(), kind, text)


def check_shapes(parameters: int, shapes: Shapes) -> list[Line]:
    """Compare names, shapes and the number of parameters with those of our model of the same shape.

    Args:
        parameters: The published count.
        shapes: Every tensor's name and shape, under the official names.

    Raises:
        ValueError: A tensor that tells the model's shape is missing.
    """
    listed = {name: shape for name, shape in shapes.items() if not passing(name)}
    ours = {name: tuple(value.shape) for name, value in build(listed).items()}
    problems = differences(ours, listed)
    names = Line("names and shapes", float(len(problems)), 0.0, "; ".join(problems) or f"{len(ours)} tensors")
    return [names, equal("parameters", sum(math.prod(shape) for shape in ours.values()), parameters)]
