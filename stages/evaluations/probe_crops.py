"""What a head is shown in training: crops drawn by a random state that belongs to the picture and the epoch."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from PIL import Image

from stages.batches import permutation
from stages.evaluations.base import Examples, HasTraining
from stages.manifest import ManifestError
from stages.pairs import Pixels, resize

SMALLEST_CROP = 0.08
"""Of a picture's area, as in ImageNet training since Inception (arXiv:1409.4842, section 6)."""
WIDEST = 4 / 3
TRIES = 10
AHEAD = 2
"""Batches made while the model computes; each costs as long as an encoder of the paper's size takes for it."""

T = TypeVar("T")


def training_of(examples: Examples, benchmark: str) -> Examples:
    """Return what a head is trained on before it is measured on `examples`.

    Raises:
        ManifestError: There is nothing, or a single example.
    """
    if not isinstance(examples, HasTraining):
        raise ManifestError(
            f"{benchmark} has no training split, and a head has to be trained before it is measured; "
            "lay the training split beside what is measured"
        )
    training = examples.training()
    if len(training) < 2:
        raise ManifestError(f"the training split of {benchmark} has {len(training)} examples; a head needs two")
    return training


@dataclass(frozen=True)
class Order:
    """Which examples each step trains on: every epoch once through all of them, the rest of an epoch left out."""

    seed: str
    examples: int
    batch_size: int

    @property
    def steps_per_epoch(self) -> int:
        """Return how many whole batches an epoch has."""
        return self.examples // self.batch_size

    def rows(self, step: int) -> list[tuple[int, int]]:
        """Return (epoch, number of the example) for each place of a step's batch."""
        epoch, place = divmod(step, self.steps_per_epoch)
        order = permutation(self.seed, epoch, self.examples)
        chosen = order[place * self.batch_size : (place + 1) * self.batch_size]
        return [(epoch, int(number)) for number in chosen]


def ahead(make: Callable[[int], T], count: int) -> Iterator[T]:
    """Yield what `make` makes of 0 to count - 1, in order, made in one thread ahead of time."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        waiting = deque(thread.submit(make, number) for number in range(min(AHEAD, count)))
        for number in range(AHEAD, count + AHEAD):
            if not waiting:
                return
            done = waiting.popleft()
            if number < count:
                waiting.append(thread.submit(make, number))
            yield done.result()


def crop_box(width: int, height: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Return (left, top, right, bottom) of a random part of a picture, in pixels, by torchvision's rule.

    The part has 8 to 100 % of the area and sides that differ by up to 4:3. Where ten tries do not fit into the
    picture, it is the middle, as large as those sides allow.
    """
    for _ in range(TRIES):
        area = width * height * rng.uniform(SMALLEST_CROP, 1)
        ratio = np.exp(rng.uniform(-1, 1) * np.log(WIDEST))
        across, down = round(float(np.sqrt(area * ratio))), round(float(np.sqrt(area / ratio)))
        if 0 < across <= width and 0 < down <= height:
            left, top = int(rng.integers(width - across + 1)), int(rng.integers(height - down + 1))
            return left, top, left + across, top + down
    across, down = min(width, round(height * WIDEST)), min(height, round(width * WIDEST))
    left, top = (width - across) // 2, (height - down) // 2
    return left, top, left + across, top + down


def random_view(picture: Image.Image, image_size: int, rng: np.random.Generator) -> Pixels:
    """Return a random part of a picture, every other time mirrored, shape (image_size, image_size, 3)."""
    pixels = resize(picture, image_size, crop_box(*picture.size, rng))
    return np.ascontiguousarray(pixels[:, ::-1]) if rng.random() < 0.5 else pixels
