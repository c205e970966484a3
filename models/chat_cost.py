"""What a step of chat training costs: tiles through the encoder and the connector, samples through the decoder."""

from collections.abc import Mapping
from itertools import chain, groupby
from typing import Any

from torch import Tensor, nn

from models.chat import IGNORE, InternVLChat
from models.packing import learned_places
from models.step_work import Products, StepCost, decoder_products, learning, vision_products


def chat_cost(model: InternVLChat, batch: Mapping[str, Any]) -> StepCost:
    """Return the cost of training on a batch as `InternVLChat` takes it; tokens are those of the language model.

    Useful are the tokens of samples, the encoder's layers up to the one that is shown, and tiles that stand for a
    picture; the head works on learned places alone. Of LoRA's adapters the weights count as learned, and the
    products with them, a hundredth, do not.
    """
    ids, index = batch["input_ids"], batch.get("sample_index")
    learned = int(learned_places(batch["labels"], index, IGNORE).sum())
    useful, computed, language_below = _tiles(model, batch)
    language = learning(model.language_model.parameters(), language_below)
    config = model.config.text
    head = language.flops(Products(learned * config.vocab_size * config.hidden_size))

    def decoder(lengths: list[int]) -> float:
        return sum(language.flops(decoder_products(config, length)) for length in lengths)

    samples, spans = _spans(batch["labels"], index)
    return StepCost(sum(samples), ids.numel(), useful + decoder(samples) + head, computed + decoder(spans) + head)


def _tiles(model: InternVLChat, batch: Mapping[str, Any]) -> tuple[float, float, bool]:
    """Return the FLOPs of tiles, useful and computed, and whether what the decoder is fed learns."""
    pixels, flags = batch.get("pixel_values"), batch.get("image_flags")
    if pixels is None:
        return 0.0, 0.0, False
    vision, layers = model.config.vision, model.vision_model.encoder.layers
    shown = range(len(layers) + 1)[model.config.select_layer]
    patches = (pixels.shape[-1] // vision.patch_size) ** 2
    parts: list[nn.Module] = [model.vision_model.embeddings, *layers[:shown]]
    tower = learning(chain.from_iterable(part.parameters() for part in parts))
    connector = learning(model.mlp1.parameters(), tower.passed)
    cell, width = model.config.cell, model.config.text.hidden_size
    joined = Products(patches // cell**2 * (vision.hidden_size * cell**2 * width + width**2))
    seen = vision.model_copy(update={"num_hidden_layers": shown})
    whole = vision_products(vision, patches) + vision_products(seen, patches).times(-1)  # nothing learns from these
    one = tower.flops(vision_products(seen, patches)) + connector.flops(joined)
    above = 2 * (whole.weights + whole.tokens)
    pictures = len(pixels) if flags is None else int(flags.sum())
    return pictures * one, len(pixels) * (one + above), connector.passed


def _spans(labels: Tensor, index: Tensor | None) -> tuple[list[int], list[int]]:
    """Return the lengths of samples, and of all that attention is computed over, padding among it."""
    if index is None:
        there = (labels != IGNORE).flip(1)
        ends = (there.shape[1] - there.int().argmax(dim=1)) * there.any(dim=1)
        return ends.tolist(), [labels.shape[1]] * len(labels)
    runs = [(number, len(list(run))) for row in index.tolist() for number, run in groupby(row)]
    return [length for number, length in runs if number >= 0], [length for _, length in runs]
