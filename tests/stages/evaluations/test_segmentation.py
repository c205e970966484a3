"""Segmentation: the paper's settings, crops, sliding windows, metrics, and planted scenes that are learned."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from worlds import COLOURS, FakeSubject, ListedExamples, TaughtExamples, taught, tiny_judge

from models.intern_vit import InternVisionModel
from models.segmentation_heads import upernet_parameters
from stages.evaluation_metrics import Measure
from stages.evaluations import segmentation
from stages.evaluations.base import Outcome
from stages.evaluations.segment_crops import IGNORED
from stages.evaluations.segment_training import chosen_share, groups
from stages.evaluations.segmentation import Settings, run, segmenters
from stages.manifest import ManifestError

SMALL: dict[str, Any] = {
    "crop_size": 16, "batch_size": 4, "iterations": 25, "learning_rate": 0.03, "channels": 6, "baselines": False,
}  # fmt: skip
NAMES = tuple(COLOURS)


def scenes(count: int, seed: int) -> ListedExamples:
    """Pictures whose two halves are of two colours, and an unlabelled stripe between them."""
    rng = np.random.default_rng(seed)
    shown, masks = [], []
    for _ in range(count):
        left, right = rng.choice(len(NAMES), 2, replace=False)
        mask = np.full((24, 32), left, np.uint8)
        mask[:, 16:] = right
        pixels = np.array([COLOURS[name] for name in NAMES])[mask] + rng.integers(-15, 16, (24, 32, 3))
        mask[:, 15:17] = IGNORED
        shown.append([Image.fromarray(pixels.clip(0, 255).astype(np.uint8))])
        masks.append(mask)
    return ListedExamples(shown, classes=NAMES, masks=masks, names=[f"scene {seed} {each}" for each in range(count)])


def halves() -> TaughtExamples:
    return taught(scenes(5, 1), scenes(9, 2))


def subject() -> FakeSubject:
    return FakeSubject(tiny_judge())


def by_name(outcome: Outcome) -> dict[str, Measure]:
    return {each.name: each for each in outcome.measures}


# The paper's settings


@pytest.mark.parametrize(
    ("given", "iterations", "warmup", "decay", "layer_decay", "blocks"),
    [
        ({}, 80_000, 1500, 0.0, 1.0, [45]),
        ({"mode": "head"}, 80_000, 1500, 0.05, 1.0, [12, 24, 36, 48]),
        ({"mode": "full"}, 80_000, 1500, 0.05, 0.95, [12, 24, 36, 48]),
        ({"mode": "few_shot", "train_share": 1 / 16}, 5_000, 100, 0.05, 0.95, [48]),
        ({"mode": "few_shot", "train_share": 1 / 2}, 40_000, 800, 0.05, 0.95, [48]),
        ({"mode": "few_shot"}, 80_000, 1500, 0.05, 0.95, [48]),
    ],
)
def test_settings_left_out_are_the_papers(
    given: dict[str, Any], iterations: int, warmup: int, decay: float, layer_decay: float, blocks: list[int]
) -> None:
    settings = Settings(**given)
    plan = settings.plan()
    assert (plan.iterations, plan.warmup, plan.weight_decay, plan.layer_decay) == (
        iterations, warmup, decay, layer_decay,
    )  # fmt: skip
    assert settings.blocks(48) == blocks and settings.resolved_stride == 322
    assert (plan.crop_size, plan.batch_size, plan.learning_rate) == (504, 16, 4e-5)


def test_the_rate_rises_and_falls_in_straight_lines() -> None:
    plan = Settings(iterations=100, warmup=10).plan()
    factors = [plan.factor(each) for each in range(100)]
    assert np.argmax(factors) == 10 and factors[10] == 1 and factors[0] == pytest.approx(1 / 11)
    assert factors[55] == pytest.approx(0.5) and factors[99] == pytest.approx(1 / 90)


def test_lower_blocks_learn_more_slowly_and_vectors_do_not_decay() -> None:
    plan = replace(Settings(mode="full").plan(), layer_decay=0.5)
    made = segmenters(subject(), Settings(mode="few_shot", **SMALL), 4)["encoder"]
    found = {(each["scale"], each["weight_decay"]): len(each["params"]) for each in groups(made, plan)}
    # One block: embeddings two layers below the head, the block one, each with and without decay where it has such.
    assert set(found) == {(0.25, 0.05), (0.25, 0.0), (0.5, 0.05), (0.5, 0.0), (1.0, 0.05), (1.0, 0.0)}
    assert sum(found.values()) == len(list(made.head.parameters())) + len(list(made.encoder.parameters()))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"crop_size": 64, "stride": 65}, "stride 65 leaves pixels out between windows of 64"),
        ({"iterations": 10, "warmup": 10}, "warmup 10 must be shorter than 10 iterations"),
        ({"batch_size": 1}, "greater than or equal to 2"),
    ],
)
def test_settings_that_cannot_be_are_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Settings(**given)


# Whole runs


def test_halves_are_learned_and_beside_them_stand_pixels_and_a_random_encoder() -> None:
    asked, examples = subject(), halves()
    before = {name: weight.clone() for name, weight in asked.vision.state_dict().items()}
    outcome = run(asked, examples, Settings(**SMALL | {"baselines": True, "stride": 8}), "halves")
    found = by_name(outcome)
    assert outcome.measures[0].name == "miou" and found["raw_pixels_miou"].value > 0.85
    assert found["miou"].value > 3 * found["miou"].chance and "random_encoder_pixel_accuracy" in found
    assert all(torch.equal(weight, before[name]) for name, weight in asked.vision.state_dict().items())
    assert outcome.confusion.sum() == 5 * 24 * 30 and outcome.classes == list(NAMES)
    assert len(outcome.examples) == 10 and outcome.facts["blocks"] == [1] and not asked.vision.training
    assert asked.said[10][2] == "iterations" and asked.said[-1] == (5, 5, "pictures")
    # mIoU can be made again of its parts.
    parts = {name: np.sum(values) for name, values in outcome.scores.items()}
    again = np.mean([parts[f"intersection_{name}"] / parts[f"union_{name}"] for name in NAMES])
    assert again == pytest.approx(found["miou"].value, abs=1e-12)
    assert parts["pixels_right"] / parts["pixels"] == pytest.approx(found["pixel_accuracy"].value, abs=1e-12)
    for name, pairs in outcome.ratios.items():
        assert np.mean([parts[part] / parts[whole] for part, whole in pairs]) == pytest.approx(found[name].value)


@pytest.mark.parametrize("mode", ["head", "full", "few_shot"])
def test_every_mode_learns_what_it_should_and_leaves_the_model_as_it_was(mode: str) -> None:
    asked = subject()
    before = {name: weight.clone() for name, weight in asked.vision.state_dict().items()}
    outcome = run(asked, halves(), Settings(mode=mode, **SMALL), "halves")
    assert [name for name in by_name(outcome) if "iou_" not in name] == ["miou", "pixel_accuracy"]
    assert by_name(outcome)["miou"].value > 2 * by_name(outcome)["miou"].chance
    assert all(torch.equal(weight, before[name]) for name, weight in asked.vision.state_dict().items())
    own = sum(weight.numel() for weight in asked.vision.parameters())
    head = 2 * 16 + 16 * 4 + 4 if mode == "few_shot" else upernet_parameters(16, 4, 6)
    assert outcome.facts["parameters_trained"] == head + (0 if mode == "head" else own)


def test_fine_tuning_drops_blocks_and_moves_the_encoder() -> None:
    made = segmenters(subject(), Settings(mode="full", **SMALL), 4)["encoder"]
    assert isinstance(made.encoder, InternVisionModel) and made.encoder.config.drop_path_rate == 0.4
    made.train(True)
    made.logits(torch.randn(2, 3, 16, 16), torch.tensor([1, 2])).sum().backward()
    assert all(weight.grad is not None for weight in made.encoder.parameters())


def test_an_encoder_that_does_not_fit_is_not_fine_tuned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmentation, "free_bytes", lambda device: 50_000)
    with pytest.raises(ManifestError, match=r"takes 8\d\.\d kB .* the GPU has 50\.0 kB left; .* mode `head`"):
        run(subject(), halves(), Settings(mode="full", **SMALL), "halves")
    assert run(subject(), halves(), Settings(mode="head", **SMALL | {"iterations": 1}), "halves").measures


def test_the_same_seed_gives_the_same_masks() -> None:
    first, second, other = (
        run(subject(), halves(), Settings(mode="head", **SMALL | {"seed": seed}), "halves") for seed in (0, 0, 1)
    )
    assert first.scores == second.scores and first.scores != other.scores


def test_a_share_of_the_training_data_is_the_same_wherever_it_lies() -> None:
    many = ListedExamples([[]] * 400, names=[f"picture {number}" for number in range(400)])
    few, more = chosen_share(many, 0.25), chosen_share(many, 0.5)
    assert 70 < len(few) < 130 and set(few) < set(more) and len(chosen_share(many, 1)) == 400
    turned = ListedExamples([[]] * 400, names=list(many.names)[::-1])
    assert {turned.key(number) for number in chosen_share(turned, 0.25)} == {many.key(number) for number in few}


def test_classes_without_names_are_numbered() -> None:
    examples = halves()
    unnamed = replace(examples, classes=(), learned_from=replace(examples.learned_from, classes=()))
    outcome = run(subject(), unnamed, Settings(**SMALL | {"iterations": 2}), "halves")
    assert outcome.classes == ["class 0", "class 1", "class 2", "class 3"]


# What does not fit


def odd_mask(examples: TaughtExamples) -> TaughtExamples:
    return replace(examples, masks=[mask[:-1] for mask in examples.masks])


def strange_class(examples: TaughtExamples) -> TaughtExamples:
    masks = [mask.copy() for mask in examples.masks]
    masks[3][0, 0] = 9
    return replace(examples, masks=masks)


def other_classes(examples: TaughtExamples) -> TaughtExamples:
    return replace(examples, classes=("red", "green"))


def nothing_counts(examples: TaughtExamples) -> TaughtExamples:
    return replace(examples, masks=[np.full_like(mask, IGNORED) for mask in examples.masks])


def untaught(examples: TaughtExamples) -> ListedExamples:
    return scenes(2, 3)


def same(examples: TaughtExamples) -> TaughtExamples:
    return examples


@pytest.mark.parametrize(
    ("spoil", "given", "says"),
    [
        (odd_mask, {}, "scene 1 0: its mask has 32 x 23 pixels and its picture 32 x 24"),
        (strange_class, {}, "scene 1 3: its mask has the class 9, and classes go from 0 to 3"),
        (other_classes, {}, "halves has 2 classes and its training split 4"),
        (nothing_counts, {}, "no pixel of halves has a class"),
        (untaught, {}, "no training split"),
        (same, {"crop_size": 20}, "crop_size 20 does not divide into patches of 8; take 16"),
        (same, {"block": 2}, "block 2 is not there: the encoder has 1"),
        (same, {"train_share": 0.01}, "leaves 0 of 9 training pictures"),
        (same, {"learning_rate": 1e30}, "diverged in iteration"),
    ],
)
def test_what_does_not_fit_is_refused(
    spoil: Callable[[TaughtExamples], ListedExamples], given: dict[str, Any], says: str
) -> None:
    with pytest.raises(ManifestError, match=says):
        run(subject(), spoil(halves()), Settings(**SMALL | {"iterations": 3} | given), "halves")
