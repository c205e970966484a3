"""The blocks of a step of the generative and of the chat stage; see `models.memory_blocks`."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.config import ChatConfig, InternVLConfig, TextConfig
from models.connectors import pixel_unshuffle, two_layers
from models.frozen_towers import PICTURES
from models.generative_objective import groups_of
from models.layers import Linear, RMSNorm, wide
from models.memory_blocks import (
    FLOAT,
    How,
    contrast_block,
    decoder_layer,
    embedded,
    everything,
    looking_layer,
    nothing,
    pooled,
    vision_blocks,
)
from models.memory_trace import Block, trace
from models.memory_walk import Section
from models.vocabulary_loss import PLACES


def generative_blocks(
    config: InternVLConfig, rows: int, tokens: int, how: How, *, verdicts: int = 1, everyone: int | None = None
) -> list[Section]:
    """Return a step of InternVL-G: both towers without gradient, the queries' look, verdicts, captions.

    Args:
        config: Of both towers.
        rows: Pairs that are computed at once.
        tokens: Of a text.
        how: How it computes.
        verdicts: Pairs that are judged of each row.
        everyone: Pairs of the global batch; as many as `rows` when left out.
    """
    text, queries, seen = config.text, config.num_query_token, config.vision.grid**2 + 1
    shown = rows * seen * config.vision.hidden_size * FLOAT
    # What each pass saw, and all of it once more, stacked.
    stacked = Block("pictures, stacked", shown, 2 * shown, 0)
    towers = Section((*vision_blocks(config.vision, PICTURES, how, learns=False), stacked), shown)
    looking = looking_layer(config, rows, seen, queries, how, again=False)
    asking = _passes(config, looking, decoder_layer(text, rows, queries, how, learns=nothing, kept=True))
    pooling = pooled(text.hidden_size, config.attn_pool_num_heads, config.embed_dim, rows, queries, how)
    contrast = contrast_block(rows, everyone or rows, config.embed_dim)
    groups = groups_of(rows)
    pairs, both = -(-rows * verdicts // groups), queries + tokens
    judging = _passes(
        config,
        looking_layer(config, pairs, seen, both, how, again=True),
        decoder_layer(text, pairs, both, how, learns=nothing, masked=True),
    )
    some = -(-rows // groups)
    writing = decoder_layer(text, some, tokens, how, learns=nothing, past=queries, masked=True)
    written = [*[writing] * text.num_hidden_layers, head_block(text, some * (tokens - 1), how, learns=False)]
    return [towers, Section((*asking, pooling, contrast)), Section((*judging * groups, *written * groups))]


def _passes(config: InternVLConfig, looking: Block, plain: Block) -> list[Block]:
    """Return the layers of one pass of QLLaMA: every so many look at the picture."""
    layers = range(config.text.num_hidden_layers)
    return [plain if number % config.cross_attention_frequency else looking for number in layers]


def head_block(text: TextConfig, places: int, how: How, *, learns: bool, chunk: int = 0) -> Block:
    """Return the last norm, the logits of so many places, and their loss.

    Args:
        text: Shape of the decoder.
        places: That predict a token.
        how: How it computes.
        learns: Whether the head does.
        chunk: Places whose logits are there at once; all of them when 0.
    """

    def run(module: Any, hidden: Tensor, wanted: Tensor) -> Tensor:
        return F.cross_entropy(wide(module[1](module[0](hidden))), wanted, reduction="none")

    together = min(places, chunk or places)
    one = trace(
        "head and loss",
        lambda: nn.Sequential(
            RMSNorm(text.hidden_size, text.rms_norm_eps), Linear(text.hidden_size, text.vocab_size, bias=False)
        ),
        lambda: [
            torch.empty(together, text.hidden_size, requires_grad=True),
            torch.zeros(together, dtype=torch.int64),
        ],
        run,
        learns=everything if learns else nothing,
        numbers=how.numbers,
        recompute=together < places,
    )
    if together == places:
        return one
    width = places * text.hidden_size * FLOAT
    return Block(one.name, 2 * width, 2 * width + one.forward, 3 * width + one.backward, one.gradients, one.weights)


def language_blocks(text: TextConfig, rows: int, tokens: int, how: How) -> list[Section]:
    """Return a step of the decoder alone, which predicts each next token."""
    layer = decoder_layer(text, rows, tokens, how)
    head = head_block(text, rows * (tokens - 1), how, learns=True)
    return [Section((embedded(text, rows, tokens, how), *[layer] * text.num_hidden_layers, head))]


@dataclass(frozen=True)
class Conversations:
    """What a chat model computes at once."""

    rows: int
    tokens: int
    """Of each row."""
    tiles: int
    learned: int
    """Places of all rows that predict a token."""
    vision_learns: bool = True
    language_learns: bool = True
    connector_learns: bool = True


def chat_blocks(config: ChatConfig, given: Conversations, how: How) -> list[Section]:
    """Return a step of a chat model: tiles, the connector, and the decoder over all tokens, without padding."""
    text, vision = config.text, config.vision
    seeing = vision_blocks(vision, given.tiles, how, learns=given.vision_learns)
    # Folded, a tile's tokens are copied; else the connector keeps them as they are.
    folded = config.connector == "unshuffle_mlp"
    shown = 0 if folded else given.tiles * (vision.grid**2 + 1) * vision.hidden_size * FLOAT
    embedding = embedded(text, given.rows, given.tokens, how, learns=given.language_learns)
    layer = decoder_layer(
        text, given.rows, given.tokens, how, learns=everything if given.language_learns else nothing
    )
    placed = given.rows * given.tokens * text.hidden_size * FLOAT
    # Pictures are put into their places: the whole text once more, and a mask of its size.
    mixed = Block("pictures in place", placed + placed // FLOAT, 2 * placed, 2 * placed)
    head = head_block(text, given.learned, how, learns=given.language_learns, chunk=PLACES)
    return [
        Section((*seeing,), None if given.vision_learns else shown),
        Section((_connector(config, given, how), embedding, mixed, *[layer] * text.num_hidden_layers, head)),
    ]


def _connector(config: ChatConfig, given: Conversations, how: How) -> Block:
    """Return the connector's layers over all tiles; of two kinds of tokens the picture's alone."""
    seen, width, patches = config.vision.hidden_size, config.text.hidden_size, config.vision.grid**2
    folded = config.connector == "unshuffle_mlp"
    broad = seen * config.cell**2 if folded else seen

    def run(module: Any, tokens: Tensor) -> Tensor:
        inner = pixel_unshuffle(tokens[:, 1:], config.cell, config.ps_version) if folded else tokens[:, 1:]
        return torch.as_tensor(module(inner))

    return trace(
        "connector",
        lambda: nn.Sequential(*([nn.LayerNorm(broad)] if folded else []), *two_layers(broad, width)),
        lambda: [torch.empty(given.tiles, patches + 1, seen, requires_grad=given.vision_learns)],
        run,
        learns=everything if given.connector_learns else nothing,
        numbers=how.numbers,
    )
