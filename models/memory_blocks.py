"""The blocks of a training step, for each objective: what runs, in which order, and what of it is kept."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.config import InternVLConfig, TextConfig, VisionConfig
from models.decoder_layer import LlamaDecoderLayer
from models.intern_vit import InternVisionEncoderLayer
from models.layers import Linear, RMSNorm, wide
from models.memory_trace import Block, Numbers, trace
from models.memory_walk import Section
from models.pair_blocks import BLOCK
from models.pooling import AttentionPooling
from models.rotary import rotary
from models.vision_embeddings import InternVisionEmbeddings

SINGLE = Numbers()
FLOAT = 4
"""Bytes of a number in single precision, which similarities and losses are computed in."""


@dataclass(frozen=True)
class How:
    """How a step computes, whatever it computes."""

    numbers: Numbers = SINGLE
    recompute: bool = False
    """Activation checkpointing of all layers."""


def nothing(_: str) -> bool:
    """No weight learns."""
    return False


def everything(_: str) -> bool:
    """All weights learn."""
    return True


def vision_blocks(
    config: VisionConfig, rows: int, how: How, *, kept: int | None = None, learns: bool = True
) -> tuple[Block, ...]:
    """Return patches and all blocks of the encoder.

    Args:
        config: Its shape.
        rows: Pictures at once.
        how: How it computes.
        kept: Patches that are seen where others are masked; all when left out.
        learns: Whether it does; nothing is kept for a backward pass otherwise.
    """
    patches, chosen = kept or config.grid**2, everything if learns else nothing
    size, width = config.patch_size, config.hidden_size
    # Masked pictures come as patches: a strip of as many holds the same.
    shape = (
        (rows, config.num_channels, size, size * patches) if kept else (rows, config.num_channels, *_square(config))
    )

    def hidden() -> list[Any]:
        return [torch.empty(rows, patches + 1, width, requires_grad=learns)]

    numbers = how.numbers
    first = trace(
        "patches",
        lambda: InternVisionEmbeddings(config),
        lambda: [torch.empty(shape)],
        learns=chosen,
        numbers=numbers,
    )
    layer = trace(
        "vision layer",
        lambda: InternVisionEncoderLayer(config),
        hidden,
        learns=chosen,
        numbers=numbers,
        recompute=how.recompute and learns,
    )
    return (first, *[layer] * config.num_hidden_layers)


def _square(config: VisionConfig) -> tuple[int, int]:
    return config.image_size, config.image_size


def pooled(width: int, heads: int, embed_dim: int, rows: int, tokens: int, how: How) -> Block:
    """Return the pooling of tokens into one unit vector."""
    return trace(
        "pooling",
        lambda: AttentionPooling(width, heads, embed_dim),
        lambda: [torch.empty(rows, tokens, width, requires_grad=True)],
        lambda module, tokens: F.normalize(wide(module(tokens)), dim=-1),
        numbers=how.numbers,
    )


def embedded(config: TextConfig, rows: int, tokens: int, how: How, *, learns: bool = True) -> Block:
    """Return the embedding of texts."""
    return trace(
        "embedding",
        lambda: nn.Embedding(config.vocab_size, config.hidden_size),
        lambda: [torch.zeros(rows, tokens, dtype=torch.int64)],
        learns=everything if learns else nothing,
        numbers=how.numbers,
    )


def decoder_layer(
    config: TextConfig,
    rows: int,
    tokens: int,
    how: How,
    *,
    learns: Callable[[str], bool] = everything,
    passes: bool = True,
    past: int = 0,
    masked: bool = False,
    kept: bool = False,
) -> Block:
    """Return one layer of the decoder.

    Args:
        config: Its shape.
        rows: Texts at once.
        tokens: Of each.
        how: How it computes.
        learns: Whether a weight of this name does.
        passes: Whether a gradient goes back through it.
        past: Tokens of the queries that each text reads first: their keys and values are picked for it.
        masked: Who sees whom is told by a mask, and not by the order alone.
        kept: Its keys and values stay, for texts that read on.
    """
    heads = config.num_key_value_heads or config.num_attention_heads

    def inputs() -> list[Any]:
        hidden = torch.empty(rows, tokens, config.hidden_size, requires_grad=passes)
        cache = None
        if past:
            shape = (rows, heads, past, config.hidden_size // config.num_attention_heads)
            cache = [torch.empty(shape, requires_grad=passes) for _ in range(2)]
        mask = torch.zeros(rows, 1, tokens, past + tokens, dtype=torch.bool) if masked else None
        return [hidden, _turn(config, past, tokens), mask, cache]

    def run(layer: nn.Module, hidden: Tensor, turn: Any, mask: Any, cache: Any) -> Any:
        found = layer(hidden, turn, mask, cache, None, 0)
        return found if kept else found[0]

    return trace(
        "decoder layer",
        lambda: LlamaDecoderLayer(config, None),
        inputs,
        run,
        before=_picked,
        learns=learns,
        numbers=how.numbers,
        recompute=how.recompute and passes,
    )


def _turn(config: TextConfig, past: int, tokens: int) -> Any:
    return rotary(config, torch.arange(past, past + tokens)[None], torch.tensor([[past + tokens]]))


def _picked(*given: Any) -> list[Any]:
    """Pick keys and values of each row, which the last input holds; as `GenerativeObjective` does it."""
    *others, kept = given
    rows = torch.arange(len(others[0]))
    return [*others, None if kept is None else tuple(each.index_select(0, rows) for each in kept)]


def looking_layer(config: InternVLConfig, rows: int, seen: int, tokens: int, how: How, *, again: bool) -> Block:
    """Return a layer of QLLaMA whose queries look at pictures; nothing but that look learns.

    Args:
        config: Of both towers.
        rows: Pictures, or pairs.
        seen: Tokens of a picture, the class token among them.
        tokens: Of each row: queries, and the text where they judge one.
        how: How it computes.
        again: They looked before: keys and values of the pictures are picked and not made.
    """
    text, width = config.text, config.vision.hidden_size

    def inputs() -> list[Any]:
        hidden = torch.empty(rows, tokens, text.hidden_size, requires_grad=True)
        heads, size = text.num_attention_heads, text.hidden_size // text.num_attention_heads
        looked = [torch.empty(rows, heads, seen, size, requires_grad=True) for _ in range(2)] if again else None
        mask = torch.zeros(rows if again else 1, 1, 1 if again else tokens, tokens, dtype=torch.bool)
        return [
            hidden,
            _turn(text, 0, tokens),
            mask.expand(-1, 1, tokens, -1),
            torch.empty(rows, seen, width),
            looked,
        ]

    def run(layer: nn.Module, hidden: Tensor, turn: Any, mask: Any, vision: Tensor, looked: Any) -> Any:
        return layer(hidden, turn, mask, None, vision, config.num_query_token, None, looked)

    return trace(
        "looking layer",
        lambda: LlamaDecoderLayer(text, width),
        inputs,
        run,
        before=_picked,
        learns=lambda name: name.startswith("cross_attn."),
        numbers=how.numbers,
        recompute=how.recompute,
    )


def contrastive_blocks(
    config: InternVLConfig,
    rows: int,
    tokens: int,
    how: How,
    *,
    kept: int | None = None,
    text_learns: bool = True,
    everyone: int | None = None,
) -> list[Section]:
    """Return a step of InternVL-C: texts, then pictures, then every pair of the global batch in blocks.

    Args:
        config: Of both towers.
        rows: Pairs that are computed at once.
        tokens: Of a text.
        how: How it computes.
        kept: Patches that are seen; all when left out.
        text_learns: Whether the text tower does.
        everyone: Pairs of the global batch; as many as `rows` when left out.
    """
    text, width, seen = config.text, config.vision.hidden_size, (kept or config.vision.grid**2) + 1
    learns = everything if text_learns else nothing
    layer = decoder_layer(text, rows, tokens, how, learns=learns, passes=text_learns)
    read = (embedded(text, rows, tokens, how, learns=text_learns), *[layer] * text.num_hidden_layers)
    left = None if text_learns else rows * text.hidden_size * FLOAT
    seeing = vision_blocks(config.vision, rows, how, kept=kept)
    pooling = pooled(width, config.attn_pool_num_heads, config.embed_dim, rows, seen, how)
    return [
        Section(read, left),
        Section((_ending(text, config.embed_dim, rows, tokens, how),)),
        Section((*seeing, pooling)),
        Section((contrast_block(rows, everyone or rows, config.embed_dim),)),
    ]


def _ending(text: TextConfig, embed_dim: int, rows: int, tokens: int, how: How) -> Block:
    """Return the last norm of texts, and the projection of their ends."""
    return trace(
        "text projection",
        lambda: nn.Sequential(RMSNorm(text.hidden_size, text.rms_norm_eps), Linear(text.hidden_size, embed_dim)),
        lambda: [torch.empty(rows, tokens, text.hidden_size, requires_grad=True)],
        lambda module, hidden: F.normalize(wide(module[1](module[0](hidden)[:, 0])), dim=-1),
        numbers=how.numbers,
    )


def contrast_block(rows: int, everyone: int, embed_dim: int) -> Block:
    """Return the contrast of this process's pictures with the texts of all, some columns at a time."""
    texts, square = everyone * embed_dim * FLOAT, min(max(BLOCK, rows), rows * everyone) * FLOAT
    # Logits, their exponentials, a mask and what is left of the block before are there at once.
    return Block("contrast", texts, texts + 4 * square, texts + 4 * square + 2 * rows * embed_dim * FLOAT + texts)
