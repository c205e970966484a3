"""What a step of chat training costs: tiles through the encoder and the connector, samples through the decoder."""

from collections.abc import Mapping
from itertools import chain, groupby
from typing import Any

from torch import Tensor, nn

from models.chat import IGNORE, InternVLChat
from models.packing import learned_places
from models.step_work import Products, StepCost, decoder_products, learning, looking_products, vision_products


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
    # QLLaMA's queries look at what the whole encoder gives.
    shown = len(layers) if model.config.towers else range(len(layers) + 1)[model.config.select_layer]
    patches = (pixels.shape[-1] // vision.patch_size) ** 2
    parts: list[nn.Module] = [model.vision_model.embeddings, *layers[:shown]]
    tower = learning(chain.from_iterable(part.parameters() for part in parts))
    seen = vision.model_copy(update={"num_hidden_layers": shown})
    whole = vision_products(vision, patches) + vision_products(seen, patches).times(-1)  # nothing learns from these
    connected, passed = _connector(model, patches, tower.passed)
    one = tower.flops(vision_products(seen, patches)) + connected
    above = 2 * (whole.weights + whole.tokens)
    pictures = len(pixels) if flags is None else int(flags.sum())
    return pictures * one, len(pixels) * (one + above), passed


def _connector(model: InternVLChat, patches: int, below: bool) -> tuple[float, bool]:
    """Return the FLOPs of one tile behind the encoder, and whether gradients come there.

    Args:
        model: With a connector of any kind.
        patches: Of a tile.
        below: Whether the encoder learns.
    """
    config, towers = model.config, model.config.towers
    seen, width = config.vision.hidden_size * config.cell**2, config.text.hidden_size
    cost, passed = 0.0, below
    for name, part in model.connector_parts().items():
        places, wide = patches // config.cell**2, seen
        if name == "mlp2" and towers is not None:
            places, wide = towers.num_query_token, towers.text.hidden_size
        learns = learning(part.parameters(), below)
        cost += learns.flops(Products(places * (wide * width + width**2)))
        passed = passed or learns.passed
    if towers is not None:
        looked = decoder_products(towers.text, towers.num_query_token) + looking_products(towers, patches + 1)
        cost += learning(model.qllama.model.parameters(), below).flops(looked)
    return cost, passed


def _spans(labels: Tensor, index: Tensor | None) -> tuple[list[int], list[int]]:
    """Return the lengths of samples, and of all that attention is computed over, padding among it."""
    if index is None:
        there = (labels != IGNORE).flip(1)
        ends = (there.shape[1] - there.int().argmax(dim=1)) * there.any(dim=1)
        return ends.tolist(), [labels.shape[1]] * len(labels)
    runs = [(number, len(list(run))) for row in index.tolist() for number, run in groupby(row)]
    return [length for number, length in runs if number >= 0], [length for _, length in runs]
