"""Tiles against counts and colours recorded from the official code, and the numbers of one picture."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from models.preprocess import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    best_grid,
    blank_values,
    classification_values,
    encode_again,
    frame_indices,
    grids,
    pixel_values,
    stack,
    tile,
    tile_count,
    tiles_for_each,
)

GOLDEN = json.loads((Path(__file__).parents[1] / "parity" / "dynamic_tiling.json").read_text())


def gradient(width: int, height: int) -> Image.Image:
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width).astype(np.uint8)[None, :]
    pixels[..., 1] = np.linspace(0, 255, height).astype(np.uint8)[:, None]
    return Image.fromarray(pixels)


def test_tile_counts_are_the_official_ones() -> None:
    wrong = [row for row in GOLDEN["tiles"] if tile_count(row[0], row[1], 28, row[2], row[3], row[4]) != row[5]]
    assert len(GOLDEN["tiles"]) > 1000
    assert not wrong


def test_grid_order_and_thumbnail_are_the_official_ones() -> None:
    checked = 0
    for width, height, colours in GOLDEN["grids"]:
        if width * height > 1_500_000:
            continue  # counts are checked above; large pictures cost time only
        tiles = tile(gradient(width, height), 28, 1, 12, True)
        found = [np.asarray(each, np.float32)[..., :2].mean(axis=(0, 1)) for each in tiles]
        assert np.allclose(found, colours, atol=1.0), (width, height)
        checked += 1
    assert checked >= 10


def test_a_tie_is_won_by_the_larger_grid_only_for_large_pictures() -> None:
    assert best_grid(633, 633, 448, 1, 6) == (1, 1)
    assert best_grid(634, 634, 448, 1, 6) == (2, 2)
    assert best_grid(640, 480, 448, 1, 40) == (4, 3)
    assert best_grid(2480, 3508, 448, 1, 40) == (5, 7)
    assert len(grids(1, 6)) == 14 and len(grids(1, 12)) == 35 and len(grids(1, 40)) == 158


def test_one_tile_has_no_thumbnail() -> None:
    image = gradient(40, 40)
    assert len(tile(image, 28, 1, 1)) == 1
    assert len(tile(gradient(60, 30), 28, 1, 6)) == 3
    assert len(tile(gradient(60, 30), 28, 1, 6, use_thumbnail=False)) == 2
    assert stack(tile(gradient(60, 30), 28, 1, 6), 28).shape == (3, 3, 28, 28)


def test_numbers_are_normalised_channel_by_channel() -> None:
    image = Image.new("RGB", (7, 5), (255, 0, 51))
    found = pixel_values(image, 4)
    expected = [(value - m) / s for value, m, s in zip((1, 0, 0.2), IMAGENET_MEAN, IMAGENET_STD, strict=True)]
    assert found.shape == (3, 4, 4) and found.dtype == torch.float32
    assert torch.allclose(
        found, torch.tensor(expected, dtype=torch.float32)[:, None, None].expand(3, 4, 4), atol=1e-6
    )


def test_resizing_is_pillows() -> None:
    image = gradient(37, 23)
    small = np.asarray(image.resize((8, 8), Image.Resampling.BICUBIC), np.float32) / 255
    ours = (
        pixel_values(image, 8) * torch.tensor(IMAGENET_STD)[:, None, None]
        + torch.tensor(IMAGENET_MEAN)[:, None, None]
    )
    assert np.allclose(ours.permute(1, 2, 0).numpy(), small, atol=1e-6)


def test_a_palette_is_turned_into_colours_before_it_is_resized() -> None:
    image = gradient(60, 30).quantize(8)
    tiles = tile(image, 28, 1, 2)
    assert len(tiles) == 3
    for ours, theirs in zip(tiles, tile(image.convert("RGB"), 28, 1, 2), strict=True):
        assert ours.mode == "RGB" and np.array_equal(np.asarray(ours), np.asarray(theirs))


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


SIZES = [(100, 37), (37, 100), (64, 64), (31, 33), (33, 31), (20, 201), (224, 225), (10, 9)]


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA"])
def test_classification_and_retrieval_are_torchvisions_transforms_of_pillow_pictures(mode: str) -> None:
    bicubic = transforms.InterpolationMode.BICUBIC
    numbers = [transforms.ToTensor(), transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)]
    rgb = transforms.Lambda(lambda image: image.convert("RGB"))
    for image_size in (28, 33):
        middle = transforms.Compose(
            [rgb, transforms.Resize(image_size, bicubic), transforms.CenterCrop(image_size), *numbers]
        )
        squashed = transforms.Compose([rgb, transforms.Resize((image_size, image_size), bicubic), *numbers])
        for size in SIZES:
            image = noise(*size, mode)
            assert torch.allclose(classification_values(image, image_size), middle(image), atol=1e-6), size
            assert torch.allclose(pixel_values(image, image_size), squashed(image), atol=1e-6), size
    assert not torch.allclose(classification_values(noise(100, 37), 28), pixel_values(noise(100, 37), 28), atol=0.1)


def test_jpeg_again_is_pillows_and_worse_at_lower_quality() -> None:
    image = noise(40, 30)
    off = []
    for quality in (75, 90, 100):
        out = io.BytesIO()
        image.save(out, "JPEG", quality=quality)
        again = encode_again(image, quality)
        assert np.array_equal(np.asarray(again), np.asarray(Image.open(out)))
        off.append(np.abs(np.asarray(again, np.float32) - np.asarray(image, np.float32)).mean())
    assert off[0] > off[1] > off[2] > 0
    for quality in (0, 101):
        with pytest.raises(ValueError, match="not between"):
            encode_again(image, quality)


def test_a_conversation_without_pictures_carries_a_white_tile() -> None:
    white = torch.tensor([(1 - m) / s for m, s in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)])
    found = blank_values(28)
    assert found.shape == (1, 3, 28, 28)
    assert torch.allclose(found, white[None, :, None, None].expand_as(found), atol=1e-6)


@pytest.mark.parametrize(
    ("width", "height", "counts"),
    [
        (448, 448, (1, 1, 1)),
        (633, 633, (1, 1, 1)),
        (896, 896, (5, 5, 5)),
        (1000, 1000, (5, 10, 10)),
        (640, 480, (7, 13, 13)),
        (4000, 3000, (7, 13, 13)),
        (800, 1300, (7, 7, 41)),
        (1920, 1080, (3, 9, 29)),
        (2480, 3508, (7, 7, 36)),
        (3000, 1000, (4, 13, 28)),
        (224, 2240, (7, 11, 11)),
    ],
)
def test_tiles_of_common_sizes(width: int, height: int, counts: tuple[int, ...]) -> None:
    found = tuple(tile_count(width, height, 448, max_tiles=most) for most in (6, 12, 40))
    assert found == counts


def test_several_pictures_share_the_tiles() -> None:
    assert [tiles_for_each(12, pictures) for pictures in (1, 2, 5, 12, 13)] == [12, 6, 2, 1, 1]


def test_frames_are_the_middles_of_equal_segments() -> None:
    assert frame_indices(80, 8) == [4, 14, 24, 34, 44, 54, 64, 74]
    assert frame_indices(10, 3) == [1, 4, 7]  # segments 0-2, 3-5, 6-9
    assert frame_indices(5, 1) == [2]
    assert frame_indices(3, 8) == [0, 1, 2]
    for total, frames in ((0, 8), (8, 0)):
        with pytest.raises(ValueError, match="at least one"):
            frame_indices(total, frames)


def test_training_draws_a_frame_from_each_segment() -> None:
    generator = np.random.default_rng(0)
    drawn = np.array([frame_indices(10, 3, generator) for _ in range(400)])
    assert [set(column.tolist()) for column in drawn.T] == [{0, 1, 2}, {3, 4, 5}, {6, 7, 8, 9}]
    assert frame_indices(100, 8, np.random.default_rng(5)) == frame_indices(100, 8, np.random.default_rng(5))
    assert frame_indices(4, 8, generator) == [0, 1, 2, 3]
