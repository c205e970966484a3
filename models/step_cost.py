"""What a training step costs, and how much of it is padding: from the shapes of a batch, by `models.cost`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.config import InternVLConfig, TextConfig
from models.cost import decoder_macs, pooling_macs, vision_macs

FLOPS_PER_MAC, PASSES = 2, 3
"""A multiply-accumulate is two; a step is three forward passes (what is computed again is not counted)."""


@dataclass(frozen=True)
class StepCost:
    """Of one batch; added up over micro batches."""

    tokens: int = 0
    """Text tokens that are no padding, and vision tokens that are seen."""
    places: int = 0
    """The same with padding."""
    useful: float = 0.0
    """FLOPs for what is no padding; 0 where the objective's shape is not known."""
    computed: float = 0.0
    """The same with padding."""

    def __add__(self, other: "StepCost") -> "StepCost":
        """Return both together."""
        return StepCost(
            self.tokens + other.tokens,
            self.places + other.places,
            self.useful + other.useful,
            self.computed + other.computed,
        )

    def times(self, steps: int) -> "StepCost":
        """Return that of so many steps like this one."""
        return StepCost(self.tokens * steps, self.places * steps, self.useful * steps, self.computed * steps)


def step_cost(objective: Any, batch: Mapping[str, Any]) -> StepCost:
    """Return the cost of training on a batch.

    Args:
        objective: FLOPs are known of InternVL-C's objective and of a language model's, whose `model.config` tells
            the shape; of others tokens alone are counted.
        batch: On the CPU or a device; texts as `input_ids` with `attention_mask` or `labels`.
    """
    config = getattr(getattr(objective, "model", None), "config", None)
    lengths, width = _lengths(batch)
    tokens, places = int(lengths.sum()), len(lengths) * width
    images = batch.get("pixel_values")
    if isinstance(config, InternVLConfig) and not _is_generative(objective) and isinstance(images, Tensor):
        # Where some patches are seen, only their pixels come: (rows, kept, numbers of a patch).
        kept = images.shape[1] if images.ndim == 3 else (images.shape[-1] // config.vision.patch_size) ** 2
        seen = kept + 1
        one = vision_macs(config.vision, kept=kept) + pooling_macs(config.vision.hidden_size, seen, config.embed_dim)
        pictures = len(images) * one
        text = config.text
        useful = pictures + sum(decoder_macs(text, int(length)) for length in lengths)
        computed = pictures + len(lengths) * decoder_macs(text, width)
        return _cost(tokens + len(images) * seen, places + len(images) * seen, useful, computed)
    if isinstance(config, TextConfig) and images is None:
        useful = sum(decoder_macs(config, int(length), head=True) for length in lengths)
        return _cost(tokens, places, useful, len(lengths) * decoder_macs(config, width, head=True))
    return StepCost(tokens, places)


def _cost(tokens: int, places: int, useful: int, computed: int) -> StepCost:
    return StepCost(tokens, places, float(PASSES * FLOPS_PER_MAC * useful), float(PASSES * FLOPS_PER_MAC * computed))


def _is_generative(objective: Any) -> bool:
    return bool(getattr(objective.model, "generative", False))


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
