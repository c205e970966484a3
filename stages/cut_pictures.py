"""What there is of a JPEG whose file breaks off: the rows that were decoded, and nothing made up below them."""

import io

import numpy as np
from PIL import Image

STRIP = 64
"""Rows that are compared at once: no copy of a large picture."""


def decoded_part(body: bytes, size: tuple[int, int] | None = None) -> tuple[Image.Image, float]:
    """Return the upper rows of a cut JPEG, and their share of all its rows.

    The picture is decoded twice, on black and on white: rows that differ were never reached. A progressive one has
    no whole row before its end, so nothing of it is left.

    Args:
        body: The file as far as it goes.
        size: Width and height that the whole picture would be needed at: it is decoded no larger than this takes,
            see `PIL.Image.Image.draft`. Every pixel when left out.

    Raises:
        OSError: Not a row was decoded.
    """
    on_black, on_white = (_decoded_on(body, ground, size) for ground in (0, 255))
    rows = _equal_rows(on_black, on_white)
    if not rows:
        raise OSError("no row of the picture was decoded")
    return on_black.crop((0, 0, on_black.width, rows)), rows / on_black.height


def _decoded_on(body: bytes, ground: int, size: tuple[int, int] | None) -> Image.Image:
    """Return a picture of which the decoder has painted what it could, in the memory that was set aside for it."""
    with Image.open(io.BytesIO(body), formats=("JPEG",)) as image:
        if size:
            image.draft(None, size)
        tiles, image.tile = image.tile, []
        image.load_prepare()
        image.paste((ground,) * len(image.getbands()), (0, 0, *image.size))
        image.tile = tiles
        try:
            image.load()
        except OSError:
            # Known: it breaks off. Without tiles the library shows what is there.
            image.tile = []
        return image


def _equal_rows(one: Image.Image, other: Image.Image) -> int:
    """Return how many rows from the top are the same in two pictures of one size."""
    for top in range(0, one.height, STRIP):
        strip = (0, top, one.width, min(top + STRIP, one.height))
        differs = np.asarray(one.crop(strip)) != np.asarray(other.crop(strip))
        if differs.any():
            return top + int(differs.reshape(len(differs), -1).any(axis=1).argmax())
    return one.height
