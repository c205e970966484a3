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
from stages.pairs import number_of

Areas = npt.NDArray[np.int64]
"""Pixels of each class (row) that were taken for each (column); one such table per picture, or their sum."""


def areas(predicted: Mask, mask: Mask, classes: int) -> Areas:
    """Return how many pixels of each class (row) were taken for each (column), shape (classes, classes)."""
    counted = mask != IGNORED
    both = mask[counted].astype(np.int64) * classes + predicted[counted]
    return np.bincount(both, minlength=classes**2).reshape(classes, classes)


def _parts(tables: Areas) -> tuple[Floats, Floats]:
    """Return intersections and unions of each picture and class, both (pictures, classes), of (pictures, c, c)."""
    same = np.einsum("ncc->nc", tables)
    return same.astype(np.float64), (tables.sum(axis=1) + tables.sum(axis=2) - same).astype(np.float64)


def measures_of(benchmark: str, name: str, tables: Areas) -> list[Measure]:
    """Return mIoU and pixel accuracy of one segmenter; chance is the commonest class everywhere.

    Classes that are neither there nor predicted anywhere do not count.

    Args:
        benchmark: Name of the benchmark.
        name: Of the segmenter.
        tables: Shape (pictures, classes, classes).
    """
    prefix = "" if name == MEASURED else f"{name}_"
    same, union = _parts(tables)
    there = tables.sum(axis=(0, 2))
    share = float(there.max() / there.sum())
    return [
        ratio_measure(benchmark, "en", f"{prefix}miou", same, union, chance=share / int((there > 0).sum())),
        ratio_measure(
            benchmark, "en", f"{prefix}pixel_accuracy", same.sum(axis=1), tables.sum(axis=(1, 2)), chance=share
        ),
    ]


def class_measures(benchmark: str, names: Sequence[str], tables: Areas) -> list[Measure]:
    """Return the IoU of each class that is there or predicted; chance is to predict it everywhere."""
    same, union = _parts(tables)
    there = tables.sum(axis=(0, 2))
    return [
        ratio_measure(
            benchmark,
            "en",
            f"iou_{name}",
            same[:, number],
            union[:, number],
            chance=float(there[number] / there.sum()),
        )
        for number, name in enumerate(names)
        if union[:, number].any()
    ]


def parts_by_name(names: Sequence[str], tables: Areas) -> dict[str, list[float]]:
    """Return what all measures are made of, one value per picture: intersections and unions, pixels and right ones.

    mIoU is the mean over classes of the sums of `intersection_<class>` divided by those of `union_<class>`.
    """
    same, union = _parts(tables)
    found = {"pixels_right": same.sum(axis=1).tolist(), "pixels": tables.sum(axis=(1, 2)).astype(float).tolist()}
    for number, name in enumerate(names):
        found[f"intersection_{name}"] = same[:, number].tolist()
        found[f"union_{name}"] = union[:, number].tolist()
    return found


def ratios_by_name(names: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
    """Return which of `parts_by_name` each measure is made of."""
    each = {f"iou_{name}": [(f"intersection_{name}", f"union_{name}")] for name in names}
    return {"miou": [pair for (pair,) in each.values()], "pixel_accuracy": [("pixels_right", "pixels")], **each}


def painted(picture: Image.Image, mask: Mask) -> Image.Image:
    """Return a picture with each class in a colour of its own over it; grey where nothing counts."""
    numbers = np.arange(256)
    # The golden angle sets the hues of neighbouring numbers far apart; every third is darker.
    hue, value = (numbers * 0.618034) % 1 * 255, 255 - numbers % 3 * 70
    palette = np.stack([hue, np.full(256, 200), value], axis=1).astype(np.uint8)
    colours = np.asarray(Image.fromarray(palette[None], "HSV").convert("RGB"))[0].copy()
    colours[IGNORED] = 128
    return Image.blend(picture, Image.fromarray(colours[mask]), 0.5)


def shown_of(examples: Examples, count: int) -> list[int]:
    """Return the examples that a hash of their keys puts first: the same whatever a model makes of them.

    In the order of the keys themselves frames of one video stand together.
    """
    return sorted(range(len(examples)), key=lambda number: number_of(examples.key(number).encode()))[:count]


def pictured(examples: Examples, names: Sequence[str], tables: Areas, predicted: Mapping[int, Mask]) -> list[Example]:
    """Return pictures under their true masks, each followed by the same under what was predicted."""
    found = []
    for number, guess in sorted(predicted.items()):
        picture, mask = read(examples, number, len(names))
        right = np.trace(tables[number]) / max(1, tables[number].sum())
        shows = ", ".join(names[int(each)] for each in np.unique(mask[mask != IGNORED]))
        truth = [("mask", "truth"), ("shows", shows), ("example", examples.key(number))]
        said = [("mask", "predicted"), ("pixels right", f"{100 * right:.1f} %"), ("example", examples.key(number))]
        found += [Example("Masks", painted(picture, mask), truth), Example("Masks", painted(picture, guess), said)]
    return found
