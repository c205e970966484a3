"""Masks of patches, drawn as FLIP draws them (arXiv:2212.00794)."""

import torch
from torch import Tensor


def drawn_patches(pictures: int, grid: int, kept: int, device: torch.device | None = None) -> Tensor:
    """Return which patches are kept, equally many of each picture, booleans of shape (pictures, grid, grid)."""
    places = torch.rand(pictures, grid**2, device=device).topk(kept, dim=1).indices
    keep = torch.zeros(pictures, grid**2, dtype=torch.bool, device=device)
    return keep.scatter_(1, places, True).view(pictures, grid, grid)
