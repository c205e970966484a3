"""The pairwise sigmoid loss: every pair is judged by itself (SigLIP, arXiv:2303.15343)."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.layers import wide
from models.losses import stacked
from models.pair_blocks import Block, Contrast, Pairing, Walk, meters, pulled

LOGIT_BIAS = -10.0
"""First value of the learned bias (arXiv:2303.15343, section 3.2): nearly all pairs are wrong ones."""


class _Sigmoid(torch.autograd.Function):
    """Loss of each own picture with everyone's texts, shape (rows,), and the meters' findings."""

    @staticmethod
    def forward(
        context: Any, image_features: Tensor, text_features: Tensor, scale: Tensor, bias: Tensor, pairing: Pairing
    ) -> tuple[Tensor, Tensor, Tensor]:
        texts = stacked(text_features)
        images = wide(image_features)
        factor = scale.to(images.dtype)
        losses, walk = images.new_zeros(pairing.rows), Walk(pairing, images)
        for block in pairing.blocks():
            logits = block.logits(images, texts, factor, bias.to(images.dtype))
            logits[block.right] *= -1
            losses -= F.logsigmoid(-logits).sum(dim=1)
            walk.see(block, logits)
        context.save_for_backward(image_features, texts, scale, bias)
        context.pairing = pairing
        hardest = (walk.hardest - bias) / factor
        context.mark_non_differentiable(hardest, walk.hidden)
        return losses, hardest, walk.hidden

    @staticmethod
    @once_differentiable
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        image_features, texts, scale, bias = context.saved_tensors
        by_row = gradients[0]
        images, factor = image_features.to(by_row.dtype), scale.to(by_row.dtype)
        to_bias = by_row.new_zeros(())

        def slopes(block: Block) -> Tensor:
            logits = block.logits(images, texts, factor, bias.to(images.dtype))
            logits[block.right] *= -1
            slope = logits.sigmoid_()
            slope[block.right] *= -1
            slope *= by_row[:, None]
            to_bias.add_(slope.sum())
            return slope

        with torch.autocast(images.device.type, enabled=False):
            found = pulled(context.pairing, images, texts, factor, slopes, context.needs_input_grad[1])
        to_images, to_texts, to_scale = found
        return (
            to_images.to(image_features.dtype),
            None if to_texts is None else to_texts.to(texts.dtype),
            to_scale.to(scale.dtype),
            to_bias.to(bias.dtype),
            None,
        )


def sigmoid_loss(
    image_features: Float[Tensor, "rows embed_dim"],
    text_features: Float[Tensor, "rows embed_dim"],
    scale: Float[Tensor, ""],
    bias: Float[Tensor, ""],
    *,
    image_ids: Int[Tensor, " rows"] | None = None,
    caption_ids: Int[Tensor, " rows"] | None = None,
    soft_targets: bool = False,
    columns: int | None = None,
) -> Contrast:
    """Return the sum over texts and mean over pictures of the losses of telling right pairs from wrong ones.

    Args:
        image_features: See `models.contrastive_loss.info_nce`, as all that is not named here.
        text_features: Row i belongs to picture i.
        scale: What similarities are multiplied with, a scalar.
        bias: What is added to them then, a scalar.
        image_ids: Wrong pairs that share one are left out.
        caption_ids: As `image_ids`.
        soft_targets: All pairs of equal pictures are right.
        columns: Texts in a block of the walk.

    Raises:
        ValueError: Processes hold unequal numbers of rows; soft targets without `image_ids`.
    """
    pairing = Pairing.of(image_features, image_ids, caption_ids, soft_targets, columns)
    with torch.autocast(image_features.device.type, enabled=False):
        losses, hardest, hidden = _Sigmoid.apply(image_features, text_features, scale, bias, pairing)
    found = meters(image_features, text_features, hardest, hidden)
    return Contrast(losses.mean(), losses.detach(), found)
