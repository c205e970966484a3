"""Every tensor of a model with its published name and shape, read off a model that takes no memory."""

import hashlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from math import prod

import torch
from torch import nn

from models.chat import InternVLChat
from models.composition import Size
from models.config import ChatConfig
from models.decoders import BY_LAYOUT
from models.intern_vit import InternVisionModel
from models.internvl import InternVL
from models.qllama import LlamaForCausalLM
from models.renaming import shapes as shapes_of
from models.weights import chat_to_official

Shape = tuple[int, ...]
Shapes = dict[str, Shape]


def build(size: Size) -> nn.Module:
    """Return the model of a size on the meta device, where it takes no memory.

    A fused language model (InternLM2, Phi-3) is built in LLaMA's layout.
    """
    with torch.device("meta"):
        if size.kind == "vision":
            assert size.vision is not None
            return InternVisionModel(size.vision)
        if size.kind == "language":
            assert size.language is not None
            return LlamaForCausalLM(size.language.shape)
        if size.kind in ("contrastive", "generative"):
            assert size.towers is not None
            return InternVL(size.towers, generative=size.kind == "generative")
        assert size.vision is not None and size.language is not None and size.chat is not None
        # Which tokens a tokenizer gives which number changes no shape.
        numbers = {"image_context_token_id": 0, "eos_token_id": 0}
        config = {"towers": size.towers, **numbers, **size.chat.model_dump()}
        return InternVLChat(ChatConfig(vision=size.vision, text=size.language.shape, **config))


@lru_cache(maxsize=64)
def _shapes(size: Size) -> Shapes:
    found = build(size).state_dict()
    if size.kind == "contrastive":
        # InternVL-C reads hidden states alone: the published model has no head.
        found.pop("qllama.lm_head.weight")
    if size.language is None:
        return shapes_of(found)
    decoder, text = BY_LAYOUT[size.language.layout], size.language.shape
    if size.kind == "language":
        return shapes_of(decoder.from_llama(found, text))
    return shapes_of(chat_to_official(found, decoder.class_name, text))


def shapes(size: Size) -> Shapes:
    """Return the name and shape of every tensor, as published.

    The names of the chat models of 2023 (connector `mlp` and `two_mlp`) are ours: theirs lie in several files.
    """
    return dict(_shapes(size))


def count(found: Mapping[str, Shape]) -> int:
    """Return the number of parameters."""
    return sum(prod(shape) for shape in found.values())


def digest(found: Mapping[str, Shape]) -> str:
    """Return the SHA-256 of the sorted lines `name 3200x3x14x14`; a scalar's line ends after the space."""
    lines = sorted(f"{name} {'x'.join(map(str, shape))}" for name, shape in found.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


_PARTS: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("cross-attention", lambda name: name.startswith("qllama.") and ".cross_attn." in name),
    ("queries", lambda name: name == "query_tokens"),
    ("connector", lambda name: name.split(".")[0] in ("mlp1", "mlp2", "mm_projector")),
    ("pooling of the picture", lambda name: name.startswith("clip_projector.")),
    ("pooling of the queries", lambda name: name.startswith("clip_projector2.")),
    ("projection of the text", lambda name: name == "text_projection"),
    ("matching head", lambda name: name.startswith("itm_head.")),
    ("scale", lambda name: name == "logit_scale"),
)
STAGE_2 = ("cross-attention", "queries", "pooling of the queries", "matching head", "scale")
"""What the generative stage trains (arXiv:2312.14238, section 3.3); all else is frozen."""


def _part(name: str) -> str:
    """Return the part that a tensor belongs to."""
    for part, belongs in _PARTS:
        if belongs(name):
            return part
    if name.startswith("qllama."):
        whose = "text tower"
    elif name.startswith(("language_model.", "model.", "lm_head.", "output.")):
        whose = "language"
    else:
        whose = "vision"
    if "embed_tokens" in name or "tok_embeddings" in name or "embeddings." in name:
        return f"{whose}: embeddings"
    if "lm_head." in name or name.removeprefix("language_model.").startswith("output."):
        return f"{whose}: head"
    return f"{whose}: blocks"


def parts(found: Mapping[str, Shape]) -> dict[str, int]:
    """Return parameters by part, in the order in which a picture meets them; a final norm counts as a block's."""
    sums: dict[str, int] = {}
    for name, shape in found.items():
        sums[_part(name)] = sums.get(_part(name), 0) + prod(shape)
    order = ["vision", "pooling of the picture", "queries", "text tower", "cross-attention", "pooling of the queries"]

    def place(part: str) -> int:
        group = part.partition(":")[0]
        return order.index(group) if group in order else len(order)

    return dict(sorted(sums.items(), key=lambda item: place(item[0])))
