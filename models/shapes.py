"""Compare our models with a published list of tensor names and shapes, on the meta device: no memory is taken.

The shape of the model is read from the list itself (widths, depths, patch and grid), and then every
name and shape that our model of this shape has must be in the list, and no other.
"""

import math
import re
from collections.abc import Mapping, Sequence

import torch

from models import counting
from models.chat import InternVLChat
from models.config import ChatConfig, InternVLConfig, TextConfig, VisionConfig
from models.decoders import DECODERS
from models.intern_vit import InternVisionModel
from models.internvl import InternVL
from models.pth_names import HEAD, generative
from models.recording import Line, equal
from models.renaming import State, differences, passing
from models.sizes import SIZES, find_size
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
    query, gate = f"{first}self_attn.q_proj.weight", f"{first}mlp.gate_proj.weight"
    # LLaMA's own layout comes last: it is told by nothing that the others have not.
    kinds = sorted(DECODERS.values(), key=lambda each: each.name_of(query) == query)
    kind = next((each for each in kinds if each.name_of(query) in shapes), DECODERS["LlamaForCausalLM"])
    table, fused = kind.name_of("model.embed_tokens.weight"), kind.name_of(query)
    width, wide = _at(shapes, table, 1), _at(shapes, kind.name_of(gate), 0)
    if kind.name_of(gate) == kind.name_of(f"{first}mlp.up_proj.weight"):
        wide //= 2
    if fused == query:
        key_width = _at(shapes, f"{first}self_attn.k_proj.weight", 0)
    else:
        key_width = (_at(shapes, fused, 0) - width) // 2
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
    ), kind.class_name


def towers_from_shapes(shapes: Shapes) -> InternVLConfig:
    """Return the shape of the InternVL-C or -G that has these tensors, with as few heads as can be.

    Raises:
        ValueError: A tensor that tells is missing.
    """
    text, _ = text_from_shapes(_below(shapes, "qllama."))
    seeing = sorted(
        int(found[1])
        for name in shapes
        if (found := re.match(r"qllama\.model\.layers\.(\d+)\.cross_attn\.q_p", name))
    )
    return InternVLConfig(
        vision=vision_from_shapes(_below(shapes, "vision_model.")),
        text=text,
        embed_dim=_at(shapes, "text_projection", 1),
        attn_pool_num_heads=1,
        num_query_token=_at(shapes, "query_tokens", 1) if "query_tokens" in shapes else 1,
        # The first layer always sees the picture; where no second one does, there is one stride over all layers.
        cross_attention_frequency=seeing[1] if len(seeing) > 1 else text.num_hidden_layers,
    )


def build(shapes: Shapes) -> State:
    """Return our model's weights, without memory, under the official names, for a model with these tensors.

    Raises:
        ValueError: A tensor that tells the model's shape is missing.
    """
    with torch.device("meta"):
        if "text_projection" in shapes:
            towers = InternVL(towers_from_shapes(shapes), generative=generative(shapes)).state_dict()
            # InternVL-C never uses the text tower's head, and is published without it.
            left = () if HEAD in shapes or generative(shapes) else (HEAD,)
            return {name: value for name, value in towers.items() if name not in left}
        if "mlp1.1.weight" not in shapes:
            return InternVisionModel(vision_from_shapes(shapes)).state_dict()
        vision = vision_from_shapes(_below(shapes, "vision_model."))
        text, kind = text_from_shapes(_below(shapes, "language_model."))
        cell = math.isqrt(_at(shapes, "mlp1.1.weight", 1) // vision.hidden_size)
        config = ChatConfig(
            vision=vision, text=text, downsample_ratio=1 / max(cell, 1), image_context_token_id=0, eos_token_id=0
        )
        return chat_to_official(InternVLChat(config).state_dict(), kind, text)


def published(shapes: Shapes) -> list[str]:
    """Return the names of the published systems that have these names and shapes; heads leave no trace in them."""
    given = {name: tuple(shape) for name, shape in shapes.items() if not passing(name)}
    if "text_projection" in given:
        kinds: tuple[str, ...] = ("contrastive", "generative")
    else:
        kinds = ("chat",) if "mlp1.1.weight" in given else ("vision",)
    return [size.name for size in SIZES.values() if size.kind in kinds and counting.shapes(size) == given]


def _named(name: str, shapes: Shapes) -> Line:
    """Say which published system has these shapes; one that is named and differs is an error."""
    try:
        size = find_size(name)
    except ValueError as error:
        return Line("published system", 0.0, 0.0, str(error))
    if size is not None and (size.chat is None or size.chat.connector == "unshuffle_mlp"):
        problems = differences(counting.shapes(size), shapes)
        note = f"not {size.name}: {'; '.join(problems)}" if problems else f"{name} is what was published"
        return Line("published system", float(len(problems)), 0.0, note)
    found = published(shapes)
    return Line("published system", 0.0, 0.0, f"the shapes of {', '.join(found)}" if found else "none is known")


def check_shapes(parameters: int, shapes: Shapes, name: str = "") -> list[Line]:
    """Compare names, shapes and the number of parameters with those of our model of the same shape.

    Args:
        parameters: The published count.
        shapes: Every tensor's name and shape, under the official names.
        name: Of the model. A published system's shapes are those of its published composition, too; for any
            other name, the published systems that have just these shapes are said.

    Raises:
        ValueError: A tensor that tells the model's shape is missing.
    """
    listed = {name: shape for name, shape in shapes.items() if not passing(name)}
    ours = {name: tuple(value.shape) for name, value in build(listed).items()}
    problems = differences(ours, listed)
    names = Line("names and shapes", float(len(problems)), 0.0, "; ".join(problems) or f"{len(ours)} tensors")
    total = equal("parameters", sum(math.prod(shape) for shape in ours.values()), parameters)
    return [names, total, _named(name, listed)]
