"""What a recipe's training would cost, from its parameters alone: nothing is read, nothing is built in memory.

Matrix products that the gradient needs are counted (`models.step_work`, as meters do): what activation checkpointing
and GradCache compute a second time comes on top, and texts are counted at their full length, which unpadded ones
stay below.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from models.composition import ChatPart, Language, Size
from models.config import InternVLConfig, TextConfig
from models.cost import connector_macs
from models.counting import STAGE_2, count, parts, shapes
from models.step_work import (
    FROZEN,
    LEARNS,
    PASSED,
    Products,
    decoder_products,
    head_products,
    looking_products,
    pooling_products,
    vision_products,
)
from pipelines.graph import ALIGN, INSTRUCT, Step
from stages import contrastive, generative, instruct, language
from stages.contrastive_parameters import config_of
from stages.instruct_parameters import Tower
from stages.training.schedule import Schedule

PEAK_TFLOPS = {"A100": 312.0, "H100": 989.0}
"""Dense products in bfloat16 per second, in 10^12, of the data sheets."""
UTILISATION = 0.4
"""Ours, of that: published trainings of this size reach between a third and a half."""
HEAD = ("training", "parameters", "trained", "samples", "FLOPs", *(f"{card} hours" for card in PEAK_TFLOPS))
"""What a table says of a training, column by column; `Training.cells` gives the rows."""
TOWERS: tuple[Tower, ...] = ("vision", "language")
Priced = tuple[int, int, Schedule | None, float]
"""Parameters, those that learn, the schedule, and FLOPs of all steps."""


@dataclass(frozen=True)
class Training:
    """What one training stage costs."""

    stage: str
    parameters: int
    trained: int
    samples: int
    flops: float
    gpus: int
    """As its placement says; 0 trains on CPUs."""
    flops_as_released: float = 0.0
    """What the released code's order of passes comes to, where it is another than ours."""

    def gpu_hours(self, card: str) -> float:
        """Return the hours of one GPU of this kind."""
        return self.flops / (PEAK_TFLOPS[card] * 1e12 * UTILISATION) / 3600

    def cells(self) -> tuple[str, ...]:
        """Return what a table says of it, under `HEAD`."""
        hours = [f"{self.gpu_hours(card):,.0f}" if self.gpus and self.flops else "–" for card in PEAK_TFLOPS]
        numbers = (self.parameters, self.trained, self.samples)
        return (self.stage, *(f"{number:,}" for number in numbers), f"{self.flops:.2e}", *hours)

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        hours = {card: round(self.gpu_hours(card), 1) for card in PEAK_TFLOPS} if self.gpus else {}
        return {**asdict(self), "gpu_hours": hours}


def training_prices(steps: Sequence[Step]) -> list[Training]:
    """Return what the training stages among some steps cost, in their order.

    Raises:
        ManifestError: Sizes of a stage do not fit together.
    """
    # A chat model is trained twice where it is aligned first; what else there is, once.
    given = {step.artifact if step.spec.stage == "instruct" else step.spec.stage: step.spec for step in steps}
    if "language" not in given:
        return []
    spoken = language.Parameters.model_validate(given["language"].parameters)
    seen = contrastive.Parameters.model_validate(given["contrastive"].parameters)
    text = spoken.pretrained_shape or text_of(spoken)
    towers = config_of(seen, text)
    asked = generative.Parameters.model_validate(given["generative"].parameters)
    made: dict[str, Callable[[], Priced]] = {
        "language": lambda: _language(spoken, text),
        "contrastive": lambda: _contrastive(seen, towers),
        "generative": lambda: _generative(asked, towers),
    }
    for name in (ALIGN, INSTRUCT):
        if name in given:
            talked = instruct.Parameters.model_validate(given[name].parameters)
            made[name] = partial(_instruct, talked, generative.config_of(asked, towers))
    found = []
    for name, price in made.items():
        parameters, trained, schedule, flops = price()
        samples = schedule.steps * schedule.global_batch_size if schedule else 0
        placement = given[name].placement
        gpus = placement.get("workers", 1) * placement.get("gpus_per_worker", 0)
        stage = name.removeprefix("checkpoints/")
        released = samples * four_passes(asked, towers) if stage == "generative" else 0.0
        found.append(Training(stage, parameters, trained, samples, flops, gpus, released))
    return found


def text_of(parameters: language.Parameters) -> TextConfig:
    """Return the shape of the decoder that the language stage trains, its tokenizer as large as it may be."""
    return TextConfig(
        vocab_size=parameters.vocab_size,
        hidden_size=parameters.hidden_size,
        intermediate_size=parameters.intermediate_size,
        num_hidden_layers=parameters.num_hidden_layers,
        num_attention_heads=parameters.num_attention_heads,
    )


def _language(given: language.Parameters, text: TextConfig) -> Priced:
    whole = count(shapes(Size(name="language", kind="language", language=Language(source="", shape=text))))
    if given.pretrained is not None:
        return whole, 0, None, 0.0
    samples = given.schedule.steps * given.schedule.global_batch_size
    one = decoder_products(text, given.context_length) + head_products(text, given.context_length)
    return whole, whole, given.schedule, samples * LEARNS.flops(one)


def _contrastive(given: contrastive.Parameters, towers: InternVLConfig) -> Priced:
    """InternVL-C without the head of its language model, which it carries along and never uses."""
    counted = shapes(Size(name="contrastive", kind="contrastive", vision=towers.vision, towers=towers))
    whole, by_part = count(counted), parts(counted)
    frozen = not given.text_learning_rate_scale
    still = sum(number for part, number in by_part.items() if part.startswith("text tower")) if frozen else 0
    text = (FROZEN if frozen else LEARNS).flops(decoder_products(towers.text, towers.context_length))
    text += LEARNS.flops(Products(towers.text.hidden_size * towers.embed_dim))
    views, flops = given.views(), 0.0
    for view, steps in ((views.early, views.step), (views.late, given.schedule.steps - views.step)):
        picture = vision_products(towers.vision, view.kept)
        picture += pooling_products(towers.vision.hidden_size, view.kept + 1, towers.embed_dim)
        flops += steps * given.schedule.global_batch_size * (LEARNS.flops(picture) + text)
    return whole, whole - still, given.schedule, flops


def _generative(given: generative.Parameters, found: InternVLConfig) -> Priced:
    """InternVL-G in the form that shares passes: queries once for contrast and captions, each pair once.

    Pictures are projected for the queries' look once, and pairs look at what was projected.
    """
    towers = generative.config_of(given, found)
    counted = shapes(Size(name="generative", kind="generative", vision=towers.vision, towers=towers))
    trained = sum(parts(counted)[part] for part in STAGE_2)
    text, queries, tokens = towers.text, towers.num_query_token, towers.context_length
    seen, pairs = towers.vision.grid**2 + 1, 1 + given.paired + given.image_negatives
    passed = decoder_products(text, queries) + decoder_products(text, tokens, past=queries)
    passed += head_products(text, tokens) + decoder_products(text, queries + tokens).times(pairs)
    learned = looking_products(towers, seen) + looking_products(towers, seen, shown=True).times(pairs)
    learned += pooling_products(text.hidden_size, queries, towers.embed_dim)
    samples = given.schedule.steps * given.schedule.global_batch_size
    one = _towers(towers) + PASSED.flops(passed) + LEARNS.flops(learned)
    return count(counted), trained, given.schedule, samples * one


def _towers(towers: InternVLConfig) -> float:
    """Return the FLOPs of what both frozen towers say of a pair."""
    seen = towers.vision.grid**2 + 1
    once = vision_products(towers.vision, towers.vision.grid**2)
    once += pooling_products(towers.vision.hidden_size, seen, towers.embed_dim)
    once += decoder_products(towers.text, towers.context_length)
    return FROZEN.flops(once + Products(towers.text.hidden_size * towers.embed_dim))


def four_passes(given: generative.Parameters, found: InternVLConfig) -> float:
    """Return the FLOPs of one pair as the released code orders its passes.

    Queries and text go through QLLaMA together, once for contrast, twice for matching and once for captions, and each
    pass looks at the picture anew. In the pass for contrast neither sees the other, and of its text nothing
    learns: no gradient goes through it.
    """
    towers = generative.config_of(given, found)
    text, queries, tokens = towers.text, towers.num_query_token, towers.context_length
    passed = decoder_products(text, queries) + decoder_products(text, queries + tokens).times(3)
    passed += head_products(text, tokens)
    learned = looking_products(towers, towers.vision.grid**2 + 1).times(4)
    learned += pooling_products(text.hidden_size, queries, towers.embed_dim)
    return _towers(towers) + PASSED.flops(passed) + LEARNS.flops(learned)


def _instruct(given: instruct.Parameters, towers: InternVLConfig) -> Priced:
    """The chat model, its conversations as long as they may be and its pictures in as many tiles.

    Adapters are no more than a hundredth of it and are not counted; with them a tower still passes its gradient on.
    """
    layers = min(given.most_layers or towers.vision.num_hidden_layers, towers.vision.num_hidden_layers)
    shown = {"image_size": given.image_size or towers.vision.image_size, "num_hidden_layers": layers}
    vision = towers.vision.model_copy(update=shown)
    fields = given.model_dump(include=set(ChatPart.model_fields))
    spoken = Language(source="", layout="qwen2" if towers.text.qkv_bias else "llama", shape=towers.text)
    queries = towers if given.connector == "two_mlp" else None
    size = Size(name="instruct", kind="chat", vision=vision, towers=queries, language=spoken, chat=ChatPart(**fields))
    by_part = parts(shapes(size))
    whole = {tower for tower in TOWERS if given.trains(tower) and not given.rank(tower)}
    learns = {"vision": "vision" in whole, "language": "language" in whole, "connector": given.train_connector}
    trained = sum(number for name, number in by_part.items() if learns.get(name.partition(":")[0], False))
    tiles = given.max_dynamic_patch + (given.max_dynamic_patch > 1 and given.use_thumbnail)
    work = {tower: LEARNS if tower in whole else PASSED if given.rank(tower) else FROZEN for tower in TOWERS}
    # The connector is below the decoder: its gradient goes through.
    spoken_work = LEARNS if work["language"] is LEARNS else PASSED
    flops = tiles * work["vision"].flops(vision_products(vision, vision.grid**2))
    flops += LEARNS.flops(Products(tiles * connector_macs(size)))
    if queries is not None:
        looked = decoder_products(queries.text, queries.num_query_token)
        looked += looking_products(queries, vision.grid**2 + 1)
        flops += tiles * (FROZEN if work["vision"] is FROZEN else PASSED).flops(looked)
    # At its longest a conversation is its tiles, and text that is learned.
    learned = max(1, given.context_length - tiles * size.image_tokens)
    flops += spoken_work.flops(
        decoder_products(towers.text, given.context_length) + head_products(towers.text, learned)
    )
    samples = given.schedule.steps * given.schedule.global_batch_size
    return sum(by_part.values()), trained, given.schedule, samples * flops
