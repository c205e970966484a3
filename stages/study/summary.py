"""What a study found: a row for each variant."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from models.variants import Variant
from stages.study.intervals import Mean, mean
from stages.study.parameters import Parameters
from stages.study.stability import History, losses
from stages.study.training import Training

@dataclass(frozen=True)
class Trial:
    """A training at a raised learning rate."""

    factor: float
    diverged_at: int | None
    last_loss: float
    plain_loss: float | None
    """Of the same seed at the learning rate of the study, after as many steps; None where no step was finite."""


@dataclass(frozen=True)
class Row:
    """One variant."""

    variant: Variant
    cost: Mapping[str, Any]
    measured: Mapping[str, tuple[float, ...]]
    """By kind of accuracy, one share for each seed."""
    chances: Mapping[str, float]
    spikes: int
    """Of all seeds together."""
    largest_spike: float
    not_finite: int
    norm_tail: float
    """Mean over seeds."""
    logits_start: float
    logits_end: float
    """Means over seeds."""
    diverged: int
    """Of the plain trainings."""
    trials: tuple[Trial, ...]
    curves: tuple[tuple[float, ...], ...]
    """The loss of each seed, step by step; NaN where it was not finite."""

    @property
    def accuracies(self) -> dict[str, Mean]:
        """Return each kind's mean over seeds with its interval."""
        return {kind: mean(values) for kind, values in self.measured.items()}

    @property
    def accuracy(self) -> Mean:
        """Return the first accuracy, by which variants are compared."""
        return next(iter(self.accuracies.values()))

    @property
    def unstable(self) -> tuple[int, int]:
        """Return trainings that diverged, and steps that were not finite."""
        return self.diverged + sum(trial.diverged_at is not None for trial in self.trials), self.not_finite

    @property
    def saturated(self) -> float:
        """Return pictures per second at the batch that is fastest."""
        return float(self.cost["speed"]["saturated"]["value"])

    def as_json(self) -> dict[str, Any]:
        """Return all but the curves, which lie beside each checkpoint."""
        accuracies = {kind: asdict(value) for kind, value in self.accuracies.items()}
        found = asdict(self) | {"name": self.variant.name, "width": self.variant.width, "accuracies": accuracies}
        found.pop("curves")
        return found


def _trial(found: Mapping[str, Any], factor: float, steps: int, plain: Sequence[float]) -> Trial:
    finite = [loss for loss in plain[:steps] if math.isfinite(loss)]
    return Trial(factor, found["stability"]["diverged_at"], found["last_loss"], finite[-1] if finite else None)


def row(
    variant: Variant,
    parameters: Parameters,
    cost: Mapping[str, Any],
    found: Mapping[Training, Mapping[str, Any]],
    histories: Mapping[Training, History],
) -> Row:
    """Return one variant's row.

    Args:
        variant: Which.
        parameters: Of the study.
        cost: What `measure_speed` says of it.
        found: The findings of all trainings.
        histories: What all trainings measured, step by step.
    """
    curves = tuple(tuple(losses(histories[Training(variant, seed)])) for seed in parameters.seeds)
    plain = [found[Training(variant, seed)] for seed in parameters.seeds]
    calm = [each["stability"] for each in plain]
    kinds = plain[0]["accuracy"]
    tried = [Training(variant, parameters.seeds[0], factor) for factor in parameters.raised]
    return Row(
        variant=variant,
        cost=cost,
        measured={kind: tuple(each["accuracy"][kind]["value"] for each in plain) for kind in kinds},
        chances={kind: kinds[kind]["chance"] for kind in kinds},
        spikes=sum(each["spikes"] for each in calm),
        largest_spike=max(each["largest_spike"] for each in calm),
        not_finite=sum(each["not_finite"] for each in calm),
        norm_tail=mean([each["norm_tail"] for each in calm]).value,
        logits_start=mean([each["logits"]["start"] for each in plain]).value,
        logits_end=mean([each["logits"]["end"] for each in plain]).value,
        diverged=sum(each["diverged_at"] is not None for each in calm),
        trials=tuple(_trial(found[each], each.factor, parameters.raised_steps, curves[0]) for each in tried),
        curves=curves,
    )
