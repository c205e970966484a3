"""What a study found: a row for each variant, what is within noise, and which variant to take, by rules."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from models.variants import Variant
from stages.study.intervals import Mean, mean
from stages.study.parameters import Parameters
from stages.study.stability import History, losses
from stages.study.training import Training

RULE = (
    "The rule: all variants whose accuracy's interval overlaps that of the most accurate one could be as good; of "
    "these, those whose trainings diverged least often, at the study's learning rate and at raised ones, and then "
    "those with the fewest steps that were not finite; of these, the fastest once saturated."
)


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
    accuracies: Mapping[str, Mean]
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
        found = asdict(self) | {"name": self.variant.name, "width": self.variant.width}
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
        accuracies={kind: mean([each["accuracy"][kind]["value"] for each in plain]) for kind in kinds},
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


def within_noise(rows: Sequence[Row]) -> list[Row]:
    """Return the variants whose interval overlaps the most accurate one's, that one first."""
    best = max(rows, key=lambda each: each.accuracy.value)
    return [best, *(each for each in rows if each is not best and each.accuracy.overlaps(best.accuracy))]


def apart(rows: Sequence[Row]) -> list[tuple[Row, Row]]:
    """Return the pairs (better, worse) whose intervals do not overlap: these alone the study tells apart."""
    pairs = [pair for pair in combinations(rows, 2) if not pair[0].accuracy.overlaps(pair[1].accuracy)]
    return [(a, b) if a.accuracy.value > b.accuracy.value else (b, a) for a, b in pairs]


@dataclass(frozen=True)
class Verdict:
    """Which variant to take, in words a reader can check against the table."""

    chosen: Row
    reason: str
    noise: tuple[str, ...]


def judge(rows: Sequence[Row]) -> Verdict:
    """Return the recommended variant and why; see `RULE`."""
    near = within_noise(rows)
    calmest = min(each.unstable for each in near)
    calm = [each for each in near if each.unstable == calmest]
    chosen = max(calm, key=lambda each: each.saturated)
    reason = (
        f"{chosen.variant.name}: {len(near)} of {len(rows)} variants could be the most accurate "
        f"({_names(near)}); {len(calm)} of these diverged least ({_names(calm)}: {_divergences(calmest, rows)}); "
        f"of these it is the fastest, {chosen.saturated:,.0f} pictures per second."
    )
    return Verdict(chosen, reason, _noise(rows, near))


def _divergences(calmest: tuple[int, int], rows: Sequence[Row]) -> str:
    trainings = len(rows[0].trials) + len(rows[0].curves)
    text = f"{calmest[0]} of {trainings} trainings each"
    return f"{text}, {calmest[1]} steps not finite" if calmest[1] else text


def _noise(rows: Sequence[Row], near: Sequence[Row]) -> tuple[str, ...]:
    seeds = len(rows[0].curves)
    if seeds < 2:
        return ("With one seed there is no interval: any difference may be noise. Give three seeds or more.",)
    told, pairs = apart(rows), len(rows) * (len(rows) - 1) // 2
    best = near[0].variant.name
    lines = [
        f"Of {pairs} pairs of variants the intervals over {seeds} seeds tell {len(told)} apart; what differs within "
        "the other pairs is within noise."
    ]
    if told:
        lines.append("Told apart: " + "; ".join(f"{a.variant.name} above {b.variant.name}" for a, b in told) + ".")
    if len(near) > 1:
        lines.append(f"Within noise of the most accurate, {best}: {_names(near[1:])}.")
    else:
        lines.append(f"{best} is above every other variant by more than noise.")
    blind = [each for each in rows if _near_chance(each)]
    if blind:
        lines.append(f"Not told from guessing: {_names(blind)}; train longer before anything is concluded of them.")
    return tuple(lines)


def _near_chance(each: Row) -> bool:
    chance = next(iter(each.chances.values()))
    return each.accuracy.low is None or each.accuracy.low <= chance


def _names(rows: Sequence[Row]) -> str:
    return ", ".join(each.variant.name for each in rows)
