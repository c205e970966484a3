"""How many frames a body has, by its structure: blocks are stepped over and nothing is decoded."""

import struct
from collections.abc import Iterator

MAX_FRAMES = 1_000
"""More are counted as that many: what is asked is whether a picture moves."""


def frames(body: bytes, kind: str) -> int:
    """Return the frames of a body, 1 to `MAX_FRAMES`; a still picture has one, and so has what breaks off before.

    Args:
        body: What the web sent.
        kind: As `picture_headers.sniff` names it. A JPEG is one picture, whatever previews a camera put beside it.
    """
    counts = {"GIF": _gif, "WEBP": _webp, "PNG": _png}
    if kind not in counts:
        return 1
    found = 0
    try:
        for number in counts[kind](body):
            found += number
            if found >= MAX_FRAMES:
                return MAX_FRAMES
    except (struct.error, IndexError):
        # It is cut or damaged: the frames before that are there.
        pass
    return max(1, found)


def _table(packed: int) -> int:
    """Return the bytes of a GIF's colour table by the field that announces it."""
    return 3 << (packed & 7) + 1 if packed & 0x80 else 0


def _gif(body: bytes) -> Iterator[int]:
    at = 13 + _table(body[10])
    while body[at] != 0x3B:
        if body[at] == 0x2C:
            yield 1
            at += 11 + _table(body[at + 9])
        else:
            at += 2
        # Sub-blocks of at most 255 bytes, each with its size before it, and an empty one behind.
        while body[at]:
            at += 1 + body[at]
        at += 1


def _webp(body: bytes) -> Iterator[int]:
    at = 12
    while at < len(body):
        name, size = struct.unpack("<4sI", body[at : at + 8])
        yield name == b"ANMF"
        at += 8 + size + size % 2


def _png(body: bytes) -> Iterator[int]:
    """Yield what an animation says of its frames: that stands before the pixels."""
    at = 8
    while at < len(body):
        length, name = struct.unpack(">I4s", body[at : at + 8])
        if name == b"acTL":
            yield struct.unpack(">I", body[at + 8 : at + 12])[0]
        if name in (b"acTL", b"IDAT"):
            return
        at += 12 + length
