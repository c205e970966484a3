"""What a stored picture's pixels say without a model: entropy, sharpness, gray variance."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from stages.pictures import MAX_SIDE, PictureError, Pixels, decode
from stages.tars import read_tar


class Facts(NamedTuple):
    """Facts of one picture in 8-bit gray."""

    entropy: float
    """Of the histogram, in bits: 0 for one gray, 8 for all equally often."""
    sharpness: float
    """Variance of the Laplacian: low where a picture is blurred or flat."""
    gray_variance: float


UNREADABLE = Facts(float("nan"), float("nan"), float("nan"))


def facts_of(pixels: Pixels) -> Facts:
    """Return the facts of decoded pixels, gray or RGB."""
    gray = np.asarray(Image.fromarray(pixels).convert("L"))
    shares = np.bincount(gray.ravel(), minlength=256) / gray.size
    some = shares[shares > 0]
    values = gray.astype(np.float32)
    around = values[:-2, 1:-1] + values[2:, 1:-1] + values[1:-1, :-2] + values[1:-1, 2:]
    edges = around - 4 * values[1:-1, 1:-1]
    sharpness = float(edges.var(dtype=np.float64)) if edges.size else 0.0
    return Facts(float(-(some * np.log2(some)).sum()), sharpness, float(values.var(dtype=np.float64)))


def read_facts(image: bytes) -> Facts:
    """Return the facts of an encoded picture; one that cannot be read has none, and stops nobody else."""
    try:
        return facts_of(decode(image, MAX_SIDE * MAX_SIDE).pixels)
    except PictureError:
        return UNREADABLE


def part_facts(tar: bytes, keys: Iterable[str]) -> dict[str, npt.NDArray[np.float32]]:
    """Return the facts of a part's pictures by name, shape (keys,); NaN where there is no readable one."""
    found: Mapping[str, Facts] = {
        key: read_facts(members["jpg"]) for key, members in read_tar(tar) if "jpg" in members
    }
    rows = np.array([found.get(key, UNREADABLE) for key in keys], dtype=np.float32).reshape(-1, len(Facts._fields))
    return {name: rows[:, number] for number, name in enumerate(Facts._fields)}
