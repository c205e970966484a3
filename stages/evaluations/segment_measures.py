"""How well predicted masks lie on true ones, and how that looks."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from stages.evaluation_metrics import Floats, Measure, ratio_measure
from stages.evaluation_report import Example
from stages.evaluations.base import Examples
from stages.evaluations.encoders import MEASURED
from stages.evaluations.segment_crops import IGNORED, Mask, read

Areas = npt.NDArray[np.int64]
"""Pixels of each class (row) that were taken for each (column); one such table per picture, or their sum."""


def areas(predicted: Mask, mask: Mask, classes: int) -> npt.NDArray[np.int64]:
    """Return how many pixels of each class (row) were taken for each (column), shape (classes, classes)."""
    counted = mask != IGNORED
    both = mask[counted].astype(np.int64) * classes + predicted[counted]
    return np.bincount(both, minlength=classes**2).reshape(classes, classes)


def _parts(tables: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Return intersections and unions of each picture and class, both (pictures, classes), of (pictures, c, c)."""
    same = np.einsum("ncc->nc", tables)
    return same.astype(np.float64), (tables.sum(axis=1) + tables.sum(axis=2) - same).astype(np.float64)


def _measures(benchmark: str, name: str, tables: npt.NDArray[np.int64]) -> list[Measure]:
    """Return mIoU and pixel accuracy of one segmenter beside those of the commonest class everywhere."""
    prefix = "" if name == MEASURED else f"{name}_"
    same, union = _parts(tables)
    pixels = tables.sum(axis=(1, 2)).astype(np.float64)
    share = float(tables.sum(axis=(0, 2)).max() / pixels.sum())
    shown = int((tables.sum(axis=(0, 2)) > 0).sum())
    return [
        ratio_measure(benchmark, "en", f"{prefix}miou", same, union, chance=share / shown),
        ratio_measure(benchmark, "en", f"{prefix}pixel_accuracy", same.sum(axis=1), pixels, chance=share),
    ]


def painted(picture: Image.Image, mask: Mask) -> Image.Image:
    """Return a picture with each class in a colour of its own over it; grey where nothing counts."""
    numbers = np.arange(256)
    # The golden angle sets the hues of neighbouring numbers far apart; every third is darker.
    hue, value = (numbers * 0.618034) % 1 * 255, 255 - numbers % 3 * 70
    palette = np.stack([hue, np.full(256, 200), value], axis=1).astype(np.uint8)
    colours = np.asarray(Image.fromarray(palette[None], "HSV").convert("RGB"))[0].copy()
    colours[IGNORED] = 128
    return Image.blend(picture, Image.fromarray(colours[mask]), 0.6)


def _beside(picture: Image.Image, *masks: Mask) -> Image.Image:
    """Return a picture, and beside it the same under each of the masks."""
    found = Image.new("RGB", (picture.width * (1 + len(masks)), picture.height))
    for place, each in enumerate([picture, *(painted(picture, mask) for mask in masks)]):
        found.paste(each, (place * picture.width, 0))
    return found


def _examples(
    examples: Examples, tables: npt.NDArray[np.int64], predicted: Mapping[int, Mask], shown: Sequence[int]
) -> list[Example]:
    found = []
    for number in shown:
        picture, mask = read(examples, number)
        right = np.trace(tables[number]) / max(1, tables[number].sum())
        classes = ", ".join(examples.classes[int(each)] for each in np.unique(mask[mask != IGNORED]))
        lines = [
            ("left to right", "picture, truth, prediction"),
            ("pixels right", f"{100 * right:.1f} %"),
            ("shows", classes),
            ("example", examples.key(number)),
        ]
        found.append(Example("Segmentation", _beside(picture, mask, predicted[number]), lines))
    return found
