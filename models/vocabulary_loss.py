"""The next-token loss over a large vocabulary, without ever holding the logits of all places.

With 150,000 entries, logits of 16,384 places take 10 GB in float32, and their gradients as much again. Logits are
made for some places at a time and made again in the backward pass, as long as there is more than one such chunk.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

PLACES = 1024
"""Places whose logits are there at once: enough to keep a GPU's matrix units busy."""


class Predicted(NamedTuple):
    """What was predicted at each place."""

    losses: Float[Tensor, " places"]
    right: Bool[Tensor, " places"]


def predicted(head: nn.Module, hidden: Float[Tensor, "places width"], wanted: Int[Tensor, " places"]) -> Predicted:
    """Return each place's cross-entropy, with gradient, and whether the likeliest token was the wanted one.

    Args:
        head: From hidden states to logits; called as a module, as wrappers (FSDP2) want it.
        hidden: Of the places that predict something; others cost nothing.
        wanted: The token that comes next.
    """
    if len(wanted) <= PLACES:
        return Predicted(*_chunk(head, hidden, wanted))
    pieces = zip(hidden.split(PLACES), wanted.split(PLACES), strict=True)
    found = [checkpoint(_chunk, head, *piece, use_reentrant=False, preserve_rng_state=False) for piece in pieces]
    losses, right = zip(*found, strict=True)
    return Predicted(torch.cat(losses), torch.cat(right))


def _chunk(
    head: nn.Module, hidden: Float[Tensor, "places width"], wanted: Int[Tensor, " places"]
) -> tuple[Tensor, Tensor]:
    logits = head(hidden).float()
    return F.cross_entropy(logits, wanted, reduction="none"), logits.argmax(dim=-1) == wanted
