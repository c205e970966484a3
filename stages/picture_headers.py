"""What a body claims to be: its format by magic bytes, its size by its header; nothing is decoded.

A library may set aside memory for a whole picture as soon as it opens one, so these few bytes are read
here, before any library sees the body.
"""

import struct
from collections.abc import Iterator

import numpy as np

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
_NOT_FRAMES = frozenset({0xC4, 0xC8, 0xCC})
"""Markers in the range of JPEG's frame headers that are none: Huffman tables, extensions, arithmetic tables."""
_SCAN = 0xDA
_NEEDED = frozenset({b"IHDR", b"PLTE", b"tRNS", b"eXIf", b"IDAT", b"IEND"})
"""PNG's chunks with pixels, colours, transparency and orientation."""


def sniff(body: bytes) -> str | None:
    """Return the format, one of `FORMATS`, None for anything else; servers' content types are not asked."""
    if body[:3] == b"\xff\xd8\xff":
        return "JPEG"
    if body[:8] == b"\x89PNG\r\n\x1a\n":
        return "PNG"
    if body[:4] == b"RIFF" and body[8:12] == b"WEBP":
        return "WEBP"
    if body[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    # Two letters are a weak sign: the header's own length says more.
    if body[:2] == b"BM" and len(body) > 18 and body[14:18] in (b"\x0c\0\0\0", b"(\0\0\0", b"l\0\0\0", b"|\0\0\0"):
        return "BMP"
    return None


def declared_size(body: bytes, kind: str) -> tuple[int, int] | None:
    """Return (width, height) as the header declares them, None where the header does not hold together."""
    try:
        width, height = _READERS[kind](body)
    except (struct.error, ValueError, IndexError):
        return None
    return (width, height) if width > 0 and height > 0 else None


def _png(body: bytes) -> tuple[int, int]:
    if body[12:16] != b"IHDR":
        raise ValueError("the first chunk is no IHDR")
    width, height = struct.unpack(">II", body[16:24])
    return width, height


def without_extras(body: bytes) -> bytes:
    """Return a PNG without the chunks that its pixels do not need, such as texts and profiles that swell.

    Raises:
        struct.error: It ends inside a chunk's head.
    """
    kept, at = [body[:8]], 8
    while at < len(body):
        length, name = struct.unpack(">I4s", body[at : at + 8])
        stop = at + 12 + length
        if name in _NEEDED:
            kept.append(body[at:stop])
        if name == b"IEND":
            break
        at = stop
    return b"".join(kept)


def _gif(body: bytes) -> tuple[int, int]:
    width, height = struct.unpack("<HH", body[6:10])
    return width, height


def _bmp(body: bytes) -> tuple[int, int]:
    if body[14] == 12:
        width, height = struct.unpack("<HH", body[18:22])
    else:
        # A negative height says that rows run from top to bottom.
        width, height = struct.unpack("<ii", body[18:26])
    return width, abs(height)


def _webp(body: bytes) -> tuple[int, int]:
    chunk = body[12:16]
    if chunk == b"VP8X":
        return 1 + int.from_bytes(body[24:27], "little"), 1 + int.from_bytes(body[27:30], "little")
    if chunk == b"VP8L":
        bits = struct.unpack("<I", body[21:25])[0]
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 " and body[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack("<HH", body[26:30])
        return width & 0x3FFF, height & 0x3FFF
    raise ValueError("no picture chunk")


def _segments(body: bytes) -> Iterator[tuple[int, int]]:
    """Yield (marker, where its length stands) of a JPEG's segments, the first scan's header last."""
    at, marker = 2, 0
    while marker != _SCAN:
        if body[at] != 0xFF:
            raise ValueError("no marker where one must be")
        while body[at] == 0xFF:
            at += 1
        marker = body[at]
        at += 1
        # These stand alone; every other one says how long it is.
        if marker != 0x01 and not 0xD0 <= marker <= 0xD9:
            yield marker, at
            at += max(2, struct.unpack(">H", body[at : at + 2])[0])


def _is_frame(marker: int) -> bool:
    return 0xC0 <= marker <= 0xCF and marker not in _NOT_FRAMES


def _jpeg(body: bytes) -> tuple[int, int]:
    for marker, at in _segments(body):
        if _is_frame(marker):
            height, width = struct.unpack(">HH", body[at + 3 : at + 7])
            return width, height
    raise ValueError("no frame header before the pixels")


def scans(body: bytes, kind: str) -> int:
    """Return an upper bound of how often a decoder goes over the whole picture: once for most.

    A progressive JPEG, or one whose first scan holds only some of its components, may repeat its scans
    thousands of times. Inside of a scan the two bytes of the marker cannot occur.
    """
    if kind != "JPEG":
        return 1
    components, once = 0, False
    for marker, at in _segments(body):
        if _is_frame(marker):
            components, once = body[at + 7], marker in (0xC0, 0xC1)
        elif marker == _SCAN:
            once = once and body[at + 2] == components
    if once:
        return 1
    data = np.frombuffer(body, np.uint8)
    return max(1, int(np.count_nonzero((data[:-1] == 0xFF) & (data[1:] == _SCAN))))


_READERS = {"PNG": _png, "GIF": _gif, "BMP": _bmp, "WEBP": _webp, "JPEG": _jpeg}
