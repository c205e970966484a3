"""What there is of a JPEG whose file breaks off: the rows that were decoded, and nothing made up below them."""

import io

import numpy as np
from PIL import Image


def decoded_part(body: bytes) -> tuple[Image.Image, float]:
    """Return the upper rows of a cut JPEG, and their share of all its rows.

    The picture is decoded twice, on black and on white: rows that differ were never reached. A progressive one has
    no whole row before its end, so nothing of it is left.

    Raises:
        OSError: Not a row was decoded.
    """
    on_black, on_white = (_decoded_on(body, ground) for ground in (0, 255))
    missing = np.asarray(on_black) != np.asarray(on_white)
    missed = np.flatnonzero(missing.reshape(len(missing), -1).any(axis=1))
    rows = int(missed[0]) if len(missed) else len(missing)
    if not rows:
        raise OSError("no row of the picture was decoded")
    return on_black.crop((0, 0, on_black.width, rows)), rows / on_black.height


def _decoded_on(body: bytes, ground: int) -> Image.Image:
    """Return a picture of which the decoder has painted what it could, in the memory that was set aside for it."""
    with Image.open(io.BytesIO(body), formats=("JPEG",)) as image:
        tiles, image.tile = image.tile, []
        image.load_prepare()
        image.paste(Image.new(image.mode, image.size, (ground,) * len(image.getbands())))
        image.tile = tiles
        try:
            image.load()
        except OSError:
            # Known: it breaks off. Without tiles the library shows what is there.
            image.tile = []
        return image.copy()
