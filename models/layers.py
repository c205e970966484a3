"""Linear layers and norms that every model shares: the usual formulas, quicker on a CPU in fp32.

Elsewhere (GPUs, half precision, autocast, torch.compile) these are PyTorch's own operations. On a
CPU in fp32 PyTorch sends matrix products to MKL, which on AMD processors runs at half the speed of the
oneDNN kernels that the same PyTorch brings along, and RMSNorm is a chain of passes over memory.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.flop_counter import register_flop_formula

SMALL_PRODUCT = 1 << 21
"""Multiplications below which calling oneDNN costs more than it saves (measured between 0.6 and 4 million)."""

_product = torch.ops.mkldnn._linear_pointwise if torch.backends.mkldnn.is_available() else None

if _product is not None:

    @register_flop_formula(_product)
    def _product_flops(left: Any, right: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
        """Let PyTorch's flop counter see these products too; it hands over shapes."""
        rows = 1
        for size in left[:-1]:
            rows *= size
        return int(2 * rows * left[-1] * right[0])


def _plain_fp32(*tensors: Tensor | None) -> bool:
    """Return whether all are on a CPU in fp32, and neither autocast nor a compiler has its hand on them."""
    given = [each for each in tensors if each is not None]
    fits = all(each.device.type == "cpu" and each.dtype == torch.float32 for each in given)
    return fits and not torch.is_autocast_enabled("cpu") and not torch.compiler.is_compiling()


def _times_transposed(
    left: Float[Tensor, "*batch inner"],
    right: Float[Tensor, "outer inner"],
    bias: Float[Tensor, " outer"] | None = None,
) -> Float[Tensor, "*batch outer"]:
    """Return left right^T + bias by oneDNN, shapes (..., inner) and (outer, inner) to (..., outer)."""
    assert _product is not None
    return torch.as_tensor(_product(left, right, bias, "none", [], ""))


class _Linear(torch.autograd.Function):
    """A linear layer whose three products all go to oneDNN."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Float[Tensor, "*batch inputs"],
        weight: Float[Tensor, "outputs inputs"],
        bias: Float[Tensor, " outputs"] | None,
    ) -> Float[Tensor, "*batch outputs"]:
        ctx.save_for_backward(hidden, weight)
        return _times_transposed(hidden, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight = ctx.saved_tensors
        rows = above.flatten(0, -2)
        below = _times_transposed(above, weight.t()) if ctx.needs_input_grad[0] else None
        by_weight = _times_transposed(rows.t(), hidden.flatten(0, -2).t()) if ctx.needs_input_grad[1] else None
        return below, by_weight, rows.sum(0) if ctx.needs_input_grad[2] else None


def linear(
    hidden: Float[Tensor, "*batch inputs"],
    weight: Float[Tensor, "outputs inputs"],
    bias: Float[Tensor, " outputs"] | None = None,
) -> Float[Tensor, "*batch outputs"]:
    """Return hidden weight^T + bias, shapes (..., inputs) and (outputs, inputs) to (..., outputs)."""
    wanted = _product is not None and torch.backends.mkldnn.enabled
    large = hidden.numel() * weight.shape[0] >= SMALL_PRODUCT and hidden.ndim > 1
    if large and wanted and _plain_fp32(hidden, weight, bias):
        return torch.as_tensor(_Linear.apply(hidden, weight, bias))
    return torch.as_tensor(F.linear(hidden, weight, bias))


class Linear(nn.Linear):
    """`nn.Linear` with the same parameters and numbers, through `linear`."""

    def forward(self, hidden: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        """Return (..., outputs) for (..., inputs)."""
        return linear(hidden, self.weight, self.bias)


def wide(tensor: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return numbers in single precision, or in double where they are."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


class _RMSNorm(torch.autograd.Function):
    """RMSNorm with its derivative written out: two passes over memory instead of nine."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Float[Tensor, "*batch width"], weight: Float[Tensor, " width"], eps: float
    ) -> Float[Tensor, "*batch width"]:
        norm = torch.linalg.vector_norm(hidden, dim=-1, keepdim=True)
        scale = norm.square_().div_(hidden.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(hidden, weight, scale)
        return torch.as_tensor((hidden * scale).mul_(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, scale = ctx.saved_tensors
        # With n = hidden * scale: d/d hidden = scale * (above * weight - n * mean(above * weight * n)).
        normed = hidden * scale
        product = above * normed
        mean = (product @ weight).unsqueeze(-1).div_(-hidden.shape[-1])
        below = (above * weight).addcmul_(normed, mean).mul_(scale)
        return below, product.flatten(0, -2).sum(0) if ctx.needs_input_grad[1] else None, None


class RMSNorm(nn.Module):
    """Normalise by the root mean square in fp32, go back to the input's precision, then scale."""

    def __init__(self, hidden_size: int, eps: float) -> None:
        """Start with a scale of one."""
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size))
        self.eps = eps

    def forward(self, hidden: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        """Return the same shape; the last dimension is normalised."""
        if hidden.ndim > 1 and _plain_fp32(hidden, self.weight):
            return torch.as_tensor(_RMSNorm.apply(hidden, self.weight, self.eps))
        normed = wide(hidden)
        normed = normed * torch.rsqrt(normed.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * normed.to(hidden.dtype)
