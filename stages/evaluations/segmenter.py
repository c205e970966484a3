"""A segmenter: what an encoder sees of each patch, a head over it, and windows that slide over large pictures."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from models.intern_vit import InternVisionModel
from models.segmentation_heads import BESIDE_WEIGHT, UperNet, enlarged, patch_map
from models.vision_embeddings import patches_of
from stages.evaluations.encoders import precision
from stages.evaluations.segment_crops import short_side
from stages.pairs import normalise

See = Callable[[Tensor, Tensor | None], list[Tensor]]
"""From normalised pictures and their noise (for stochastic depth) to the maps that a head reads."""


@dataclass(frozen=True)
class Segmenter:
    """An encoder and the head over it."""

    see: See
    head: nn.Module
    encoder: InternVisionModel | None = None
    """Where it is trained too."""

    def logits(self, pixels: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return logits in float32, one per class and pixel, shape (batch, classes, height, width)."""
        with precision(pixels.device):
            found = self.head(self.see(pixels, noise))
        return enlarged(found.float(), *pixels.shape[-2:])

    def weighed_logits(self, pixels: Tensor, noise: Tensor) -> list[tuple[float, Tensor]]:
        """Return the same in training, each with the weight of its loss: UperNet has a second head beside it."""
        if not isinstance(self.head, UperNet):
            return [(1.0, self.logits(pixels, noise))]
        with precision(pixels.device):
            first, second = self.head.both(self.see(pixels, noise))
        size = pixels.shape[-2:]
        return [(1.0, enlarged(first.float(), *size)), (BESIDE_WEIGHT, enlarged(second.float(), *size))]

    @property
    def parameters_trained(self) -> int:
        """Return how many numbers are learned."""
        learning = [self.head] if self.encoder is None else [self.head, self.encoder]
        return sum(weight.numel() for module in learning for weight in module.parameters())

    def train(self, on: bool) -> None:
        """Switch to training and back; a frozen encoder is never in training."""
        self.head.train(on)
        if self.encoder is not None:
            self.encoder.train(on)


def seen_by(encoder: InternVisionModel, blocks: Sequence[int], frozen: bool) -> See:
    """Return the outputs of some blocks, counted from 1, as maps."""
    size = encoder.config.patch_size

    def see(pixels: Tensor, noise: Tensor | None) -> list[Tensor]:
        rows, columns = pixels.shape[2] // size, pixels.shape[3] // size
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
            if len(blocks) == 1:
                states = encoder(pixels, noise=noise, only=blocks[0]).hidden_states
            else:
                every = encoder(pixels, noise=noise).hidden_states
                states = tuple(every[block] for block in blocks)
        return [patch_map(state, rows, columns) for state in states]

    return see


def raw_patches(patch_size: int) -> See:
    """Return the pixels of each patch as its features: what an encoder that does nothing sees."""

    def see(pixels: Tensor, noise: Tensor | None) -> list[Tensor]:
        rows, columns = pixels.shape[2] // patch_size, pixels.shape[3] // patch_size
        return [patches_of(pixels, patch_size).transpose(1, 2).unflatten(2, (rows, columns))]

    return see


def windows(length: int, side: int, stride: int) -> Iterator[slice]:
    """Yield where windows lie that cover a length; the last is moved back so that it ends with it."""
    for number in range(max(0, -(-(length - side) // stride)) + 1):
        start = min(number * stride, length - side)
        yield slice(start, start + side)


@torch.no_grad()
def slide(segmenter: Segmenter, pixels: Tensor, side: int, stride: int) -> Tensor:
    """Return logits of one picture, averaged where windows overlap.

    Args:
        segmenter: Out of training.
        pixels: Shape (1, 3, height, width), neither side shorter than a window.
        side: Of the window.
        stride: From a window to the next; one that is no longer than a window leaves nothing out.

    Returns:
        Shape (1, classes, height, width).
    """
    total: Tensor | None = None
    count = pixels.new_zeros(pixels.shape[-2:])
    for down in windows(pixels.shape[2], side, stride):
        for across in windows(pixels.shape[3], side, stride):
            found = segmenter.logits(pixels[:, :, down, across])
            if total is None:
                total = found.new_zeros(1, found.shape[1], *pixels.shape[-2:])
            total[:, :, down, across] += found
            count[down, across] += 1
    assert total is not None
    return total / count


def predict(
    segmenter: Segmenter, picture: Image.Image, side: int, stride: int, device: torch.device
) -> npt.NDArray[np.uint8]:
    """Return the likeliest class of each pixel, uint8 of shape (height, width)."""
    size = short_side(*picture.size, side)
    pixels = normalise([np.asarray(picture.resize(size, Image.Resampling.BILINEAR))]).to(device)
    logits = enlarged(slide(segmenter, pixels, side, stride), picture.height, picture.width)
    return np.asarray(logits[0].argmax(dim=0).to(torch.uint8).cpu().numpy())
