"""Small pictures for a page: re-encoded, nothing of the original file left, pixelated where not known to be safe."""

import base64
import io
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError

SIDE = 224
MOST_BYTES = 9 * 1024
SAFE = 0.5
BLOCKS = 9


@dataclass(frozen=True)
class Thumbnail:
    """A JPEG of at most 9 kB, and whether it was pixelated."""

    jpg: bytes
    pixelated: bool

    @property
    def src(self) -> str:
        """The picture as an address."""
        return "data:image/jpeg;base64," + base64.b64encode(self.jpg).decode()


def thumbnail(picture: bytes, unsafe: float | None) -> Thumbnail | None:
    """Return a small copy of a picture; None where it cannot be decoded.

    Pictures that are unsafe, or that nobody scored, are reduced to nine blocks before they are
    embedded: a blur in the page would ship the original.

    Args:
        picture: A picture as it is stored.
        unsafe: Its unsafe probability; None where it was not computed.
    """
    try:
        with Image.open(io.BytesIO(picture)) as opened:
            opened.draft("RGB", (SIDE * 2, SIDE * 2))
            image = opened.convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError, SyntaxError):
        return None
    hidden = unsafe is None or not unsafe <= SAFE
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    if hidden:
        width, height = image.size
        longest = max(width, height)
        blocks = (max(1, round(BLOCKS * width / longest)), max(1, round(BLOCKS * height / longest)))
        image = image.resize(blocks, Image.Resampling.BOX).resize((width, height), Image.Resampling.NEAREST)
    return Thumbnail(_encoded(image), hidden)


def _encoded(image: Image.Image) -> bytes:
    while True:
        for quality in (80, 65, 50, 35):
            out = io.BytesIO()
            # A new image holds no EXIF, no profile and no comment.
            Image.frombytes("RGB", image.size, image.tobytes()).save(out, "JPEG", quality=quality, optimize=True)
            if out.tell() <= MOST_BYTES:
                return out.getvalue()
        image = image.resize((max(1, image.width * 2 // 3), max(1, image.height * 2 // 3)), Image.Resampling.LANCZOS)
