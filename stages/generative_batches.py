"""What the generative stage is fed: pictures and tokens of samples, and draws that decide who is judged with whom."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from models.negatives import MINED, OTHER, OWN
from stages.batches import ShardedSamples, generator_of
from stages.held_out import Rows, only_one_picture, stranger
from stages.pairs import Captions, Pictures, Texts, caption_ids, number_of, random_box
from stages.recent import Recent
from stages.training.task import Batch, SampleFacts

TRIES = 20
"""Draws of another caption before a picture is judged with its own."""


@dataclass
class GenerativeBatches:
    """Makes batches of the generative stage: no model, and nothing that depends on processes or micro batches."""

    samples: ShardedSamples
    texts: Texts
    image_size: int
    rows: Rows
    """The samples that are trained on, which batches number from 0; others are never drawn."""
    seed: int
    steps: int
    hard_negatives: float
    """Share of the wrong captions that are mined, by the last step."""
    paired: bool
    """Every picture is judged with a wrong caption (and, by the objective, with its own); otherwise half are."""
    smallest_crop: float
    blind: bool = False
    """Show each row the picture of another sample: what is learned then is learned without looking."""
    captions: Captions = field(init=False)
    pictures: Pictures = field(init=False)
    _image_ids: Recent[int, int] = field(init=False, default_factory=Recent)

    def __post_init__(self) -> None:
        """Read nothing yet."""
        self.captions, self.pictures = Captions(self.samples), Pictures(self.samples, self.image_size)

    def __call__(self, rows: Sequence[int], step: int) -> Batch:
        """Return pictures, three readings of each caption, another caption, and draws, all by row."""
        rows = self.rows[list(rows)].tolist()
        shown = [self._stranger(row) for row in rows] if self.blind else rows
        boxes = None
        if self.smallest_crop < 1:
            boxes = [random_box(generator_of(self.seed, "crop", step, row), self.smallest_crop) for row in rows]
        captions = self.captions.read(rows)
        draws = [self._draw(row, step) for row in rows]
        others = self.captions.read([other for _, _, other in draws])
        prompted = self.texts.prompted(captions, self.captions.languages(rows))
        return {
            "row": torch.tensor(rows),
            "pixel_values": self.pictures.batch(shown, boxes),
            "image_id": torch.tensor([self.image_id(row) for row in shown]),
            "judged": torch.tensor([judged for judged, _, _ in draws]),
            "uniform": torch.tensor(np.array([uniform for _, uniform, _ in draws])),
            "caption_id": caption_ids(captions),
            "other_id": caption_ids(others),
            **_named("summary", self.texts.summaries(captions)),
            **_named("caption", self.texts.plain(captions)),
            **_named("other", self.texts.plain(others)),
            **_named("prompted", prompted[:2]),
            "prompted_labels": prompted[2],
        }

    def facts(self, row: int) -> SampleFacts:
        """Return what a sample is known by."""
        return SampleFacts.of(self.samples, int(self.rows[row]))

    def seen(self, rows: Sequence[int]) -> Batch:
        """Return what the frozen towers read of samples, whole pictures."""
        texts = self.texts.summaries(self.captions.read(rows))
        return {
            "row": torch.tensor(list(rows)),
            "pixel_values": self.pictures.batch(rows),
            **_named("summary", texts),
        }

    def _stranger(self, row: int) -> int:
        """Return the sample whose picture, another one, a blind run shows with this row's texts, at every step.

        Raises:
            ManifestError: All rows show the same picture.
        """
        start = int(generator_of(self.seed, "blind", row).integers(len(self.rows)))
        if (found := stranger(row, self.rows, start, self.samples.told_by)) is None:
            raise only_one_picture(self.samples.name)
        return found

    def _draw(self, row: int, step: int) -> tuple[int, tuple[float, float], int]:
        """Return what a picture is judged with, numbers in [0, 1) that choose who is mined, and another sample."""
        rng = generator_of(self.seed, "match", step, row)
        right, likely, caption, picture = rng.random(4)
        wrong = MINED if likely < self.hard_negatives * step / self.steps else OTHER
        return OWN if right < 0.5 and not self.paired else wrong, (caption, picture), self.another(row, rng)

    def another(self, row: int, rng: np.random.Generator, among: Sequence[int] | None = None) -> int:
        """Return a sample with another caption and another picture; the same one where none was found.

        Args:
            row: The sample.
            rng: Draws.
            among: Samples to draw from; those that are trained on when left out.
        """
        found = self.rows if among is None else among
        for _ in range(TRIES):
            other = int(found[int(rng.integers(len(found)))])
            differs = self.captions.one(other) != self.captions.one(row)
            if differs and self.image_id(other) != self.image_id(row):
                return other
        return row

    def image_id(self, row: int) -> int:
        """Return a number that equal pictures share."""
        return self._image_ids.get(row, lambda row: number_of(self.samples.read(row, "jpg")))


def _named(name: str, texts: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """Return ids and mask under the names of one reading."""
    return dict(zip((f"{name}_input_ids", f"{name}_attention_mask"), texts, strict=True))
