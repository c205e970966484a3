"""mIoU and pixel accuracy: against torchmetrics and by hand, the loss they are trained by, and masks as pictures."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from stages.evaluations.segment_crops import IGNORED
from stages.evaluations.segment_measures import areas, class_measures, measures_of, painted
from stages.evaluations.segment_training import masked_loss


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
    single = jaccard(guessed, right)
    miou, accuracy = measures_of("set", "encoder", tables)
    assert miou.value == pytest.approx(float(single.mean()), abs=1e-7)
    there = np.stack(masks) != IGNORED
    ious = [
        ((guessed.numpy() == each) & (right.numpy() == each)).sum()
        / (((guessed.numpy() == each) | (right.numpy() == each)) & there).sum()
        for each in range(6)
    ]
    assert miou.value == pytest.approx(np.mean(ious), abs=1e-12)
    assert accuracy.value == pytest.approx(float(correct(guessed, right)), abs=1e-7)
    assert [row.value for row in class_measures("set", list("abcdef"), tables)] == pytest.approx(
        single.tolist(), abs=1e-7
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


def test_what_counts_nowhere_is_grey() -> None:
    mask = np.array([[0, 1, 2, IGNORED]], np.uint8)
    colours = np.asarray(painted(Image.new("RGB", (4, 1)), mask))[0]
    assert len({tuple(each) for each in colours.tolist()}) == 4 and colours[3].tolist() == [64, 64, 64]
