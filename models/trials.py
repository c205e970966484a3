"""A training step of any shape on drawn numbers: what it costs and holds does not depend on what it learns."""

import torch
from torch import Tensor

from models.chat import IGNORE, InternVLChat
from models.config import ChatConfig
from models.contrastive_objective import ContrastiveObjective
from models.drawn_masks import drawn_patches
from models.generative_objective import GenerativeObjective
from models.internvl import InternVL
from models.language_objective import LanguageObjective
from models.negatives import MINED
from models.objective import Objective
from models.step_shape import Shape
from models.vision_embeddings import kept_patches

Batch = dict[str, Tensor]
FIRST = 3
"""Tokens below it have a meaning of their own."""


def objective_of(shape: Shape) -> Objective:
    """Return what the stage trains, with random weights, on torch's default device."""
    if shape.chat is not None:
        chat = InternVLChat(shape.chat)
        chat.vision_model.requires_grad_(shape.vision_learns)
        chat.language_model.requires_grad_(shape.text_learns)
        if shape.chat.towers is not None:
            chat.qllama.requires_grad_(False)
        return chat
    if shape.towers is None:
        assert shape.text is not None
        return LanguageObjective(shape.text)
    if shape.stage == "generative":
        model = InternVL(shape.towers)
        return GenerativeObjective(model, paired=shape.paired, image_negatives=shape.image_negatives)
    model = InternVL(shape.towers, generative=False)
    model.qllama.lm_head.requires_grad_(False)
    if not shape.text_learns:
        model.qllama.requires_grad_(False)
    return ContrastiveObjective(model)


def batches(shape: Shape, rows: int, pieces: int) -> list[Batch]:
    """Return the micro batches of a step, all texts at their full length, on torch's default device.

    Args:
        shape: What is trained.
        rows: Of a micro batch; with packs there is one in each.
        pieces: Micro batches.
    """
    if shape.chat is not None:
        return [_pack(shape, shape.chat, rows) for _ in range(pieces)]
    if shape.stage == "generative":
        return [_pairs(shape, rows, rows * number, rows * pieces) for number in range(pieces)]
    if shape.towers is None:
        assert shape.text is not None
        found = (torch.randint(FIRST, shape.text.vocab_size, (rows, shape.tokens)) for _ in range(pieces))
        return [{"input_ids": ids, "labels": ids.clone()} for ids in found]
    return [_captioned(shape, rows) for _ in range(pieces)]


def _captioned(shape: Shape, rows: int) -> Batch:
    assert shape.towers is not None
    vision, text = shape.towers.vision, shape.towers.text
    ids = torch.randint(FIRST, text.vocab_size, (rows, shape.tokens))
    pictures = torch.randn(rows, vision.num_channels, vision.image_size, vision.image_size)
    batch = {"pixel_values": pictures, "input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if shape.kept:
        keep = drawn_patches(rows, vision.grid, shape.kept, ids.device)
        batch |= {"pixel_values": kept_patches(pictures, keep, vision.patch_size), "keep_patches": keep}
    return batch


def _pairs(shape: Shape, rows: int, first: int, everyone: int) -> Batch:
    assert shape.towers is not None
    vision, text = shape.towers.vision, shape.towers.text
    row = torch.arange(first, first + rows)
    batch = {
        "row": row,
        "pixel_values": torch.randn(rows, vision.num_channels, vision.image_size, vision.image_size),
        "image_id": row,
        "caption_id": row,
        "other_id": (row + 1) % everyone,
        "judged": row % (MINED + 1),
        "uniform": torch.rand(rows, 2, dtype=torch.float64),
    }
    for name in ("summary", "caption", "other", "prompted"):
        ids = torch.randint(FIRST, text.vocab_size, (rows, shape.tokens))
        batch |= {f"{name}_input_ids": ids, f"{name}_attention_mask": torch.ones_like(ids)}
    return {**batch, "prompted_labels": batch["prompted_input_ids"].clone()}


def _pack(shape: Shape, config: ChatConfig, rows: int) -> Batch:
    """Return a pack that is full: of conversations at their longest, each with as many tiles as its share."""
    if not shape.packed:
        return _talk(config, rows, shape.tokens, shape.tiles)
    count = rows * max(1, shape.tokens // max(1, shape.length))
    batch = _talk(config, count, rows * shape.tokens // count, rows * shape.tiles // count)
    owners = torch.arange(count)[:, None].expand_as(batch["input_ids"])
    laid = {name: batch[name].reshape(1, -1) for name in ("input_ids", "labels")}
    return {**batch, **laid, "sample_index": owners.reshape(1, -1)}


def _talk(config: ChatConfig, rows: int, tokens: int, tiles: int) -> Batch:
    """Return conversations that begin with their tiles and learn all of their text."""
    tiles = max(1, min(tiles, (tokens - 1) // config.num_image_token))
    ids = torch.randint(FIRST, config.text.vocab_size, (rows, tokens))
    ids[ids == config.image_context_token_id] = FIRST
    shown = tiles * config.num_image_token
    ids[:, :shown] = config.image_context_token_id
    labels = ids.clone()
    labels[:, :shown] = IGNORE
    side = config.vision.image_size
    pictures = torch.randn(rows * tiles, config.vision.num_channels, side, side)
    return {"input_ids": ids, "labels": labels, "pixel_values": pictures}
