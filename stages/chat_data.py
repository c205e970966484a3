"""Conversations as tensors: what the instruct stage trains on and a chat session asks with."""

import io
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import torch
from PIL import Image
from tokenizers import Tokenizer

from models.config import ChatConfig
from models.packing import Reduction, learned_places, loss_weights
from models.preprocess import decode, stack, tile, tile_count
from stages.batches import ShardedSamples
from stages.chat_template import IGNORE, TemplateError, encode_conversation
from stages.held_out import Divided, by_shard, divide
from stages.training.task import SampleFacts

REMEMBERED = 1 << 16
"""Pieces of conversations whose tokens are remembered."""


@dataclass(frozen=True)
class Example:
    """One conversation.

    `input_ids` and `labels` of shape (tokens,), tiles of shape (tiles, 3, side, side), and, while training,
    the random bits of each tile, int64 of shape (tiles,).
    """

    input_ids: list[int]
    labels: list[int]
    pixel_values: torch.Tensor | None
    noise: torch.Tensor | None = None


class ConversationSize(NamedTuple):
    """How large a conversation is: tokens, those of pictures among them; tiles; and places that are learned."""

    tokens: int
    tiles: int
    learned: int


def tiles_of(image: Image.Image, config: ChatConfig) -> torch.Tensor:
    """Return the tiles of a picture as a chat model wants them, shape (tiles, 3, side, side)."""
    side = config.vision.image_size
    tiles = tile(image, side, config.min_dynamic_patch, config.max_dynamic_patch, config.use_thumbnail)
    return stack(tiles, side)


class Encoder:
    """Text to tokens; the same few pieces return in every conversation, so they are remembered."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Remember nothing yet."""
        self._tokenizer = tokenizer
        self._known: dict[str, list[int]] = {}

    def __call__(self, text: str) -> list[int]:
        """Return the tokens of a text, special ones in it whole and none added."""
        if text not in self._known:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[text] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return list(self._known[text])

    def __getstate__(self) -> dict[str, Any]:
        """Leave what is remembered out of a copy for a data worker."""
        return {"_tokenizer": self._tokenizer, "_known": {}}


def collate(examples: Sequence[Example], filler: int, left: bool = False) -> dict[str, torch.Tensor]:
    """Return a batch padded to its longest row, on the right for training and on the left for asking.

    Args:
        examples: Conversations, in order.
        filler: Token in places that nothing reads.
        left: Pad on the left.

    Returns:
        `input_ids`, `attention_mask`, `labels` of shape (batch, longest), and `pixel_values` of
        shape (tiles of all, 3, side, side) where there are pictures.
    """
    longest = max(len(example.input_ids) for example in examples)

    def filled(values: list[int], value: int) -> list[int]:
        padding = [value] * (longest - len(values))
        return padding + values if left else values + padding

    batch = {
        "input_ids": torch.tensor([filled(each.input_ids, filler) for each in examples]),
        "attention_mask": torch.tensor([filled([1] * len(each.input_ids), 0) for each in examples]),
        "labels": torch.tensor([filled(each.labels, IGNORE) for each in examples]),
    }
    return {**batch, **_shown(examples)}


def _shown(examples: Iterable[Example]) -> dict[str, torch.Tensor]:
    """Return the tiles of conversations, and their noise where it was drawn, in reading order."""
    given = list(examples)
    found = {
        "pixel_values": [each.pixel_values for each in given if each.pixel_values is not None],
        "noise": [each.noise for each in given if each.noise is not None],
    }
    return {name: torch.cat(values) for name, values in found.items() if values}


def collate_packed(examples: Sequence[Example], reduction: Reduction = "token") -> dict[str, torch.Tensor]:
    """Return conversations end to end in one row, without a place that is not read.

    Args:
        examples: Conversations, in order.
        reduction: How learned tokens weigh (`models.packing.loss_weights`).

    Returns:
        `input_ids`, `labels` and `sample_index` (the place in `examples`) of shape (1, tokens of all), `loss_weights`
        of shape (1, tokens - 1) unless all weigh the same, and `pixel_values` and `noise` of the tiles in
        reading order where there are pictures; `InternVLChat` reads it as it is.
    """
    lengths = torch.tensor([len(example.input_ids) for example in examples])
    batch = {
        "input_ids": torch.tensor([list(chain.from_iterable(example.input_ids for example in examples))]),
        "labels": torch.tensor([list(chain.from_iterable(example.labels for example in examples))]),
        "sample_index": torch.arange(len(examples)).repeat_interleave(lengths)[None],
    }
    if reduction != "token":
        learned = learned_places(batch["labels"], batch["sample_index"], IGNORE)
        batch["loss_weights"] = loss_weights(learned, batch["sample_index"], reduction)
    return {**batch, **_shown(examples)}


class Conversations:
    """The conversations of shards that can be learned from; why others cannot is counted in `left_out`."""

    def __init__(self, samples: ShardedSamples, tokenizer: Tokenizer, config: ChatConfig) -> None:
        """Render and tokenise everything once; pictures are read when they are asked for."""
        self.config, self.name, self.left_out = config, samples.name, Counter[str]()
        self._samples, self._encode = samples, Encoder(tokenizer)
        self._bos = config.text.bos_token_id
        self._numbers: list[int] = []
        self._rows: list[tuple[str, list[str], list[str]]] = []
        self._sizes: list[ConversationSize] = []
        for number in range(len(samples)):
            row = json.loads(samples.read(number, "json"))
            turns = [turn["value"] for turn in row["conversations"]]
            said = (row.get("system") or config.system_message, turns[::2], turns[1::2])
            tiles = self._tile_count(number)
            try:
                tokens, labels = self._encoded(said, tiles)
            except TemplateError as error:
                self.left_out[str(error)] += 1
                continue
            self._numbers.append(number)
            self._rows.append(said)
            learned = len(labels) - labels.count(IGNORE)
            self._sizes.append(ConversationSize(len(tokens), tiles, learned))

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._rows)

    def _tile_count(self, number: int) -> int:
        config = self.config
        if config.max_dynamic_patch == 1:
            return 1
        with Image.open(io.BytesIO(self._samples.read(number, "jpg"))) as image:  # reads the header alone
            width, height = image.size
        side, least, most = config.vision.image_size, config.min_dynamic_patch, config.max_dynamic_patch
        return tile_count(width, height, side, least, most, config.use_thumbnail)

    def _encoded(self, said: tuple[str, list[str], list[str]], tiles: int) -> tuple[list[int], list[int]]:
        return encode_conversation(
            self._encode,
            self.config.template,
            *said,
            tokens_per_image=[tiles * self.config.num_image_token],
            context_length=self.config.context_length,
            bos_token_id=self._bos,
        )

    def picture(self, number: int) -> Image.Image:
        """Return the picture of a conversation."""
        return decode(self._samples.read(self._numbers[number], "jpg"))

    def size(self, number: int) -> ConversationSize:
        """Return how large a conversation is; its picture is not read for it."""
        return self._sizes[number]

    def facts(self, number: int) -> SampleFacts:
        """Return what a conversation is known by."""
        return SampleFacts.of(self._samples, self._numbers[number])

    def sample(self, number: int) -> int:
        """Return which sample of the shards a conversation is."""
        return self._numbers[number]

    def divided(self, share: float, held_out: int) -> Divided:
        """Return what is trained on and what is measured, which may be nothing, by the rule that all stages follow.

        Raises:
            ManifestError: Nothing is left to train on.
        """
        return divide(self._samples.fingerprints[self._numbers], share, held_out, self.told, needed=False)

    @property
    def told(self) -> str:
        """The artifact, and what of it cannot be learned from."""
        return self.name + (f" (left out: {dict(self.left_out)})" if self.left_out else "")

    def in_shards(self, rows: Sequence[int]) -> tuple[int, ...]:
        """Return how many of some conversations, in rising order, lie in each shard that has some."""
        return by_shard([self._numbers[row] for row in rows], self._samples.sizes)

    def example(self, number: int, shown: Image.Image | None = None) -> Example:
        """Return a conversation with its picture, or with another one in its size."""
        image = self.picture(number)
        if shown is not None:
            image = shown.resize(image.size)
        pixels = tiles_of(image, self.config)
        return Example(*self._encoded(self._rows[number], len(pixels)), pixels)
