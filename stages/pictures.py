"""Foreign bytes to pixels: judged by the header first, decoded no larger than needed, metadata left behind.

Pixels come out upright, 8 bit, gray or RGB, on white where the picture was transparent. What cannot be
decoded whole is refused, unless a recipe takes JPEGs that are cut: then their decoded rows are the picture. Half
a picture is never filled up with gray.
"""

import io
import struct
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from stages.cut_pictures import decoded_part
from stages.outcome import Outcome
from stages.picture_frames import frames
from stages.picture_headers import declared_size, scans, sniff, without_extras

MAX_SIDE = 16_384
MAX_SCANS = 16
"""A JPEG may cost as much as this many pictures of the largest size; usual progressive ones have ten scans."""
HASH_SIDE, HASH_SOURCE = 8, 128

Pixels = NDArray[np.uint8]


class PictureError(ValueError):
    """A body that is not decoded; `outcome` says why."""

    def __init__(self, outcome: Outcome) -> None:
        """Keep the outcome; nothing of what a library said about foreign bytes goes further."""
        super().__init__(str(outcome))
        self.outcome = outcome


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Attributes:
        pixels: Shape (height, width) for gray, (height, width, 3) for RGB; perhaps smaller than the picture is.
        width: Of the whole picture, upright.
        height: Likewise.
        phash: `perceptual_hash` of the pixels.
        frames: How many the file has; the first is what was decoded.
        decoded_share: Of the rows, in [0, 1]; below 1 where the file breaks off.
    """

    pixels: Pixels
    width: int
    height: int
    phash: int
    frames: int = 1
    decoded_share: float = 1.0


@dataclass(frozen=True)
class Wanted:
    """How small the pixels may come out: `side` is the least length of the shorter or of the longer side.

    `side` 0 asks for every pixel.
    """

    side: int = 0
    longer: bool = False

    def scaled(self, width: int, height: int) -> tuple[int, int]:
        """Return the size that a picture of this size is needed at, never above its own."""
        share = min(1.0, self.side / (max if self.longer else min)(width, height)) if self.side else 1.0
        return max(1, round(width * share)), max(1, round(height * share))

    def scaled_part(self, width: int, height: int, part: float) -> tuple[int, int]:
        """Return the size that a whole picture is needed at where perhaps only this share of its rows is there."""
        across, _ = self.scaled(width, max(1, round(height * part)))
        return across, max(1, round(height * across / width))


def inspect(body: bytes, max_pixels: int, max_side: int = MAX_SIDE) -> str | None:
    """Return why a body must not be decoded, None where it may: only its header is read.

    Returns:
        `not_image`, `decode` (a known format whose header is broken), `too_many_pixels`, or None.
    """
    kind = sniff(body)
    if kind is None:
        return Outcome.NOT_IMAGE
    size = declared_size(body, kind)
    if size is None:
        return Outcome.DECODE
    pixels = size[0] * size[1]
    if pixels > max_pixels or max(size) > max_side:
        return Outcome.TOO_MANY_PIXELS
    try:
        work = pixels * scans(body, kind)
    except (struct.error, ValueError, IndexError):
        return Outcome.DECODE
    return Outcome.TOO_MANY_PIXELS if work > MAX_SCANS * max_pixels else None


def decode(body: bytes, max_pixels: int, wanted: Wanted | None = None, min_decoded_share: float = 1.0) -> Picture:
    """Decode the first frame of a picture.

    A JPEG that is needed smaller is scaled by 1/2, 1/4 or 1/8 while it is decoded, on its frequencies:
    that saves most of the work of a large one and is close to decoding it whole and averaging.

    Args:
        body: What the web sent.
        max_pixels: Larger ones are refused by their header.
        wanted: The size that is needed; every pixel when left out.
        min_decoded_share: Share of its rows from which a JPEG that breaks off is taken, cut to them.

    Raises:
        PictureError: `not_image`, `too_many_pixels` or `decode`.
    """
    whole = _decoded(body, max_pixels, wanted, min_decoded_share)
    flat = whole.flat
    return Picture(
        np.asarray(flat), whole.width, whole.height, perceptual_hash(flat), frames(body, whole.kind), whole.share
    )


def picture_of(body: bytes, max_pixels: int = MAX_SIDE * MAX_SIDE) -> Image.Image:
    """Return all pixels of a picture in RGB, as every model is shown them: upright, and on white where transparent.

    Args:
        body: A file of any of the known formats.
        max_pixels: Larger ones are refused by their header.

    Raises:
        PictureError: As `decode`.
    """
    picture = _decoded(body, max_pixels).flat.convert("RGB")
    picture.info = {}
    return picture


class _Decoded(NamedTuple):
    """A picture upright and flat; its size is that of the whole."""

    flat: Image.Image
    width: int
    height: int
    share: float
    kind: str


def _decoded(body: bytes, max_pixels: int, wanted: Wanted | None = None, min_decoded_share: float = 1.0) -> _Decoded:
    if reason := inspect(body, max_pixels):
        raise PictureError(Outcome(reason))
    kind = str(sniff(body))
    try:
        data = without_extras(body) if kind == "PNG" else body
        with Image.open(io.BytesIO(data), formats=(kind,)) as image:
            width, height = image.size
            # Two headers may disagree; what the library has read decides.
            if width * height > max_pixels:
                raise PictureError(Outcome.TOO_MANY_PIXELS)
            if wanted and image.format in ("JPEG", "MPO"):
                image.draft(None, wanted.scaled(width, height))
            least = wanted.scaled_part(width, height, min_decoded_share) if wanted else None
            shown, share = _shown(image, body, min_decoded_share, least)
            flat, turned = _upright(shown)
    except PictureError:
        raise
    except Image.DecompressionBombError:
        raise PictureError(Outcome.TOO_MANY_PIXELS) from None
    except Exception:
        # Libraries raise whatever they like on foreign bytes, down to SyntaxError; all of it means the same.
        raise PictureError(Outcome.DECODE) from None
    return _Decoded(flat, *((height, width) if turned else (width, height)), share, kind)


def _shown(
    image: Image.Image, body: bytes, min_decoded_share: float, least: tuple[int, int] | None
) -> tuple[Image.Image, float]:
    """Return a picture with its pixels and the share of rows that they are; cut to them where it breaks off.

    Where it does, the whole of it is decoded no smaller than `least`.
    """
    try:
        image.load()
    except OSError:
        if image.format not in ("JPEG", "MPO") or min_decoded_share >= 1:
            raise
        part, share = decoded_part(body, least)
        if share < min_decoded_share:
            raise
        return part, share
    return image, 1.0


def _upright(image: Image.Image) -> tuple[Image.Image, bool]:
    """Return a picture as it is meant to be seen, and whether its width and height changed places."""
    # Only these hold an orientation; looking for one in every picture costs as much as decoding a small one.
    turn = image.getexif().get(0x0112, 1) if "exif" in image.info else 1
    flat = _flat(image)
    if turn in range(2, 9):
        flat = _turned(flat, turn)
    return flat, turn in (5, 6, 7, 8)


def _turned(image: Image.Image, turn: int) -> Image.Image:
    image.getexif()[0x0112] = turn
    return ImageOps.exif_transpose(image)


def _flat(image: Image.Image) -> Image.Image:
    """Return a picture in 8-bit gray or RGB: deep ones by their high byte, transparent ones on white."""
    if image.mode.startswith("I"):
        # 16 bit gray. Clipping, which most libraries do here, would turn everything above 1/256 white.
        return Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        whole = image.convert("RGBA")
        # Blended in 8 bit by the library: no copy of the picture in floats.
        ground = Image.new("RGB", whole.size, (255, 255, 255))
        ground.paste(whole, mask=whole.getchannel("A"))
        return ground
    if image.mode in ("L", "RGB"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


@cache
def _cosines() -> np.ndarray:
    """Return the lowest rows of the DCT-II of 32 values, shape (8, 32)."""
    n = 4 * HASH_SIDE
    return 2 * np.cos(np.pi * np.outer(np.arange(HASH_SIDE), 2 * np.arange(n) + 1) / (2 * n))


def perceptual_hash(image: Image.Image) -> int:
    """Return the 64-bit DCT hash of a picture: near-equal pictures differ in few bits.

    The same bits as `imagehash.phash`, first one highest, for a picture of less than 256 pixels; a
    larger one is averaged down to 128 or a little more first, which is cheaper and moves a bit now and then.
    """
    gray = image.convert("L")
    if (factor := max(gray.size) // HASH_SOURCE) > 1:
        gray = gray.reduce(factor)
    values = np.asarray(gray.resize((4 * HASH_SIDE, 4 * HASH_SIDE), Image.Resampling.LANCZOS), np.float64)
    # Rounded, so that a flat picture's zeros stay zeros on every processor.
    low = np.round(_cosines() @ values @ _cosines().T, 6)
    bits = (low > np.median(low)).ravel()
    return int.from_bytes(np.packbits(bits).tobytes(), "big")
