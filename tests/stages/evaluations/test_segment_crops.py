"""Crops of pictures with their masks: what lies on what, what fills them, and colours that move."""

import numpy as np
import pytest
from PIL import Image

from stages.evaluations import segment_crops
from stages.evaluations.segment_crops import IGNORED, MEAN_COLOUR, training_crop


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
