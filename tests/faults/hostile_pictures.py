"""Pictures that decoders get wrong, and bodies that kill them; each made when it is asked for, with its truth.

`PICTURES` maps a path to a body. `TRUTH` says what a right decoder makes of it: the size after orientation is
applied and alpha is matted on white, and the colours at some places, given as fractions of width and height.
`REFUSED` says of the others which outcome they deserve. A path is in exactly one of the two.
"""

import functools
import io
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from PIL import Image, PngImagePlugin

RGB = tuple[int, int, int]
SIZE = (64, 48)
COLOUR: RGB = (200, 100, 50)
MIDDLE = (0.5, 0.5)
WHITE: RGB = (255, 255, 255)
UNTURN = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # EXIF orientation -> the transposition that undoes it, backwards


class Truth(NamedTuple):
    """What a picture shows."""

    size: tuple[int, int] = SIZE
    points: Mapping[tuple[float, float], RGB] = MappingProxyType({MIDDLE: COLOUR})


def png(mode: int, depth: int, width: int, height: int, row: bytes, *extra: bytes) -> bytes:
    """Return a PNG of equal rows, whatever its size; `mode` is PNG's colour type, `extra` further chunks."""
    engine, line = zlib.compressobj(1), b"\0" + row
    lines = max(1, min(height, (1 << 20) // len(line)))
    data = [engine.compress(line * lines) for _ in range(height // lines)]
    data += [engine.compress(line * (height % lines)), engine.flush()]
    header = struct.pack(">IIBBBBB", width, height, depth, mode, 0, 0, 0)
    chunks = [_chunk(b"IHDR", header), *extra, _chunk(b"IDAT", b"".join(data)), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def deep(mode: int, values: Sequence[int]) -> bytes:
    """Return a 16-bit PNG of one colour, given as 16-bit values."""
    return png(mode, 16, *SIZE, struct.pack(f">{len(values)}H", *values) * SIZE[0])


def saved(image: Image.Image, kind: str, **how: object) -> bytes:
    """Return an encoded picture."""
    sink = io.BytesIO()
    image.save(sink, kind, **how)
    return sink.getvalue()


def plain(kind: str, **how: object) -> bytes:
    """Return a picture of one colour."""
    return saved(Image.new("RGB", SIZE, COLOUR), kind, **how)


def quarters() -> Image.Image:
    """Return red, green over blue, white: a picture that shows how it was turned."""
    pixels = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    half, middle = SIZE[1] // 2, SIZE[0] // 2
    pixels[:half, :middle], pixels[:half, middle:] = (255, 0, 0), (0, 255, 0)
    pixels[half:, :middle], pixels[half:, middle:] = (0, 0, 255), WHITE
    return Image.fromarray(pixels)


def turned(orientation: int) -> bytes:
    """Return `quarters` stored lying on a side, with the EXIF tag that says so."""
    image, exif = quarters(), Image.Exif()
    if orientation in UNTURN:
        image = image.transpose(Image.Transpose(UNTURN[orientation]))
    exif[0x0112] = orientation
    return saved(image, "JPEG", quality=95, subsampling=0, exif=exif)


def palette(transparent: bool) -> bytes:
    """Return a picture by palette, of which one entry may be see-through."""
    image = Image.new("P", SIZE, 1)
    image.putpalette([0, 0, 0, *COLOUR])
    return saved(image, "PNG", **({"transparency": 1} if transparent else {}))


def located() -> bytes:
    """Return a JPEG that says where it was taken, and whose text fields hold a script."""
    exif = Image.Exif()
    exif[0x010E] = "<script>alert(1)</script>" + "x" * 60_000
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.0), 3: "E", 4: (13.0, 24.0, 36.0)})
    return plain("JPEG", exif=exif)


def looping() -> bytes:
    """Return a JPEG whose EXIF directory names itself as the next one, with a huge count in it."""
    ifd = struct.pack("<HHHII", 1, 0x010E, 2, 0x7FFFFFFF, 8) + struct.pack("<I", 8)
    body = b"Exif\0\0" + b"II*\0" + struct.pack("<I", 8) + ifd
    return _with_segment(plain("JPEG"), 0xE1, body)


def commented(times: int = 2_000) -> bytes:
    """Return a JPEG with thousands of comments."""
    return _with_segment(plain("JPEG"), 0xFE, b"x" * 10, times)


def _with_segment(jpeg: bytes, marker: int, body: bytes, times: int = 1) -> bytes:
    segment = struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body
    return jpeg[:2] + segment * times + jpeg[2:]


def frames(count: int = 500) -> bytes:
    """Return an animation of which only the first frame is wanted."""
    others = [Image.new("RGB", SIZE, (i % 256, 0, 0)) for i in range(1, count)]
    return saved(Image.new("RGB", SIZE, COLOUR), "GIF", save_all=True, append_images=others)


def vast_jpeg() -> bytes:
    """Return a JPEG that says it is 65,500 pixels on a side."""
    body = bytearray(plain("JPEG"))
    at = body.index(b"\xff\xc0")
    body[at + 5 : at + 9] = struct.pack(">HH", 65_500, 65_500)
    return bytes(body)


def vast_gif() -> bytes:
    """Return a GIF that says it is 65,535 pixels on a side."""
    body = bytearray(plain("GIF"))
    body[6:10] = struct.pack("<HH", 65_535, 65_535)
    return bytes(body)


def bad_crc() -> bytes:
    """Return a PNG whose pixels do not fit their checksum."""
    body = bytearray(saved(noise(), "PNG"))
    body[len(body) // 2] ^= 0xFF
    return bytes(body)


def noise() -> Image.Image:
    """Return a picture that compresses badly, so that half of its file is half of it."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8))


def half(body: bytes) -> bytes:
    """Return the first half of a body."""
    return body[: len(body) // 2]


def text_bomb(kind: bytes) -> bytes:
    """Return a small PNG with 64 MB of zeros in a compressed text or colour profile."""
    name = b"Comment\0\0" if kind == b"zTXt" else b"icc\0\0"
    return png(2, 8, *SIZE, bytes(COLOUR) * SIZE[0], _chunk(kind, name + zlib.compress(bytes(64 << 20), 1)))


def commented_png() -> bytes:
    """Return a PNG with a script in its text."""
    info = PngImagePlugin.PngInfo()
    info.add_text("Description", "<script>alert(1)</script>")
    return plain("PNG", pnginfo=info)


def orientation_truth() -> Truth:
    """Return where the quarters must be, however they were stored."""
    return Truth(points={(0.25, 0.25): (255, 0, 0), (0.75, 0.25): (0, 255, 0), (0.25, 0.75): (0, 0, 255),
                         (0.75, 0.75): WHITE})  # fmt: skip


def _of(colour: RGB) -> Truth:
    return Truth(points={MIDDLE: colour})


GRAY: RGB = (128, 128, 128)
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="64" height="48"><rect width="64" height="48"/></svg>'
XXE = b'<?xml version="1.0"?><!DOCTYPE s [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + SVG.replace(
    b"<rect", b"&x;<rect"
)
HTML = b"<html><script>alert(1)</script></html>"

_GOOD: dict[str, tuple[Callable[[], bytes], Truth]] = {
    "/picture/jpeg": (lambda: plain("JPEG", quality=95), Truth()),
    "/picture/png": (lambda: plain("PNG"), Truth()),
    "/picture/webp": (lambda: plain("WEBP", lossless=True), Truth()),
    "/picture/gif": (lambda: plain("GIF"), Truth()),
    "/picture/bmp": (lambda: plain("BMP"), Truth()),
    # D14: pixels that are wrong without an error
    "/png/gray16": (lambda: deep(0, [0x8000]), _of(GRAY)),
    "/png/rgb16": (lambda: deep(2, [0x8000, 0x4000, 0xC000]), _of((128, 64, 192))),
    "/png/rgba16": (lambda: deep(6, [0x8000, 0x4000, 0xC000, 0xFFFF]), _of((128, 64, 192))),
    "/png/rgba16_half": (lambda: deep(6, [0x8000, 0x8000, 0x8000, 0x8000]), _of((191, 191, 191))),
    "/png/la16": (lambda: deep(4, [0x8000, 0xFFFF]), _of(GRAY)),
    "/png/la": (lambda: saved(Image.new("LA", SIZE, (100, 128)), "PNG"), _of((177, 177, 177))),
    "/png/rgba": (lambda: saved(Image.new("RGBA", SIZE, (*COLOUR, 255)), "PNG"), Truth()),
    "/png/rgba_clear": (lambda: saved(Image.new("RGBA", SIZE, (*COLOUR, 0)), "PNG"), _of(WHITE)),
    "/png/palette": (lambda: palette(False), Truth()),
    "/png/palette_clear": (lambda: palette(True), _of(WHITE)),
    "/png/one_bit": (lambda: saved(Image.new("1", SIZE, 1), "PNG"), _of(WHITE)),
    "/png/gray": (lambda: saved(Image.new("L", SIZE, 128), "PNG"), _of(GRAY)),
    "/jpeg/gray": (lambda: saved(Image.new("L", SIZE, 128), "JPEG"), _of(GRAY)),
    "/jpeg/cmyk": (lambda: saved(Image.new("CMYK", SIZE, (0, 128, 255, 0)), "JPEG", quality=95), _of((255, 127, 0))),
    **{f"/orient/{k}": (functools.partial(turned, k), orientation_truth()) for k in range(1, 9)},
    # D13, D17: what hangs on to a picture
    "/gif/frames": (frames, Truth()),
    "/exif/gps": (located, Truth()),
    "/exif/loop": (looping, Truth()),
    "/comments/many": (commented, Truth()),
    "/comments/script": (commented_png, Truth()),
    "/tail": (lambda: plain("JPEG") + b"TAIL" * (1 << 18), Truth()),
    "/polyglot": (lambda: _with_segment(plain("JPEG"), 0xFE, HTML) + b"PK\x03\x04" + HTML, Truth()),
    # D12: what blows up beside the pixels; a decoder that refuses them is right as well
    "/bomb/text": (lambda: text_bomb(b"zTXt"), Truth()),
    "/bomb/profile": (lambda: text_bomb(b"iCCP"), Truth()),
    # small, but whole: a size rule of the caller's may refuse them
    "/small/1x1": (lambda: saved(Image.new("RGB", (1, 1), COLOUR), "PNG"), Truth((1, 1))),
    "/small/1x2000": (lambda: saved(Image.new("RGB", (1, 2000), COLOUR), "PNG"), Truth((1, 2000))),
}

_BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    # D11: the header is enough to refuse them
    "/bomb/png_1bit": (lambda: png(0, 1, 50_000, 50_000, bytes(6_250)), "too_many_pixels"),
    "/bomb/png_under_2_30": (lambda: png(0, 1, 32_767, 32_767, bytes(4_096)), "too_many_pixels"),
    "/bomb/png_rgba": (lambda: png(6, 8, 9_000, 9_000, bytes(36_000)), "too_many_pixels"),
    "/bomb/png_rgb": (lambda: png(2, 8, 9_000, 9_000, bytes(27_000)), "too_many_pixels"),
    "/bomb/png_line": (lambda: png(0, 1, 1_000_000, 100, bytes(125_000)), "too_many_pixels"),
    "/bomb/jpeg": (vast_jpeg, "too_many_pixels"),
    "/bomb/gif": (vast_gif, "too_many_pixels"),
    # D15: never gray-filled
    "/truncated/jpeg": (lambda: half(saved(noise(), "JPEG")), "decode"),
    "/truncated/png": (lambda: half(saved(noise(), "PNG")), "decode"),
    "/truncated/webp": (lambda: half(saved(noise(), "WEBP")), "decode"),
    "/crc": (bad_crc, "decode"),
    "/garbage": (lambda: np.random.default_rng(1).bytes(20_000), "not_image"),
    "/zeros": (lambda: bytes(20_000), "not_image"),
    "/svg": (lambda: SVG, "not_image"),
    "/svg/xxe": (lambda: XXE, "not_image"),
}

PICTURES: dict[str, Callable[[], bytes]] = {
    path: functools.lru_cache(make) for path, (make, _) in (*_GOOD.items(), *_BAD.items())
}
TRUTH = {path: truth for path, (_, truth) in _GOOD.items()}
REFUSED = {path: outcome for path, (_, outcome) in _BAD.items()}
