"""What a training step costs, and how much of it is padding: from the shapes of a batch, by `models.cost`."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from models.chat import InternVLChat
from models.chat_cost import chat_cost
from models.config import TextConfig
from models.contrastive_objective import ContrastiveObjective
from models.generative_cost import generative_cost
from models.generative_objective import GenerativeObjective
from models.step_work import (
    Products,
    StepCost,
    decoder_products,
    learning,
    looking_products,
    pooling_products,
    vision_products,
)


def step_cost(objective: Any, batch: Mapping[str, Any]) -> StepCost:
    """Return the cost of training on a batch.

    Args:
        objective: FLOPs are known of InternVL-C's and InternVL-G's objectives, of a chat model, and of a language
            model, whose `model.config` tells the shape; of others tokens alone are counted.
        batch: On the CPU or a device; texts as `input_ids` with `attention_mask` or `labels`.
    """
    if isinstance(objective, GenerativeObjective):
        return generative_cost(objective, batch)
    if isinstance(objective, InternVLChat):
        return chat_cost(objective, batch)
    lengths, width = _lengths(batch)
    if isinstance(objective, ContrastiveObjective):
        return _contrastive_cost(objective, batch["pixel_values"], lengths, width)
    tokens, places = int(lengths.sum()), len(lengths) * width
    config = getattr(getattr(objective, "model", None), "config", None)
    if isinstance(config, TextConfig):
        learns = learning(objective.model.parameters())

        def text(length: int) -> float:
            head = Products(length * config.vocab_size * config.hidden_size)
            return learns.flops(decoder_products(config, length) + head)

        return StepCost(tokens, places, sum(map(text, lengths.tolist())), len(lengths) * text(width))
    return StepCost(tokens, places)


def _contrastive_cost(objective: ContrastiveObjective, images: Tensor, lengths: Tensor, width: int) -> StepCost:
    """Return the cost of both towers; InternVL-G is tuned with both its views of a picture."""
    model, config = objective.model, objective.model.config
    # Where some patches are seen, only their pixels come: (rows, kept, numbers of a patch).
    kept = images.shape[1] if images.ndim == 3 else (images.shape[-1] // config.vision.patch_size) ** 2
    seen = kept + 1
    tower = learning(model.vision_model.parameters())
    pooling = learning(model.clip_projector.parameters(), tower.passed)
    decoder = learning(model.qllama.model.parameters())
    one = tower.flops(vision_products(config.vision, kept))
    one += pooling.flops(pooling_products(config.vision.hidden_size, seen, config.embed_dim))
    if model.generative:
        queries = learning(model.qllama.model.parameters(), below=True)
        looked = decoder_products(config.text, config.num_query_token) + looking_products(config, seen)
        pooled = pooling_products(config.text.hidden_size, config.num_query_token, config.embed_dim)
        one += queries.flops(looked) + learning(model.clip_projector2.parameters(), below=True).flops(pooled)
    projection = learning([model.text_projection], decoder.passed)
    projected = projection.flops(Products(config.text.hidden_size * config.embed_dim))

    def text(length: int) -> float:
        return decoder.flops(decoder_products(config.text, length)) + projected

    tokens, places = int(lengths.sum()), len(lengths) * width
    return StepCost(
        tokens + len(images) * seen,
        places + len(images) * seen,
        len(images) * one + sum(map(text, lengths.tolist())),
        len(images) * one + len(lengths) * text(width),
    )


def _lengths(batch: Mapping[str, Any]) -> tuple[Tensor, int]:
    """Return the tokens of each text without padding, shape (texts,), and with it."""
    for name, found in batch.items():
        if name.endswith("attention_mask") and isinstance(found, Tensor) and found.ndim == 2:
            return found.sum(dim=1).cpu(), found.shape[1]
    for name, absent in (("places", -1), ("labels", -100)):
        found = batch.get(name)
        if isinstance(found, Tensor) and found.ndim == 2:
            # Padding stands at the end: the last place that holds something ends a text.
            there = (found != absent).int()
            last = there.shape[1] - there.flip(1).argmax(dim=1)
            return torch.where(there.any(dim=1), last, 0).cpu(), found.shape[1]
    return torch.zeros(0, dtype=torch.int64), 0
