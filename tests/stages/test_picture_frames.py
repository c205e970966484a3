"""Frames are counted by structure, without decoding, and in bounded time."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from stages.picture_frames import MAX_FRAMES, frames
from stages.picture_headers import sniff


def pictures(count: int) -> list[Image.Image]:
    noise = np.random.default_rng(0).integers(0, 256, (count, 9, 11, 3), dtype=np.uint8)
    return [Image.fromarray(each) for each in noise]


def saved(kind: str, count: int) -> bytes:
    first, *more = pictures(count)
    file = io.BytesIO()
    if more:
        first.save(file, kind, save_all=True, append_images=more, duration=40)
    else:
        first.save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_the_frames_of_an_animation_are_counted(kind: str, count: int) -> None:
    body = saved(kind, count)
    assert sniff(body) == kind
    assert frames(body, kind) == count == getattr(Image.open(io.BytesIO(body)), "n_frames", 1)


def test_other_formats_hold_one_picture() -> None:
    assert frames(saved("JPEG", 1), "JPEG") == frames(saved("BMP", 1), "BMP") == 1


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_a_cut_animation_has_the_frames_before_the_cut(kind: str) -> None:
    body = saved(kind, 6)
    found = [frames(body[:size], kind) for size in range(len(body) + 1)]
    assert found == sorted(found) and found[0] == 1 and found[-1] == 6


def test_no_more_than_a_thousand_are_counted() -> None:
    still = saved("GIF", 1)
    block = still[13 + (3 << (still[10] & 7) + 1) : -1]
    assert frames(still[:-1] + block * 2 + b";", "GIF") == 3
    assert frames(still[:-1] + block * 3 * MAX_FRAMES + b";", "GIF") == MAX_FRAMES
    head, claim = saved("PNG", 1)[:33], b"acTL" + struct.pack(">II", 1 << 30, 0)
    swollen = head + struct.pack(">I", 8) + claim + struct.pack(">I", zlib.crc32(claim))
    assert frames(swollen, "PNG") == MAX_FRAMES
