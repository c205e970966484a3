"""Training a segmenter: AdamW, a linear warm-up and a linear fall, cross-entropy over the labelled pixels."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models.learning_rates import LearningRates, decays
from stages.batches import generator_of
from stages.evaluations.base import Examples
from stages.evaluations.encoders import seeded
from stages.evaluations.probe_crops import Order, ahead
from stages.evaluations.segment_crops import IGNORED, Mask, read, training_crop
from stages.evaluations.segmenter import Segmenter
from stages.manifest import ManifestError
from stages.pairs import normalise
from stages.training.optimizer import set_rates


@dataclass(frozen=True)
class Plan:
    """How a segmenter is trained, resolved."""

    iterations: int
    warmup: int
    learning_rate: float
    power: float
    weight_decay: float
    layer_decay: float
    crop_size: int
    batch_size: int
    seed: int

    def factor(self, iteration: int) -> float:
        """Return the learning rate of an iteration as a share of the peak."""
        if iteration < self.warmup:
            return (iteration + 1) / (self.warmup + 1)
        return float((1 - (iteration - self.warmup) / (self.iterations - self.warmup)) ** self.power)


def groups(segmenter: Segmenter, plan: Plan) -> list[dict[str, Any]]:
    """Return what learns in groups of one rate and decay: the head at the full rate, blocks more slowly downwards."""
    named = [(f"head.{name}", weight) for name, weight in segmenter.head.named_parameters()]
    depth = 0
    if segmenter.encoder is not None:
        depth = segmenter.encoder.config.num_hidden_layers
        named += [(f"vision_model.{name}", weight) for name, weight in segmenter.encoder.named_parameters()]
    rates = LearningRates(vision_layers=depth, text_layers=0, layer_decay=plan.layer_decay)
    found: dict[tuple[float, float], list[Tensor]] = {}
    for name, weight in named:
        scale = 1.0 if name.startswith("head.") else rates.of(name)
        found.setdefault((scale, plan.weight_decay if decays(name, weight) else 0.0), []).append(weight)
    return [
        {"params": weights, "scale": scale, "weight_decay": decay}
        for (scale, decay), weights in sorted(found.items())
    ]


def chosen_share(training: Examples, share: float) -> list[int]:
    """Return the examples whose keys hash into the lowest share of all numbers: the same wherever the data lies.

    Raises:
        ManifestError: They are fewer than two.
    """
    found = [number for number in range(len(training)) if share >= 1 or _hashed(training.key(number)) < share]
    if len(found) < 2:
        raise ManifestError(
            f"a share of {share:g} leaves {len(found)} of {len(training)} training pictures; a segmenter needs two, "
            "raise train_share"
        )
    return found


def _hashed(key: str) -> float:
    return float(generator_of("training share", key).random())


def crops(training: Examples, chosen: Sequence[int], plan: Plan, classes: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (pictures, masks) of each iteration, (batch, 3, side, side) and (batch, side, side)."""
    order = Order(f"{plan.seed} segmentation", len(chosen), min(plan.batch_size, len(chosen)))

    def make(iteration: int) -> tuple[Tensor, Tensor]:
        found = []
        for epoch, row in order.rows(iteration):
            rng = generator_of(order.seed, "crop", epoch, row)
            found.append(training_crop(*read(training, chosen[row], classes), plan.crop_size, rng))
        masks: list[Mask] = [each.mask for each in found]
        return normalise([each.pixels for each in found]), torch.stack([torch.from_numpy(each) for each in masks])

    return ahead(make, plan.iterations)


def train_segmenters(
    segmenters: Mapping[str, Segmenter],
    batches: Iterable[tuple[Tensor, Tensor]],
    plan: Plan,
    device: torch.device,
    progress: Callable[[float, float, str], None],
) -> dict[str, list[float]]:
    """Train in place, each with an optimizer of its own over the same batches, and leave them ready to predict.

    Returns:
        By name the loss of each iteration, the mean over labelled pixels, a second head's added.

    Raises:
        ManifestError: One diverged.
    """
    optimizers = {
        name: torch.optim.AdamW(groups(each, plan), plan.learning_rate, betas=(0.9, 0.999))
        for name, each in segmenters.items()
    }
    losses: dict[str, list[float]] = {name: [] for name in segmenters}
    for each in segmenters.values():
        each.train(True)
    with seeded(plan.seed):  # of dropout in the head
        for iteration, (pixels, masks) in enumerate(batches):
            progress(iteration, plan.iterations, "iterations")
            drawn = generator_of(plan.seed, "stochastic depth", iteration).integers(-(2**63), 2**63 - 1, len(pixels))
            batch = pixels.to(device), masks.to(device).long(), torch.from_numpy(drawn).to(device)
            for name, each in segmenters.items():
                set_rates(optimizers[name], plan.learning_rate * plan.factor(iteration))
                losses[name].append(_step(each, optimizers[name], *batch))
                if not losses[name][-1] < float("inf"):
                    raise ManifestError(
                        f"segmentation on the {name.replace('_', ' ')} diverged in iteration {iteration} at learning "
                        f"rate {plan.learning_rate:g}; lower learning_rate"
                    )
    for each in segmenters.values():
        each.train(False)
    return losses


def _step(
    segmenter: Segmenter, optimizer: torch.optim.Optimizer, pixels: Tensor, masks: Tensor, noise: Tensor
) -> float:
    losses = [weight * masked_loss(logits, masks) for weight, logits in segmenter.weighed_logits(pixels, noise)]
    loss = torch.stack(losses).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def masked_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Return the cross-entropy averaged over pixels that have a class; 0 where none has."""
    total = F.cross_entropy(logits, masks, ignore_index=IGNORED, reduction="sum")
    return total / (masks != IGNORED).sum().clamp(min=1)
