"""Random numbers that travel with a batch: what is drawn for a sample does not depend on who computes it."""

import numpy as np
import torch
from torch import Tensor

from stages.batches import generator_of

_BITS = np.iinfo(np.int64)


def noise_of(seed: int, step: int, row: int, count: int = 1) -> Tensor:
    """Return the 64 random bits of each of a sample's pictures at a step, int64 of shape (count,)."""
    drawn = generator_of(seed, "noise", step, row).integers(_BITS.min, _BITS.max, size=count, endpoint=True)
    return torch.from_numpy(drawn)
