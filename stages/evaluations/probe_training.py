"""Training linear probes: batch norm and a linear layer, by SGD, over features of a frozen encoder."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.probes import LinearProbe
from stages.evaluation_metrics import Floats
from stages.evaluations.encoders import seeded
from stages.manifest import ManifestError
from stages.training.optimizer import set_rates
from stages.training.schedule import Schedule

MOMENTUM = 0.9
SCORED_ROWS = 4096


class Batch(NamedTuple):
    """What one step trains on."""

    features: Mapping[str, Tensor]
    """By encoder, shape (batch, width)."""
    labels: Tensor


def train_probes(
    widths: Mapping[str, int], classes: int, batches: Iterable[Batch], plan: Schedule
) -> dict[str, Floats]:
    """Train one probe per encoder, each with an optimizer of its own, over the same batches.

    Args:
        widths: Of the features, by encoder.
        classes: How many there are.
        batches: One per step of the plan, on the device where training is to be.
        plan: Steps, rates and the seed of the first weights.

    Returns:
        By encoder the probe as an affine map, shape (classes, width + 1), see `LinearProbe.affine`.

    Raises:
        ManifestError: A probe diverged.
    """
    probes: dict[str, LinearProbe] = {}
    optimizers: dict[str, torch.optim.Optimizer] = {}
    for step, (features, labels) in enumerate(batches):
        for name, width in widths.items():
            if name not in probes:
                with seeded(plan.seed):
                    probes[name] = LinearProbe(width, classes).to(labels.device)
                optimizers[name] = torch.optim.SGD(
                    probes[name].parameters(),
                    plan.learning_rate,
                    momentum=MOMENTUM,
                    nesterov=True,  # as in the released code; the paper says momentum alone
                    weight_decay=plan.weight_decay,
                )
            set_rates(optimizers[name], plan.learning_rate * plan.factor(step))
            optimizers[name].zero_grad()
            F.cross_entropy(probes[name](features[name]), labels).backward()
            optimizers[name].step()
    found = {name: np.asarray(probe.eval().affine().cpu().numpy()) for name, probe in probes.items()}
    for name, head in found.items():
        if not np.isfinite(head).all():
            raise ManifestError(
                f"the linear probe on the {name.replace('_', ' ')} diverged at learning rate {plan.learning_rate:g}; "
                "lower learning_rate_per_512"
            )
    return found


def scores(head: Floats, features: Floats, places: Sequence[int]) -> Floats:
    """Return the logits of some of a head's classes, shape (examples, places)."""
    chosen = head[list(places)]
    steps = range(0, len(features), SCORED_ROWS)
    return np.concatenate([features[at : at + SCORED_ROWS] @ chosen[:, :-1].T + chosen[:, -1] for at in steps])
