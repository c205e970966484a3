"""Heads that give every pixel a class from what an encoder of patches sees (arXiv:2312.14238, section 4.2).

The linear head says how much one affine map can read off. UperNet (arXiv:1807.10221) looks at four depths of
the encoder at four scales: `FeaturePyramid` makes the scales, of which a plain encoder has only one, and `UperNet`
joins them.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

POOL_SCALES = (1, 2, 3, 6)
"""Sides of the grids into which UperNet pools the coarsest map (arXiv:1612.01105, section 3.2)."""
LEVELS = 4
NORM_EPS = 1e-6
DROPOUT = 0.1
"""Of whole channels before classes are told apart."""
BESIDE_LEVEL, BESIDE_WEIGHT = 2, 0.4
"""Which scale the second head reads, and how much its loss weighs."""

Map = Float[Tensor, "batch channels rows columns"]


def taps(depth: int) -> list[int]:
    """Return the blocks, counted from 1, whose output UperNet sees: the ends of the quarters of the encoder."""
    return [max(1, round(depth * (quarter + 1) / LEVELS)) for quarter in range(LEVELS)]


def patch_map(hidden: Float[Tensor, "batch tokens width"], rows: int, columns: int) -> Map:
    """Return patch tokens as a map of shape (batch, width, rows, columns), without the class token."""
    return torch.as_tensor(hidden[:, 1:].transpose(1, 2).unflatten(2, (rows, columns)))


def enlarged(maps: Map, rows: int, columns: int) -> Map:
    """Return maps of another size, bilinear between the centres of their pixels."""
    return torch.as_tensor(F.interpolate(maps, size=(rows, columns), mode="bilinear", align_corners=False))


def _classifier(channels: int, classes: int) -> nn.Conv2d:
    """Return a 1 x 1 convolution to logits, its weights of a deviation of 0.01 and its biases zero."""
    found = nn.Conv2d(channels, classes, 1)
    nn.init.normal_(found.weight, std=0.01)
    assert found.bias is not None
    nn.init.zeros_(found.bias)
    return found


class LinearSegmenter(nn.Module):
    """Batch norm and a 1 x 1 convolution over one map."""

    def __init__(self, width: int, classes: int) -> None:
        """Allocate, drawn from torch's random state."""
        super().__init__()
        self.norm = nn.BatchNorm2d(width, eps=NORM_EPS)
        self.classify = _classifier(width, classes)

    def forward(self, maps: Sequence[Map]) -> Map:
        """Return logits of shape (batch, classes, rows, columns) of the only map."""
        (only,) = maps
        return torch.as_tensor(self.classify(self.norm(only)))


def _convolution(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    """Return a convolution that keeps the size of its map, with its norm and ReLU."""
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class PlaceNorm(nn.LayerNorm):
    """Layer norm over the channels of each place of a map."""

    def forward(self, maps: Map) -> Map:
        """Return the same shape, (batch, channels, rows, columns)."""
        return super().forward(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _finer(width: int) -> nn.ConvTranspose2d:
    """Return a transposed convolution that doubles both sides of a map."""
    found = nn.ConvTranspose2d(width, width, kernel_size=2, stride=2)
    nn.init.normal_(found.weight, std=(2 / (4 * width)) ** 0.5)
    assert found.bias is not None
    nn.init.zeros_(found.bias)
    return found


class FeaturePyramid(nn.Module):
    """Four maps of one size made into four scales: four times, twice, once and half as fine.

    Transposed convolutions make the finer ones and a maximum over pairs the coarser, as BEiT does it for its
    own encoder (arXiv:2106.08254, section 3.2 and its code), here with a layer norm as in InternVL's released code.
    """

    def __init__(self, width: int) -> None:
        """Allocate, drawn from torch's random state."""
        super().__init__()
        self.scales = nn.ModuleList(
            [
                nn.Sequential(_finer(width), PlaceNorm(width, eps=NORM_EPS), nn.GELU(), _finer(width)),
                _finer(width),
                nn.Identity(),
                nn.MaxPool2d(kernel_size=2, stride=2, ceil_mode=True),
            ]
        )

    def forward(self, maps: Sequence[Map]) -> list[Map]:
        """Return the maps at their scales, the finest first."""
        return [scale(each) for scale, each in zip(self.scales, maps, strict=True)]


class UperNet(nn.Module):
    """UperNet over four taps of a plain encoder.

    While it is trained a second, small head reads one scale alone, and its loss is added with a weight of 0.4
    (arXiv:1612.01105, section 3.3); it says nothing afterwards.

    With an encoder of width w, c channels and k classes it has 12 w^2 + 5 w parameters in the pyramid,
    16 w c + 99 c^2 + 24 c + (c + 1) k in the head and 9 w c + 2 c + (c + 1) k in the second one: 435,376,918 and
    44,470,422 for InternViT-6B, 1536 channels and ADE20K's 150 classes.
    """

    def __init__(self, width: int, classes: int, channels: int) -> None:
        """Allocate, drawn from torch's random state."""
        super().__init__()
        self.pyramid = FeaturePyramid(width)
        self.pooled = nn.ModuleList(_convolution(width, channels, 1) for _ in POOL_SCALES)
        self.bottleneck = _convolution(width + len(POOL_SCALES) * channels, channels, 3)
        self.lateral = nn.ModuleList(_convolution(width, channels, 1) for _ in range(LEVELS - 1))
        self.smooth = nn.ModuleList(_convolution(channels, channels, 3) for _ in range(LEVELS - 1))
        self.join = _convolution(LEVELS * channels, channels, 3)
        self.dropout = nn.Dropout2d(DROPOUT)
        self.classify = _classifier(channels, classes)
        self.beside = nn.Sequential(
            _convolution(width, channels, 3), nn.Dropout2d(DROPOUT), _classifier(channels, classes)
        )

    def _pool(self, coarsest: Map) -> Map:
        """Return the coarsest map with what whole regions of it look like."""
        rows, columns = coarsest.shape[-2:]
        regions = [
            enlarged(convolution(F.adaptive_avg_pool2d(coarsest, side)), rows, columns)
            for side, convolution in zip(POOL_SCALES, self.pooled, strict=True)
        ]
        return torch.as_tensor(self.bottleneck(torch.cat([coarsest, *regions], dim=1)))

    def forward(self, maps: Sequence[Map]) -> Map:
        """Return logits four times as fine as the encoder's patches.

        Args:
            maps: What the encoder says at its four taps, each of shape (batch, width, rows, columns).
        """
        return self._joined(self.pyramid(maps))

    def both(self, maps: Sequence[Map]) -> tuple[Map, Map]:
        """Return the same logits, and those of the second head, as fine as the scale that it reads."""
        scales = self.pyramid(maps)
        return self._joined(scales), torch.as_tensor(self.beside(scales[BESIDE_LEVEL]))

    def _joined(self, scales: Sequence[Map]) -> Map:
        *finer, coarsest = scales
        levels = [lateral(each) for lateral, each in zip(self.lateral, finer, strict=True)]
        levels.append(self._pool(coarsest))
        for place in range(LEVELS - 1, 0, -1):
            levels[place - 1] = levels[place - 1] + enlarged(levels[place], *levels[place - 1].shape[-2:])
        smooth = [convolution(each) for convolution, each in zip(self.smooth, levels[:-1], strict=True)]
        rows, columns = smooth[0].shape[-2:]
        joined = [smooth[0], *(enlarged(each, rows, columns) for each in (*smooth[1:], levels[-1]))]
        return torch.as_tensor(self.classify(self.dropout(self.join(torch.cat(joined, dim=1)))))


def upernet_parameters(width: int, classes: int, channels: int) -> int:
    """Return the number of UperNet's parameters, of pyramid and both heads, counted on the meta device."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in UperNet(width, classes, channels).parameters())
