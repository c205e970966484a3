"""Tiles against counts and colours recorded from the official code, and the numbers of one picture."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models.preprocess import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    best_grid,
    decode,
    grids,
    pixel_values,
    stack,
    tile,
    tile_count,
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


def test_any_mode_decodes_to_rgb_and_a_torn_picture_is_refused() -> None:
    for mode in ("L", "P", "RGBA", "1"):
        out = io.BytesIO()
        Image.new(mode, (6, 4)).save(out, "PNG")
        assert decode(out.getvalue()).mode == "RGB"
    out = io.BytesIO()
    gradient(64, 64).save(out, "JPEG")
    for data in (b"", b"no picture", out.getvalue()[:200]):
        with pytest.raises(OSError):
            decode(data)


def test_a_palette_is_turned_into_colours_before_it_is_resized() -> None:
    image = gradient(60, 30).quantize(8)
    tiles = tile(image, 28, 1, 2)
    assert len(tiles) == 3
    for ours, theirs in zip(tiles, tile(image.convert("RGB"), 28, 1, 2), strict=True):
        assert ours.mode == "RGB" and np.array_equal(np.asarray(ours), np.asarray(theirs))
