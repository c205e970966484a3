"""Segmentation: the paper's settings, crops, sliding windows, metrics, and planted scenes that are learned."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from torch import nn
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex
from worlds import COLOURS, FakeSubject, ListedExamples, TaughtExamples, taught, tiny_judge

from models.intern_vit import InternVisionModel
from models.segmentation_heads import upernet_parameters
from stages.evaluation_metrics import Measure
from stages.evaluations import segment_crops, segmentation
from stages.evaluations.base import Outcome
from stages.evaluations.segment_crops import IGNORED, MEAN_COLOUR, short_side, training_crop
from stages.evaluations.segment_measures import areas, class_measures, measures_of, painted
from stages.evaluations.segment_training import chosen_share, groups, masked_loss
from stages.evaluations.segmentation import Settings, run, segmenters
from stages.evaluations.segmenter import Segmenter, predict, raw_patches, slide, windows
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


# Crops


def test_a_crop_and_its_mask_stay_on_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_crops, "_recoloured", lambda pixels, rng: pixels)
    mask = np.zeros((20, 30), np.uint8)
    mask[5:12, 10:] = 1
    picture = Image.fromarray(np.where(mask[..., None] == 1, 200, 50).repeat(3, axis=2).astype(np.uint8))
    seen, outside = set(), 0
    for seed in range(40):
        pixels, classes = training_crop(picture, mask, 16, np.random.default_rng(seed))
        assert pixels.shape == (16, 16, 3) and classes.shape == (16, 16)
        # Pixels at an edge are mixed, all others are of the colour of their class.
        assert ((pixels[..., 0] > 125) == (classes == 1))[classes != IGNORED].mean() > 0.9
        assert (pixels[classes == IGNORED] == MEAN_COLOUR).all()
        outside += int((classes == IGNORED).any())
        seen.add(classes.tobytes())
    assert len(seen) > 30 and 5 < outside < 35


def test_a_crop_that_one_class_fills_is_taken_only_where_there_is_no_other() -> None:
    mask = np.zeros((16, 400), np.uint8)
    mask[:, 190:210] = 1
    places = [segment_crops._place(mask, 16, np.random.default_rng(seed))[1] for seed in range(200)]
    both = np.mean([len(np.unique(mask[:, place])) == 2 for place in places])
    assert 0.3 < both < 0.8  # 26 of 385 places show both as equals enough; ten tries find one of them half the time
    alone = segment_crops._place(np.zeros((16, 40), np.uint8), 16, np.random.default_rng(0))
    assert alone[1].stop - alone[1].start == 16


def test_colours_move_and_stay_colours() -> None:
    pixels = np.full((4, 4, 3), (200, 40, 90), np.uint8)
    found = [segment_crops._recoloured(pixels, np.random.default_rng(seed)) for seed in range(60)]
    assert all(each.shape == pixels.shape and each.dtype == np.uint8 for each in found)
    assert any((each == pixels).all() for each in found)  # none of the four moved: one in sixteen
    assert len({each.tobytes() for each in found}) > 40


# Windows


@pytest.mark.parametrize(
    ("length", "starts"), [(8, [0]), (9, [0, 1]), (13, [0, 5]), (14, [0, 5, 6]), (20, [0, 5, 10, 12])]
)
def test_windows_cover_everything_and_end_with_the_picture(length: int, starts: list[int]) -> None:
    assert [each.start for each in windows(length, 8, 5)] == starts
    assert all(each.stop - each.start == 8 for each in windows(length, 8, 5))


class Shade(nn.Module):
    """A head that gives each patch its mean and its negative."""

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        mean = maps[0].mean(dim=1, keepdim=True)
        return torch.cat([mean, -mean], dim=1)


def test_windows_of_what_looks_at_single_pixels_join_without_a_seam() -> None:
    segmenter = Segmenter(raw_patches(1), Shade())
    pixels = torch.randn(1, 3, 20, 13)
    found = slide(segmenter, pixels, 8, 5)
    torch.testing.assert_close(found, segmenter.logits(pixels))
    assert found.shape == (1, 2, 20, 13)


def test_where_windows_overlap_they_are_averaged() -> None:
    class Count(nn.Module):
        calls = 0

        def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
            self.calls += 1
            return torch.full((1, 1, *maps[0].shape[-2:]), float(self.calls))

    found = slide(Segmenter(raw_patches(1), Count()), torch.zeros(1, 3, 8, 13), 8, 5)[0, 0, 0]
    assert found.tolist() == [1.0] * 5 + [1.5] * 3 + [2.0] * 5


@pytest.mark.parametrize("size", [(30, 20), (20, 30), (8, 8), (5, 40)])
def test_predictions_have_the_size_of_the_picture(size: tuple[int, int]) -> None:
    picture = Image.new("RGB", size, (255, 255, 255))
    picture.paste((0, 0, 0), (0, 0, size[0] // 2, size[1]))
    found = predict(Segmenter(raw_patches(4), Shade()), picture, 16, 8, torch.device("cpu"))
    assert found.shape == (size[1], size[0])
    assert found[:, : size[0] // 4].all() and not found[:, -(size[0] // 4) :].any()
    assert short_side(*size, 16) == (
        max(16, round(16 * size[0] / min(size))),
        max(16, round(16 * size[1] / min(size))),
    )


# Metrics


def test_measures_equal_those_of_torchmetrics() -> None:
    rng = np.random.default_rng(0)
    masks = [rng.integers(0, 6, (13, 17)).astype(np.uint8) for _ in range(7)]
    guesses = [np.where(rng.random(mask.shape) < 0.5, mask, rng.integers(0, 6, mask.shape)) for mask in masks]
    for mask in masks:
        mask[:2] = IGNORED
    tables = np.stack([areas(guess.astype(np.uint8), mask, 6) for guess, mask in zip(guesses, masks, strict=True)])
    guessed, right = torch.from_numpy(np.stack(guesses)), torch.from_numpy(np.stack(masks)).long()
    jaccard = MulticlassJaccardIndex(6, average="none", ignore_index=IGNORED).set_dtype(torch.float64)
    correct = MulticlassAccuracy(6, average="micro", ignore_index=IGNORED)
    each = jaccard(guessed, right)
    miou, accuracy = measures_of("set", "encoder", tables)
    assert miou.value == pytest.approx(float(each.mean()), abs=1e-7)
    assert accuracy.value == pytest.approx(float(correct(guessed, right)), abs=1e-7)
    assert [row.value for row in class_measures("set", list("abcdef"), tables)] == pytest.approx(
        each.tolist(), abs=1e-7
    )
    assert miou.low < miou.value < miou.high and accuracy.low < accuracy.value < accuracy.high


def test_measures_equal_a_case_counted_by_hand() -> None:
    mask = np.array([[0, 0, 1, 1], [0, 0, 1, IGNORED]], np.uint8)
    guess = np.array([[0, 1, 1, 1], [0, 0, 0, 2]], np.uint8)
    table = areas(guess, mask, 4)
    assert table.tolist() == [[3, 1, 0, 0], [1, 2, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    miou, accuracy = measures_of("set", "encoder", table[None])
    # Classes 2 and 3 are neither there nor predicted where something counts.
    assert miou.value == pytest.approx((3 / 5 + 2 / 4) / 2, abs=1e-12)
    assert accuracy.value == pytest.approx(5 / 7, abs=1e-12)
    assert miou.chance == pytest.approx(4 / 7 / 2) and accuracy.chance == pytest.approx(4 / 7)
    assert [row.name for row in class_measures("set", list("abcd"), table[None])] == ["iou_a", "iou_b"]


def test_the_loss_is_the_mean_over_labelled_pixels() -> None:
    logits = torch.zeros(1, 4, 2, 2, requires_grad=True)
    mask = torch.tensor([[[1, IGNORED], [IGNORED, IGNORED]]])
    assert masked_loss(logits, mask).item() == pytest.approx(np.log(4))
    nothing = masked_loss(logits, torch.full_like(mask, IGNORED))
    nothing.backward()
    assert nothing.item() == 0 and not logits.grad.any()


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
    assert asked.said[10][2].startswith("iterations, about ") and asked.said[-1] == (5, 5, "pictures")
    # mIoU can be made again of its parts.
    parts = {name: np.sum(values) for name, values in outcome.scores.items()}
    again = np.mean([parts[f"intersection_{name}"] / parts[f"union_{name}"] for name in NAMES])
    assert again == pytest.approx(found["miou"].value, abs=1e-12)
    assert parts["pixels_right"] / parts["pixels"] == pytest.approx(found["pixel_accuracy"].value, abs=1e-12)


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


def test_what_counts_nowhere_is_grey() -> None:
    mask = np.array([[0, 1, 2, IGNORED]], np.uint8)
    colours = np.asarray(painted(Image.new("RGB", (4, 1)), mask))[0]
    assert len({tuple(each) for each in colours.tolist()}) == 4 and colours[3].tolist() == [64, 64, 64]


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
