"""The k-nearest-neighbour classifier of DINO (arXiv:2104.14294, section 4.1): a probe that trains nothing."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from stages.evaluation_metrics import Floats

TEMPERATURE = 0.07
BLOCK = 512
"""Pictures compared with all of training at once."""


@torch.no_grad()
def neighbour_scores(
    known: Floats, labels: Sequence[int], asked: Floats, classes: int, k: int, device: torch.device
) -> Floats:
    """Return how much the nearest of the known pictures speak for each class.

    Each of the k nearest by cosine adds exp(cosine / 0.07) to its class; numbers are scaled so that a picture at
    distance zero adds 1.

    Args:
        known: Vectors of pictures whose classes are known, shape (known, width).
        labels: Their classes.
        asked: Vectors of others, shape (asked, width).
        classes: How many there are.
        k: How many neighbours vote; all where fewer are known.
        device: Where it is computed.

    Returns:
        Shape (asked, classes); 0 where no neighbour is of a class.
    """
    base = F.normalize(torch.tensor(known, dtype=torch.float32, device=device), dim=1)
    right = torch.tensor(labels, device=device)
    found = []
    for start in range(0, len(asked), BLOCK):
        block = F.normalize(torch.tensor(asked[start : start + BLOCK], dtype=torch.float32, device=device), dim=1)
        near, places = (block @ base.T).topk(min(k, len(base)), dim=1)
        votes = ((near.double() - 1) / TEMPERATURE).exp()
        each = F.one_hot(right[places], classes).double()
        found.append((votes.unsqueeze(2) * each).sum(dim=1).cpu().numpy())
    return np.concatenate(found)
