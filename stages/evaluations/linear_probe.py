"""Linear probe: a linear classifier on a frozen encoder (arXiv:2312.14238, section 4.2 and its appendix).

Features are the class token beside the mean of the patch tokens of the last block. The head is batch norm and a
linear layer, trained by SGD for ten epochs on random crops. It is trained once per model and training data, and then
measured on every set with the same classes.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator

from stages.batches import generator_of
from stages.evaluation_metrics import Floats
from stages.evaluations.base import Examples, Outcome, Subject
from stages.evaluations.classifying import (
    confusion,
    truths,
)
from stages.evaluations.encoders import MEASURED, Encoder, device_of, encoders, features, remembered_together
from stages.evaluations.neighbours import neighbour_scores
from stages.evaluations.probe_answers import answers_of, class_places, labels_of, measured, mistakes
from stages.evaluations.probe_crops import Order, ahead, random_view, training_of
from stages.evaluations.probe_training import Batch, scores, train_probes
from stages.manifest import digest_of
from stages.pairs import normalise
from stages.training.schedule import Schedule

RATE_UNIT = 512
"""Pictures per batch that the learning rate is given for."""
NEIGHBOUR_EXAMPLES = 200_000
"""Most training pictures whose features are held in memory just for their neighbours: 10 GB at 6400 numbers each."""


class Settings(BaseModel):
    """How the probe is trained; what is left out is the paper's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(default=10, ge=1)
    warmup_epochs: int = Field(default=1, ge=0, description="Epochs in which the learning rate rises.")
    batch_size: int = Field(default=1024, ge=2, description="All training examples at once where there are fewer.")
    learning_rate_per_512: float = Field(default=0.1, gt=0, description="Peak, for a batch of 512; grows with it.")
    augment: bool = Field(
        default=True,
        description="New random crops in every epoch, so that the encoder sees everything again each time. Without "
        "it features of the middles are computed once and kept: about as many times faster as there are epochs.",
    )
    neighbours: int = Field(default=20, ge=0, description="Of the k-nearest-neighbour classifier beside it; 0: none.")
    baselines: bool = Field(
        default=True,
        description="Train the same head on raw pixels and on a random encoder too, which costs another encoder.",
    )
    seed: int = 0

    @model_validator(mode="after")
    def _warms_up_inside(self) -> "Settings":
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs {self.warmup_epochs} must be fewer than epochs {self.epochs}")
        return self


def plan_of(settings: Settings, order: Order) -> Schedule:
    """Return steps and learning rates for so much training data."""
    return Schedule(
        global_batch_size=order.batch_size,
        steps=settings.epochs * order.steps_per_epoch,
        learning_rate=settings.learning_rate_per_512 * order.batch_size / RATE_UNIT,
        warmup_steps=settings.warmup_epochs * order.steps_per_epoch,
        final_ratio=0.0,
        weight_decay=0.0,
        seed=settings.seed,
    )


def cropped_batches(
    subject: Subject,
    training: Examples,
    labels: Sequence[int],
    chosen: Sequence[Encoder],
    order: Order,
    plan: Schedule,
) -> Iterator[Batch]:
    """Yield what encoders say about new random crops, step after step."""
    side, device = subject.vision.config.image_size, device_of(subject)

    def make(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        views, right = [], []
        for epoch, row in order.rows(step):
            rng = generator_of(order.seed, "crop", epoch, row)
            views.append(random_view(training.pictures(row)[0], side, rng))
            right.append(labels[row])
        return normalise(views), torch.tensor(right)

    for step, (pixels, right) in enumerate(ahead(make, plan.steps)):
        subject.progress(step, plan.steps, "steps of the probe")
        shown = pixels.to(device)
        yield Batch({each.name: each.encode(shown) for each in chosen}, right.to(device))


def kept_batches(
    known: Mapping[str, Floats], labels: Sequence[int], order: Order, plan: Schedule, device: torch.device
) -> Iterator[Batch]:
    """Yield features that were computed before, step after step."""
    for step in range(plan.steps):
        rows = [row for _, row in order.rows(step)]
        features = {name: torch.from_numpy(each[rows]).float().to(device) for name, each in known.items()}
        yield Batch(features, torch.tensor([labels[row] for row in rows], device=device))


def heads(
    subject: Subject,
    training: Examples,
    labels: Sequence[int],
    chosen: Sequence[Encoder],
    settings: Settings,
    order: Order,
) -> dict[str, Floats]:
    """Return the trained probe of each encoder as an affine map, remembered per model and training data."""
    plan = plan_of(settings, order)

    def make() -> dict[str, Floats]:
        if settings.augment:
            batches = cropped_batches(subject, training, labels, chosen, order, plan)
        else:
            known = features(subject, training, chosen, settings.seed)
            batches = kept_batches(known, labels, order, plan, device_of(subject))
        return train_probes({each.name: each.width for each in chosen}, len(training.classes), batches, plan)

    decides = digest_of(settings.model_dump(exclude={"neighbours", "baselines"}))[:16]
    return remembered_together(
        subject, training, {each.name: f"{each.name} linear probe, settings {decides}" for each in chosen}, make
    )


def _neighbour_votes(
    subject: Subject,
    training: Examples,
    labels: Sequence[int],
    chosen: Sequence[Encoder],
    settings: Settings,
    asked: Mapping[str, Floats],
    places: Sequence[int],
) -> dict[str, Floats]:
    """Return what the nearest neighbours say, by encoder; nothing where they are not asked for or too many."""
    if not settings.neighbours or (settings.augment and len(training) > NEIGHBOUR_EXAMPLES):
        return {}
    known = features(subject, training, chosen, settings.seed)
    found = {}
    for name, vectors in asked.items():
        votes = neighbour_scores(
            known[name], labels, vectors, len(training.classes), settings.neighbours, device_of(subject)
        )
        found[name] = votes[:, places]
    return found


def _notes(settings: Settings, training: Examples, plan: Schedule, votes: bool) -> list[str]:
    found = [
        f"The head was trained on {len(training):,} pictures in {plan.steps:,} steps of {plan.global_batch_size}, on "
        + ("new random crops in every epoch." if settings.augment else "the middles of the pictures, never cropped.")
    ]
    if plan.global_batch_size < settings.batch_size:
        found.append(
            f"Training has fewer pictures than one batch of {settings.batch_size:,}: every step is an epoch. Give a "
            "smaller batch_size and more epochs."
        )
    if settings.baselines:
        found.append(
            "Raw pixels and a random encoder of the same shape got the same head and training: what the encoder has "
            "above both was learned."
        )
    if settings.neighbours and not votes:
        found.append(f"Nearest neighbours are left out above {NEIGHBOUR_EXAMPLES:,} training pictures.")
    return found


def run(subject: Subject, examples: Examples, settings: Settings, benchmark: str) -> Outcome:
    """Train a probe, or remember it, and measure it.

    Raises:
        ManifestError: There is no training data, its classes are others, or the probe diverged.
    """
    training = training_of(examples, benchmark)
    places = class_places(examples, training, benchmark)
    labels = labels_of(training, benchmark)
    right = truths(examples, len(places), benchmark)
    order = Order(f"{settings.seed} linear probe", len(training), min(settings.batch_size, len(training)))
    plan = plan_of(settings, order)
    chosen = encoders(subject, settings.seed, settings.baselines)
    learnt = heads(subject, training, labels, chosen, settings, order)
    asked = features(subject, examples, chosen, settings.seed)
    answers = {name: answers_of(scores(learnt[name], each, places), right) for name, each in asked.items()}
    votes = {
        name: answers_of(table, right)
        for name, table in _neighbour_votes(subject, training, labels, chosen, settings, asked, places).items()
    }
    measures, values = measured(benchmark, answers, votes)
    ours = answers[MEASURED]
    facts: dict[str, Any] = {
        **settings.model_dump(),
        "steps": plan.steps,
        "learning_rate": plan.learning_rate,
        "trained_on": len(training),
        "features": {each.name: each.width for each in chosen},
        "image_size": subject.vision.config.image_size,
    }
    return Outcome(
        measures=measures,
        scores={name: list(each) for name, each in values.items()},
        keys=[examples.key(int(number)) for number in ours.rows],
        classes=list(examples.classes),
        confusion=confusion(ours),
        examples=mistakes(examples, ours),
        notes=_notes(settings, training, plan, bool(votes)),
        facts=facts,
    )
