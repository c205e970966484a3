"""What probes are shown: whole epochs, crops as torchvision draws them, mirrored views, made ahead of time."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import ks_2samp
from torchvision.transforms import RandomResizedCrop
from worlds import plain

from stages.evaluations.probe_crops import SMALLEST_CROP, Order, ahead, crop_box, random_view
from stages.manifest import ManifestError


def test_an_epoch_shows_everything_once_and_leaves_the_rest_out() -> None:
    order = Order("0", 11, 3)
    shown = [order.rows(step) for step in range(6)]
    for epoch in range(2):
        rows = [row for batch in shown[3 * epoch : 3 * epoch + 3] for told, row in batch if told == epoch]
        assert len(rows) == len(set(rows)) == 9
    assert shown[:3] != [[(0, row) for _, row in batch] for batch in shown[3:]]


def test_crops_lie_inside_and_keep_their_share_and_shape() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        left, top, right, bottom = crop_box(80, 50, rng)
        assert 0 <= left < right <= 80 and 0 <= top < bottom <= 50
        assert (right - left) * (bottom - top) >= SMALLEST_CROP * 80 * 50 * 0.85  # sides are whole pixels
        assert 0.7 < (right - left) / (bottom - top) < 1.45


def test_where_no_crop_fits_it_is_the_middle() -> None:
    assert crop_box(1000, 10, np.random.default_rng(0)) == (493, 0, 506, 10)
    assert crop_box(1, 1, np.random.default_rng(0)) == (0, 0, 1, 1)


def test_every_other_view_is_mirrored() -> None:
    picture = plain("red", (32, 32))
    picture.paste((0, 0, 0), (0, 0, 16, 32))
    darker_left = [
        view[:, :4].mean() < view[:, -4:].mean()
        for seed in range(60)
        if (view := random_view(picture, 16, np.random.default_rng(seed))).std() > 20
    ]
    assert 0.3 < np.mean(darker_left) < 0.7 and len(darker_left) > 20


def test_what_is_made_ahead_comes_in_order_and_fails_where_it_is_asked_for() -> None:
    assert list(ahead(lambda number: number**2, 5)) == [0, 1, 4, 9, 16]
    assert list(ahead(lambda number: number, 0)) == []

    def make(number: int) -> int:
        if number == 2:
            raise ManifestError("picture 2 is broken")
        return number

    found = []
    with pytest.raises(ManifestError, match="picture 2"):
        for each in ahead(make, 9):
            found.append(each)
    assert found == [0, 1]


def test_crops_are_drawn_as_torchvision_draws_them() -> None:
    torch.manual_seed(0)
    rng, picture = np.random.default_rng(0), Image.new("RGB", (80, 50))
    ours = np.array([crop_box(80, 50, rng) for _ in range(2000)])
    drawn = [RandomResizedCrop.get_params(picture, [SMALLEST_CROP, 1], [3 / 4, 4 / 3]) for _ in range(2000)]
    theirs = np.array([(left, top, left + width, top + height) for top, left, height, width in drawn])
    for column in range(4):
        assert ks_2samp(ours[:, column], theirs[:, column]).pvalue > 1e-3
    sizes = [(each[:, 2] - each[:, 0]) * (each[:, 3] - each[:, 1]) for each in (ours, theirs)]
    assert ks_2samp(*sizes).pvalue > 1e-3
