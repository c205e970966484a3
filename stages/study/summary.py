"""What a study found: a row for each variant."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from models.variants import Variant
from stages.study.intervals import Mean, mean
from stages.study.parameters import Parameters
from stages.study.stability import Failure, History, end_loss, losses
from stages.study.training import Training


@dataclass(frozen=True)
class Trial:
    """The trainings at one raised learning rate, one for each seed."""

    factor: float
    failures: tuple[Failure | None, ...]
    end_loss: float | None
    """Mean over the seeds that held; None where none did."""
    plain_loss: float | None
    """Of the same seeds at the study's rate, after as many steps."""


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
    norm_tail: float
    """Mean over seeds."""
    logits_start: float
    logits_end: float
    """Means over seeds."""
    failures: tuple[Failure | None, ...]
    """Of the plain trainings, one for each seed."""
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
    def all_failures(self) -> list[Failure | None]:
        """Return how each training went, those at raised rates among them."""
        return [*self.failures, *(failure for trial in self.trials for failure in trial.failures)]

    @property
    def failed(self) -> int:
        """Return how many trainings failed."""
        return sum(failure is not None for failure in self.all_failures)

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


def _failure(found: Mapping[str, Any]) -> Failure | None:
    given = found["stability"]["failure"]
    return Failure(**given) if given else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _trial(
    variant: Variant,
    factor: float,
    parameters: Parameters,
    found: Mapping[Training, Mapping[str, Any]],
    histories: Mapping[Training, History],
) -> Trial:
    raised = {seed: found[Training(variant, seed, factor)] for seed in parameters.seeds}
    held = [seed for seed, each in raised.items() if _failure(each) is None]
    plain = [histories[Training(variant, seed)][: parameters.raised_steps] for seed in held]
    return Trial(
        factor,
        tuple(_failure(each) for each in raised.values()),
        _mean(raised[seed]["stability"]["end_loss"] for seed in held),
        _mean(end_loss(history) for history in plain),
    )


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
    return Row(
        variant=variant,
        cost=cost,
        measured={kind: tuple(each["accuracy"][kind]["value"] for each in plain) for kind in kinds},
        chances={kind: kinds[kind]["chance"] for kind in kinds},
        spikes=sum(each["spikes"] for each in calm),
        largest_spike=max(each["largest_spike"] for each in calm),
        norm_tail=fmean(each["norm_tail"] for each in calm),
        logits_start=fmean(each["logits"]["start"] for each in plain),
        logits_end=fmean(each["logits"]["end"] for each in plain),
        failures=tuple(_failure(each) for each in plain),
        trials=tuple(_trial(variant, factor, parameters, found, histories) for factor in parameters.raised),
        curves=curves,
    )
