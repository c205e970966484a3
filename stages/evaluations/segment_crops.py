"""Pictures with their masks as a segmenter is trained on them: scaled, cropped, mirrored, their colours moved.

This is what published ADE20K numbers are trained with (mmsegmentation's standard pipeline): scale by 0.5 to 2, no
crop of which one class has more than 75 % where another can be found, flip, photometric distortion.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.preprocess import IMAGENET_MEAN
from stages.evaluations.base import Examples
from stages.manifest import ManifestError
from stages.pairs import Pixels

IGNORED = 255
SCALES = (0.5, 2.0)
LARGEST_SHARE = 0.75
"""Of one class among a crop's labelled pixels."""
TRIES = 10
BRIGHTNESS, CONTRAST, HUE = 32.0, 0.5, 18.0
"""Most that colours move: of 255, of the factor 1, of 180 degrees / 180; each with one chance in two."""

MEAN_COLOUR = np.round(255 * np.array(IMAGENET_MEAN)).astype(np.uint8)
"""Fills what lies outside of a picture: nearly zero for the encoder."""

Mask = npt.NDArray[np.uint8]


class Labelled(NamedTuple):
    """A picture and the class of each of its pixels."""

    pixels: Pixels
    """Shape (height, width, 3)."""
    mask: Mask
    """Shape (height, width)."""


def read(examples: Examples, number: int, classes: int) -> tuple[Image.Image, Mask]:
    """Return a picture in RGB and its mask.

    Raises:
        ManifestError: They do not lie on each other, or a class is none of the dataset's.
    """
    picture, mask = examples.pictures(number)[0].convert("RGB"), examples.mask(number)
    if mask.shape != (picture.height, picture.width):
        raise ManifestError(
            f"example {examples.key(number)}: its mask has {mask.shape[1]} x {mask.shape[0]} pixels and its picture "
            f"{picture.width} x {picture.height}; take the mask that belongs to it"
        )
    strange = mask[(mask >= classes) & (mask != IGNORED)]
    if strange.size:
        raise ManifestError(
            f"example {examples.key(number)}: its mask has the class {int(strange.max())}, and classes go from 0 to "
            f"{classes - 1}; name all classes, or make it {IGNORED}, which counts nowhere"
        )
    return picture, mask


def classes_of(examples: Examples, training: Examples, benchmark: str) -> list[str]:
    """Return the names of the classes; numbers, where the data name none.

    Raises:
        ManifestError: What is measured and what is learned from have other classes, or there are fewer than two.
    """
    if list(examples.classes) != list(training.classes):
        raise ManifestError(
            f"{benchmark} has {len(examples.classes)} classes and its training split {len(training.classes)}, or in "
            "another order; take both splits of one dataset"
        )
    found = list(examples.classes)
    if not found:
        masks = (training.mask(number) for number in range(len(training)))
        found = [
            f"class {number}"
            for number in range(1 + max(int(mask[mask != IGNORED].max(initial=0)) for mask in masks))
        ]
    if len(found) < 2:
        raise ManifestError(f"{benchmark} has {len(found)} classes; a segmenter tells two at least from each other")
    return found


def short_side(width: int, height: int, side: int) -> tuple[int, int]:
    """Return (width, height) of a picture whose shorter side is made `side`, in its own proportions."""
    scale = side / min(width, height)
    return max(side, round(width * scale)), max(side, round(height * scale))


def training_crop(picture: Image.Image, mask: Mask, side: int, rng: np.random.Generator) -> Labelled:
    """Return a square of `side` pixels of a picture at a random scale; what lies outside of it counts nowhere."""
    size = short_side(*picture.size, max(1, round(side * rng.uniform(*SCALES))))
    pixels = np.asarray(picture.resize(size, Image.Resampling.BILINEAR))
    classes = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
    place = _place(classes, side, rng)
    pixels, classes = pixels[place], classes[place]
    if rng.random() < 0.5:
        pixels, classes = pixels[:, ::-1], classes[:, ::-1]
    pixels = _recoloured(pixels, rng)
    below, beside = side - classes.shape[0], side - classes.shape[1]
    room = np.broadcast_to(MEAN_COLOUR, (side, side, 3)).copy()
    room[: side - below, : side - beside] = pixels
    return Labelled(
        room,
        np.pad(classes, ((0, below), (0, beside)), constant_values=IGNORED),
    )


def _place(classes: Mask, side: int, rng: np.random.Generator) -> tuple[slice, slice]:
    """Return where to crop: the first of ten places where no class has nearly everything, else the last."""
    room = [max(0, length - side) for length in classes.shape]
    for _ in range(TRIES):
        top, left = (int(rng.integers(free + 1)) for free in room)
        place = slice(top, top + side), slice(left, left + side)
        counts = np.bincount(classes[place].ravel(), minlength=256)[:IGNORED]
        if (counts > 0).sum() > 1 and counts.max() < LARGEST_SHARE * counts.sum():
            break
    return place


def _recoloured(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Move brightness, contrast, saturation and hue, each every other time."""
    brighter, contrast, saturation, hue = rng.random(4) < 0.5
    moved = pixels.astype(np.float32)
    if brighter:
        moved += rng.uniform(-BRIGHTNESS, BRIGHTNESS)
    if contrast:
        moved *= rng.uniform(1 - CONTRAST, 1 + CONTRAST)
    if saturation:
        grey = moved @ np.array([0.299, 0.587, 0.114], np.float32)
        moved = grey[..., None] + (moved - grey[..., None]) * np.float32(rng.uniform(1 - CONTRAST, 1 + CONTRAST))
    found = moved.clip(0, 255).astype(np.uint8)
    if hue:
        turned = np.asarray(Image.fromarray(found).convert("HSV")).copy()
        turned[..., 0] += np.uint8(int(rng.uniform(-HUE, HUE) / 180 * 256) % 256)
        found = np.asarray(Image.fromarray(turned, "HSV").convert("RGB"))
    return found
