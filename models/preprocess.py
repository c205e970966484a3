"""Pictures and videos as the numbers a model sees, resized as Pillow does it.

`pixel_values` is for retrieval, captions and single tiles of a chat, `classification_values` for zero-shot
classification, `tile` with `stack` for a chat at high resolution, `frame_indices` for videos.
"""

import io
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def pixel_values(image: Image.Image, image_size: int) -> Float[Tensor, "3 {image_size} {image_size}"]:
    """Return a picture squashed to a square by Pillow's bicubic filter."""
    small = image.convert("RGB").resize((image_size, image_size), Image.Resampling.BICUBIC)
    numbers = np.asarray(small, dtype=np.float32) / 255
    numbers = (numbers - np.array(IMAGENET_MEAN, np.float32)) / np.array(IMAGENET_STD, np.float32)
    return torch.from_numpy(np.ascontiguousarray(numbers.transpose(2, 0, 1)))


def classification_values(image: Image.Image, image_size: int) -> Float[Tensor, "3 {image_size} {image_size}"]:
    """Return the middle of a picture whose short side was resized.

    Classification alone is judged so; retrieval squashes (`pixel_values`). Rounding is torchvision's:
    the long side is cut down to whole pixels, the crop's corner rounded to even.
    """
    image = image.convert("RGB")
    width, height = image.size
    short = min(width, height)
    size = (int(image_size * width / short), int(image_size * height / short))
    large = image.resize(size, Image.Resampling.BICUBIC)
    left, top = round((size[0] - image_size) / 2), round((size[1] - image_size) / 2)
    return pixel_values(large.crop((left, top, left + image_size, top + image_size)), image_size)


def encode_again(image: Image.Image, quality: int) -> Image.Image:
    """Return a picture as it looks after JPEG; training on degraded pictures draws `quality` from 75 to 100.

    Raises:
        ValueError: `quality` is not between 1 and 100.
    """
    if not 1 <= quality <= 100:
        raise ValueError(f"JPEG quality {quality} is not between 1 and 100")
    out = io.BytesIO()
    image.convert("RGB").save(out, "JPEG", quality=quality)
    with Image.open(out) as again:
        return again.convert("RGB")


def blank_values(image_size: int) -> Float[Tensor, "1 3 {image_size} {image_size}"]:
    """Return the white tile that a conversation without pictures carries.

    Its image flag is 0: nothing of it is read, but the vision encoder runs on every process.
    """
    return pixel_values(Image.new("RGB", (image_size, image_size), (255, 255, 255)), image_size)[None]


@lru_cache(maxsize=64)
def grids(min_tiles: int, max_tiles: int) -> tuple[tuple[int, int], ...]:
    """Return all (columns, rows) of between min and max tiles, the smallest first.

    The official list is a set sorted by area alone, so that the order of equal areas is an accident
    there; here columns decide it.
    """
    found = [
        (columns, rows)
        for columns in range(1, max_tiles + 1)
        for rows in range(1, max_tiles + 1)
        if min_tiles <= columns * rows <= max_tiles
    ]
    return tuple(sorted(found, key=lambda grid: (grid[0] * grid[1], grid[0])))


def best_grid(width: int, height: int, image_size: int, min_tiles: int, max_tiles: int) -> tuple[int, int]:
    """Return the (columns, rows) whose shape is closest to a picture's.

    On an exact tie the larger grid wins where the picture has more than half of its pixels.
    """
    ratio = width / height
    best, smallest = (1, 1), float("inf")
    for columns, rows in grids(min_tiles, max_tiles):
        gap = abs(ratio - columns / rows)
        if gap < smallest:
            best, smallest = (columns, rows), gap
        elif gap == smallest and width * height > 0.5 * image_size**2 * columns * rows:
            best = (columns, rows)
    return best


def tile(
    image: Image.Image, image_size: int, min_tiles: int = 1, max_tiles: int = 12, use_thumbnail: bool = True
) -> list[Image.Image]:
    """Cut a picture into square tiles, row by row from the top left; the whole one, small, comes last.

    The thumbnail is left out where there is only one tile (InternVL 1.5, arXiv:2404.16821, section 3.2).
    """
    # Before resizing: Pillow would pick among a palette's entries instead of mixing colours.
    image = image.convert("RGB")
    columns, rows = best_grid(*image.size, image_size, min_tiles, max_tiles)
    large = image.resize((columns * image_size, rows * image_size), Image.Resampling.BICUBIC)
    places = [(x * image_size, y * image_size) for y in range(rows) for x in range(columns)]
    tiles = [large.crop((x, y, x + image_size, y + image_size)) for x, y in places]
    if use_thumbnail and len(tiles) > 1:
        tiles.append(image.resize((image_size, image_size), Image.Resampling.BICUBIC))
    return tiles


def tile_count(
    width: int, height: int, image_size: int, min_tiles: int = 1, max_tiles: int = 12, use_thumbnail: bool = True
) -> int:
    """Return how many tiles `tile` makes of a picture of this size."""
    columns, rows = best_grid(width, height, image_size, min_tiles, max_tiles)
    return columns * rows + int(use_thumbnail and columns * rows > 1)


def stack(tiles: Sequence[Image.Image], image_size: int) -> Float[Tensor, "tiles 3 {image_size} {image_size}"]:
    """Return the numbers of several tiles."""
    return torch.stack([pixel_values(each, image_size) for each in tiles])


def tiles_for_each(max_tiles: int, pictures: int) -> int:
    """Return the most tiles of each picture where several share a conversation."""
    return max(1, max_tiles // pictures)


def frame_indices(total: int, frames: int, generator: np.random.Generator | None = None) -> list[int]:
    """Return which frames of a video are shown: one from each of `frames` equal segments, in order.

    Args:
        total: Frames of the video.
        frames: Most frames shown; training draws 8 to 32. A shorter video is shown whole.
        generator: Draws the frame within its segment, for training; the middle one when left out.

    Raises:
        ValueError: There is no frame to show.
    """
    if total < 1 or frames < 1:
        raise ValueError(f"cannot show {frames} of {total} frames; both must be at least one")
    borders = np.linspace(0, total, min(frames, total) + 1).astype(int)
    if generator is not None:
        return [int(each) for each in generator.integers(borders[:-1], borders[1:])]
    return [int(each) for each in (borders[:-1] + borders[1:] - 1) // 2]
