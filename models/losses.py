"""The losses of the contrastive and the generative stage, the same on one process and on many.

A training loop averages gradients over its processes. Each loss here is therefore the process's
share of one global loss: the mean of the shares over processes is what one process with the whole
batch would have computed.
"""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor

IGNORE = -100


def processes() -> int:
    """Return how many processes train together; 1 where none was started."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class _Gather(torch.autograd.Function):
    """Stack the rows of all processes; the gradient of a row comes from the losses of all of them."""

    @staticmethod
    def forward(context: Any, local: Shaped[Tensor, " rows *row"]) -> Shaped[Tensor, " all_rows *row"]:
        context.rows = local.shape[0]
        whole = local.new_empty(dist.get_world_size() * local.shape[0], *local.shape[1:])
        dist.all_gather_into_tensor(whole, local.contiguous())
        return whole

    @staticmethod
    def backward(context: Any, *gradients: Float[Tensor, " all_rows *row"]) -> Float[Tensor, " rows *row"]:
        # Each process needs the sum for its own rows alone: a world's size fewer bytes than all of it.
        own = gradients[0].new_empty(context.rows, *gradients[0].shape[1:])
        dist.reduce_scatter_tensor(own, gradients[0].contiguous())
        return own


def gather(local: Shaped[Tensor, " rows *row"]) -> Shaped[Tensor, " all_rows *row"]:
    """Return the rows of all processes in the order of their ranks, with gradient; plain on one process.

    Args:
        local: This process's rows, of equal shape on all of them: (rows, ...).

    Returns:
        Shape (processes * rows, ...).
    """
    if processes() == 1:
        return local
    return torch.as_tensor(_Gather.apply(local))


def info_nce(
    image_features: Float[Tensor, "rows embed_dim"],
    text_features: Float[Tensor, "rows embed_dim"],
    scale: Float[Tensor, ""],
    *,
    label_smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """Return the symmetric cross-entropy over similarities (CLIP, arXiv:2103.00020, section 2.3).

    Each process compares its own rows with the columns of all: no process ever holds the square of
    the global batch. Captions that stand twice in a batch need no care: their vectors are equal, so sharing
    the target among them would give the same loss.

    Args:
        image_features: Unit vectors of shape (rows, embed_dim).
        text_features: As `image_features`; row i belongs to picture i.
        scale: What similarities are multiplied with, a scalar.
        label_smoothing: Share of the target spread over all columns.
    """
    rows, first = image_features.shape[0], 0
    both = gather(torch.stack([image_features, text_features], dim=1))
    all_images, all_texts = both[:, 0], both[:, 1]
    if processes() > 1:
        first = dist.get_rank() * rows
    targets = torch.arange(first, first + rows, device=image_features.device)
    # In single precision whatever the model's: a hundred times a cosine leaves bfloat16 few digits.
    forth = scale.float() * image_features.float() @ all_texts.float().T
    back = scale.float() * text_features.float() @ all_images.float().T
    losses = [F.cross_entropy(logits, targets, label_smoothing=label_smoothing) for logits in (forth, back)]
    return (losses[0] + losses[1]) / 2


def matching_loss(logits: Float[Tensor, "rows 2"], labels: Int[Tensor, " rows"]) -> Float[Tensor, ""]:
    """Return the loss of telling matching pairs (label 1) from others (0)."""
    return F.cross_entropy(logits.float(), labels)


def caption_loss(
    logits: Float[Tensor, "rows tokens vocabulary"], labels: Int[Tensor, "rows tokens"]
) -> Float[Tensor, ""]:
    """Return the mean loss of next tokens over all processes' labelled tokens.

    Args:
        logits: Shape (rows, tokens, vocabulary).
        labels: The tokens themselves, shape (rows, tokens); -100 where nothing is to be learned.
    """
    wanted = labels[:, 1:].flatten()
    total = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), wanted, ignore_index=IGNORE, reduction="sum")
    count = (wanted != IGNORE).sum().float()
    if processes() > 1:
        # Captions differ in length: dividing by the local count would weigh the processes unequally.
        dist.all_reduce(count)
        count = count / processes()
    return total / count.clamp(min=1)
