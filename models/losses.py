"""Losses that are means over rows or tokens, and the exchange of rows between processes.

A training loop averages gradients over its processes. Each loss here is therefore the process's
share of one global loss: the mean of the shares over processes is what one process with the whole
batch would have computed. Where a step comes in micro batches, `total` says over how many units of
the step a process's shares are a mean, and the shares of its micro batches add up.
"""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float, Int, Real, Shaped
from torch import Tensor

from models.layers import wide

IGNORE = -100


def processes() -> int:
    """Return how many processes train together; 1 where none was started."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def stacked(local: Shaped[Tensor, " rows *row"]) -> Shaped[Tensor, " all_rows *row"]:
    """Return the rows of all processes in the order of their ranks, without gradient; see `gather`."""
    if processes() == 1:
        return local
    whole = local.new_empty(processes() * local.shape[0], *local.shape[1:])
    dist.all_gather_into_tensor(whole, local.contiguous())
    return whole


def own_sum(whole: Shaped[Tensor, " all_rows *row"]) -> Shaped[Tensor, " rows *row"]:
    """Return the sum over processes of this one's rows, the transpose of `stacked`."""
    if processes() == 1:
        return whole
    # Each process needs the sum for its own rows alone: a world's size fewer bytes than all of it.
    own = whole.new_empty(whole.shape[0] // processes(), *whole.shape[1:])
    dist.reduce_scatter_tensor(own, whole.contiguous())
    return own


class _Gather(torch.autograd.Function):
    """Stack the rows of all processes; the gradient of a row comes from the losses of all of them."""

    @staticmethod
    def forward(context: Any, local: Shaped[Tensor, " rows *row"]) -> Shaped[Tensor, " all_rows *row"]:
        return stacked(local)

    @staticmethod
    def backward(context: Any, *gradients: Float[Tensor, " all_rows *row"]) -> Float[Tensor, " rows *row"]:
        return own_sum(gradients[0])


def gather(local: Shaped[Tensor, " rows *row"]) -> Shaped[Tensor, " all_rows *row"]:
    """Return the rows of all processes in the order of their ranks, with gradient; plain on one process.

    Args:
        local: This process's rows, of equal shape on all of them (`same_rows` makes sure): (rows, ...).

    Returns:
        Shape (processes * rows, ...).
    """
    if processes() == 1:
        return local
    return torch.as_tensor(_Gather.apply(local))


def same_rows(rows: int, device: torch.device) -> None:
    """Refuse, on all processes alike, a batch that gives them unequal numbers of rows.

    Raises:
        ValueError: Some process has more rows than another; gathering them would hang or weigh them wrongly.
    """
    if processes() == 1:
        return
    found = stacked(torch.tensor([rows], device=device)).tolist()
    if len(set(found)) > 1:
        raise ValueError(
            f"processes hold {found} rows of one batch, and a contrast needs as many on each; "
            "choose a global batch that divides by the processes and drop the last incomplete one"
        )


def shared(total: Float[Tensor, ""], units: Real[Tensor, ""], given: Float[Tensor, ""] | None) -> Float[Tensor, ""]:
    """Return this process's share of a global mean: 0 where the whole step has no unit.

    Args:
        total: Sum over this process's units.
        units: How many they are, or their weights together.
        given: Units of the step divided by the number of processes; asked of the processes when left out.
    """
    if given is None:
        given = units.to(total.dtype)
        if processes() > 1:
            # Captions differ in length: dividing by the local count would weigh the processes unequally.
            dist.all_reduce(given)
            given = given / processes()
    return total / given.clamp(min=torch.finfo(given.dtype).tiny)


def caption_losses(
    logits: Float[Tensor, "rows tokens vocabulary"], labels: Int[Tensor, "rows tokens"]
) -> Float[Tensor, " rows"]:
    """Return each row's sum of next-token losses; asks no other process.

    Args:
        logits: Shape (rows, tokens, vocabulary).
        labels: The tokens themselves, shape (rows, tokens); -100 where nothing is to be learned.
    """
    wanted = labels[:, 1:]
    words = logits[:, :-1].flatten(0, 1)
    wrong = F.cross_entropy(wide(words), wanted.flatten(), ignore_index=IGNORE, reduction="none")
    return wrong.view(wanted.shape).sum(dim=1)


def labelled(labels: Int[Tensor, "rows tokens"]) -> Int[Tensor, " rows"]:
    """Return how many tokens of each row `caption_losses` learns from: the first of a row follows nothing."""
    return (labels[:, 1:] != IGNORE).sum(dim=1)
