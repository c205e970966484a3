"""What InternViT's first block is given: patches, a class token and learned positions."""

from contextlib import nullcontext

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from models.config import VisionConfig
from models.layers import linear


def patches_of(
    pictures: Float[Tensor, "batch channels height width"], patch_size: int
) -> Float[Tensor, "batch patches channels*{patch_size}*{patch_size}"]:
    """Return the pixels of each patch, row by row of the picture: shape (batch, patches, channels * size^2).

    Raises:
        ValueError: Pictures do not divide into patches.
    """
    batch, channels, height, width = pictures.shape
    if height % patch_size or width % patch_size:
        raise ValueError(f"pictures of {height} x {width} pixels do not divide into patches of {patch_size}")
    rows, columns = height // patch_size, width // patch_size
    tiled = pictures.reshape(batch, channels, rows, patch_size, columns, patch_size)
    return tiled.permute(0, 2, 4, 1, 3, 5).reshape(batch, rows * columns, channels * patch_size**2)


def kept_patches(
    pictures: Float[Tensor, "batch channels height width"], keep: Bool[Tensor, "batch rows columns"], patch_size: int
) -> Float[Tensor, "batch kept values"]:
    """Return the pixels of the patches that are kept, in order; what is masked need not travel to the model.

    Args:
        pictures: Shape (batch, channels, height, width).
        keep: Which patches are kept, equally many of each picture, shape (batch, rows, columns).
        patch_size: Side of a patch in pixels.
    """
    chosen = patches_of(pictures, patch_size)[keep.flatten(1)]
    return chosen.view(len(pictures), -1, chosen.shape[-1])


def bicubic(places: int, size: int, device: torch.device) -> Float[Tensor, "{size} {places}"]:
    """Return the weights by which bicubic interpolation makes each of `size` points of `places` points.

    A product with them has a gradient that adds up in one order; that of PyTorch's own on a GPU does not.
    """
    one_each = torch.eye(places, device=device)[None, :, :, None]
    return F.interpolate(one_each, size=(size, 1), mode="bicubic", align_corners=False)[0, :, :, 0].t()


class InternVisionEmbeddings(nn.Module):
    """Patches, a class token and learned positions."""

    def __init__(self, config: VisionConfig) -> None:
        """Allocate for `config.image_size`."""
        super().__init__()
        self.config = config
        self.image_size = config.image_size
        self.class_embedding = nn.Parameter(torch.empty(1, 1, config.hidden_size))
        self.patch_embedding = nn.Conv2d(
            config.num_channels, config.hidden_size, config.patch_size, stride=config.patch_size
        )
        self.position_embedding = nn.Parameter(torch.empty(1, config.grid**2 + 1, config.hidden_size))
        for tokens in (self.class_embedding, self.position_embedding):
            nn.init.trunc_normal_(tokens, std=0.02)

    def positions(self, rows: int, columns: int) -> Float[Tensor, "1 1+{rows}*{columns} width"]:
        """Return positions for a grid of patches, interpolated in fp32 where it is not the trained one."""
        grid = self.image_size // self.config.patch_size
        if (rows, columns) == (grid, grid):
            return self.position_embedding
        first, rest = self.position_embedding[:, :1], self.position_embedding[:, 1:]
        square = rest.float().view(grid, grid, -1)
        # On the meta device, where costs are counted, there is no autocast to leave.
        with nullcontext() if rest.is_meta else torch.autocast(rest.device.type, enabled=False):
            along, across = (bicubic(grid, size, rest.device) for size in (rows, columns))
            resized = torch.einsum("cj,rjw->rcw", across, torch.einsum("ri,ijw->rjw", along, square))
        return torch.cat([first, resized.reshape(1, rows * columns, -1).to(rest.dtype)], dim=1)

    def forward(
        self,
        pixel_values: Float[Tensor, "batch channels height width"] | Float[Tensor, "batch kept values"],
        keep_patches: Bool[Tensor, "batch rows columns"] | None = None,
    ) -> Float[Tensor, "batch tokens hidden_size"]:
        """Return (batch, 1 + patches, width).

        Args:
            pixel_values: Pictures; or, with `keep_patches`, the pixels of these patches as `kept_patches` gives them.
            keep_patches: Where in its picture each of the given patches lies. Masked patches cost nothing here:
                they take part in no product (FLIP, arXiv:2212.00794).

        Raises:
            ValueError: Pictures do not divide into patches, or masked ones are not given as patches.
        """
        if (keep_patches is None) != (pixel_values.ndim == 4):
            raise ValueError(
                f"pixel_values have the shape {tuple(pixel_values.shape)}; masked pictures are given as the patches "
                "that are kept (batch, kept, values) together with keep_patches, whole ones as pictures without it"
            )
        if keep_patches is None:
            size = self.config.patch_size
            patches = patches_of(pixel_values, size)
            positions = self.positions(pixel_values.shape[2] // size, pixel_values.shape[3] // size)
            places = positions[:, 1:]
        else:
            patches = pixel_values
            positions = self.positions(*keep_patches.shape[1:])
            # A stable sort lists the kept places in order; how many there are is known from the patches, so a
            # GPU need not be waited for.
            order = keep_patches.flatten(1).byte().argsort(dim=1, descending=True, stable=True)
            places = F.embedding(order[:, : patches.shape[1]], positions[0, 1:])
        # A convolution with stride equal to its kernel is one matrix product over patches.
        tokens = linear(patches, self.patch_embedding.weight.flatten(1), self.patch_embedding.bias) + places
        first = (self.class_embedding + positions[:, :1]).expand(len(tokens), -1, -1)
        return torch.cat([first.to(tokens.dtype), tokens], dim=1)
