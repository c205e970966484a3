"""Batches of pictures and captions: what is drawn for a sample is a function of (seed, step, sample) alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.vision_embeddings import kept_patches
from stages.batches import ShardedSamples, generator_of
from stages.held_out import Rows
from stages.noise import noise_of
from stages.pairs import Captions, Pictures, Texts, caption_ids, random_box
from stages.training.task import Batch, SampleFacts


@dataclass(frozen=True)
class View:
    """How pictures are shown at a step.

    Attributes:
        image_size: Side in pixels.
        patch_size: Side of a patch.
        mask_ratio: Share of the patches that is left out.
    """

    image_size: int
    patch_size: int
    mask_ratio: float = 0.0

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.image_size // self.patch_size

    @property
    def kept(self) -> int:
        """Patches that are shown."""
        return max(1, round(self.grid**2 * (1 - self.mask_ratio)))

    def draw(self, rng: np.random.Generator) -> Tensor:
        """Return which patches one picture shows, booleans of shape (grid, grid)."""
        keep = torch.zeros(self.grid**2, dtype=torch.bool)
        keep[torch.from_numpy(rng.permutation(self.grid**2)[: self.kept])] = True
        return keep.view(self.grid, self.grid)


@dataclass(frozen=True)
class Switch:
    """The views of a run: one before a step, another from it on."""

    early: View
    late: View
    step: int

    def __call__(self, step: int) -> View:
        """Return the view of a step."""
        return self.early if step < self.step else self.late


@dataclass(frozen=True)
class Augmentation:
    """What is changed at random about a picture.

    Attributes:
        smallest_crop: Smallest share of a picture that a crop shows; 1 shows all.
        flip: Whether every second picture is mirrored.
    """

    smallest_crop: float = 1.0
    flip: bool = False


class PairBatches:
    """Makes batches of pairs; holds no model, so that data workers can have a copy."""

    def __init__(
        self,
        samples: ShardedSamples,
        texts: Texts,
        views: Callable[[int], View],
        seed: int,
        augmentation: Augmentation | None = None,
        rows: Rows | None = None,
    ) -> None:
        """Read nothing yet.

        Args:
            samples: All samples there are.
            texts: Turns captions into tokens.
            views: How pictures are shown at a step; picklable.
            seed: Decides masks, crops and noise.
            augmentation: What is changed at random; nothing when left out.
            rows: The samples that batches number from 0; all, under their own numbers, when left out.
        """
        self.samples, self.texts, self.views, self.seed = samples, texts, views, seed
        self.augmentation = augmentation or Augmentation()
        self.captions = Captions(samples)
        self.rows, self._pictures = rows, dict[int, Pictures]()

    def pictures(self, image_size: int) -> Pictures:
        """Return the pictures at a size; those of an earlier size are forgotten."""
        if image_size not in self._pictures:
            self._pictures = {image_size: Pictures(self.samples, image_size)}
        return self._pictures[image_size]

    def facts(self, row: int) -> SampleFacts:
        """Return what a sample is known by."""
        return SampleFacts.of(self.samples, row if self.rows is None else int(self.rows[row]))

    def __call__(self, rows: Sequence[int], step: int) -> Batch:
        """Return a batch.

        Returns:
            `pixel_values`: pictures of shape (rows, 3, side, side); where the view masks, only the pixels of kept
            patches (rows, kept, 3 * patch_size^2), and `keep_patches` (rows, grid, grid) says which they are.
            `input_ids` and `attention_mask` of shape (rows, longest). `image_id` and `caption_id` (rows,), equal
            for equal pictures and captions. `noise` (rows,), for stochastic depth.
        """
        view = self.views(step)
        found = rows if self.rows is None else self.rows[list(rows)].tolist()
        captions = self.captions.read(found)
        input_ids, mask = self.texts.summaries(captions)
        pictures = self.pictures(view.image_size)
        batch = {
            "pixel_values": self._pixels(pictures, found, step),
            "input_ids": input_ids,
            "attention_mask": mask,
            "image_id": pictures.ids(found),
            "caption_id": caption_ids(captions),
            "noise": torch.cat([noise_of(self.seed, step, row) for row in found]),
        }
        if view.mask_ratio:
            keep = torch.stack([view.draw(generator_of(self.seed, "mask", step, row)) for row in found])
            batch["pixel_values"] = kept_patches(batch["pixel_values"], keep, view.patch_size)
            batch["keep_patches"] = keep
        return batch

    def _pixels(self, pictures: Pictures, rows: Sequence[int], step: int) -> Tensor:
        smallest, boxes = self.augmentation.smallest_crop, None
        if smallest < 1:
            boxes = [random_box(generator_of(self.seed, "crop", step, row), smallest) for row in rows]
        pixels = pictures.batch(rows, boxes)
        if self.augmentation.flip:
            mirrored = [bool(generator_of(self.seed, "flip", step, row).integers(2)) for row in rows]
            pixels = torch.where(torch.tensor(mirrored).view(-1, 1, 1, 1), pixels.flip(-1), pixels)
        return pixels
