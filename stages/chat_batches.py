"""Conversations as tensors: tiles of pictures, rows padded or end to end."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from PIL import Image

from models.config import ChatConfig
from models.packing import Reduction, learned_places, loss_weights
from models.preprocess import blank_values, stack, tile
from stages.chat_template import IGNORE


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


def tiles_of(image: Image.Image, config: ChatConfig, most: int | None = None) -> torch.Tensor:
    """Return the tiles of a picture as a chat model wants them, shape (tiles, 3, side, side).

    Args:
        image: The picture.
        config: Of the model.
        most: Tiles at most; the model's own limit when left out.
    """
    side, most = config.vision.image_size, most or config.max_dynamic_patch
    return stack(tile(image, side, min(config.min_dynamic_patch, most), most, config.use_thumbnail), side)


def no_picture(config: ChatConfig) -> dict[str, torch.Tensor]:
    """Return what a batch without pictures carries: a white tile that nothing is read of.

    The vision encoder then runs on every process, which sharding and data-parallel training wait for.
    """
    return {
        "pixel_values": blank_values(config.vision.image_size),
        "image_flags": torch.zeros(1, dtype=torch.long),
        "noise": torch.zeros(1, dtype=torch.long),
    }


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
