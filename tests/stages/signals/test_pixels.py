"""Facts of pixels against naive loops, and what cannot be read."""

import io
import math
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from stages.signals.pixels import facts_of, part_facts
from stages.tars import tar_bytes


def jpeg(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=95)
    return out.getvalue()


@pytest.mark.parametrize("shape", [(9, 7), (3, 3), (2, 5), (1, 1)])
def test_facts_are_those_of_naive_loops(shape: tuple[int, int]) -> None:
    gray = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    rows = gray.astype(float).tolist()
    height, width = shape
    edges = [
        rows[y - 1][x] + rows[y + 1][x] + rows[y][x - 1] + rows[y][x + 1] - 4 * rows[y][x]
        for y in range(1, height - 1)
        for x in range(1, width - 1)
    ]
    shares = [count / gray.size for count in Counter(gray.ravel().tolist()).values()]
    found = facts_of(gray)
    assert found.entropy == pytest.approx(-sum(share * math.log2(share) for share in shares))
    assert found.sharpness == pytest.approx(np.var(edges) if edges else 0.0)
    assert found.gray_variance == pytest.approx(np.var(gray.astype(float)))


def test_a_flat_picture_has_no_entropy_and_a_blurred_one_is_less_sharp() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8))
    blurred = noise.resize((4, 4)).resize((32, 32), Image.Resampling.BICUBIC)
    assert facts_of(np.full((8, 8, 3), 90, np.uint8)) == (0, 0, 0)
    assert facts_of(np.asarray(blurred)).sharpness < facts_of(np.asarray(noise)).sharpness / 10


def test_what_cannot_be_read_is_null_and_stops_nobody() -> None:
    good = jpeg(np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8))
    tar = tar_bytes([("a", {"jpg": good}), ("b", {"jpg": b"no picture"}), ("c", {"txt": b"no picture at all"})])
    found = part_facts(tar, ["a", "b", "c", "d"])
    assert np.isfinite(found["entropy"]).tolist() == [True, False, False, False]
    assert part_facts(tar_bytes([]), [])["sharpness"].shape == (0,)
