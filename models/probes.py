"""A linear probe: what can be read off a frozen encoder by one affine map (arXiv:2312.14238, section 4.2)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.layers import Linear

NORM_EPS = 1e-6


def class_and_mean(hidden: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch twice"]:
    """Return the class token beside the mean of the patch tokens, shape (batch, 2 width): 6400 numbers at 6B."""
    return torch.cat([hidden[:, 0], hidden[:, 1:].mean(dim=1)], dim=-1)


class LinearProbe(nn.Module):
    """Batch norm and one linear layer.

    The norm makes features of all scales alike, so that one learning rate serves every encoder. Over several
    processes it is SyncBatchNorm, as in the paper; in one process both are the same.
    """

    def __init__(self, width: int, classes: int) -> None:
        """Start with weights of a deviation of 0.01, drawn from torch's random state, and biases of zero."""
        super().__init__()
        self.norm = nn.BatchNorm1d(width, eps=NORM_EPS)
        self.head = Linear(width, classes)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, features: Float[Tensor, "batch width"]) -> Float[Tensor, "batch classes"]:
        """Return logits; in training the norm uses the batch's own mean and variance."""
        return torch.as_tensor(self.head(self.norm(features)))

    @torch.no_grad()
    def affine(self) -> Float[Tensor, "classes columns"]:
        """Return the probe, as it is outside training, as one affine map in double precision.

        Returns:
            Shape (classes, width + 1); the last column is the bias.
        """
        norm = self.norm
        assert norm.running_mean is not None and norm.running_var is not None
        scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        weight = self.head.weight.double()
        shift = norm.bias.double() - norm.running_mean.double() * scale
        return torch.cat([weight * scale, (self.head.bias.double() + weight @ shift)[:, None]], dim=1)
