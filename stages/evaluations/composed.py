"""Numbers that are functions of means over samples (F1, BLEU, sums of subtasks), with the bootstrap's interval."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from stages.evaluation_metrics import Floats, Measure, resampled_means, spread


class Number(NamedTuple):
    """One number before anything is resampled."""

    name: str
    parts: Floats
    """What it is made of, shape (samples, columns)."""
    of: Callable[[Floats], Floats]
    """From means of columns, shape (..., columns), to the number, shape (...); nan where means lack what it needs."""
    scores: Floats | None = None
    """One value per example whose mean the number is, where there are such: two models are compared by them."""
    unit: str = "%"
    groups: Sequence[str] | None = None
    """Of which group each sample is; a resample holds groups whole. Each sample is drawn by itself where left out."""

    most: float = 1.0
    """Highest that the number can be."""

    @property
    def value(self) -> float:
        """Return the number."""
        return float(self.of(self.parts.mean(axis=0)))

    def measure(self, split: str, language: str, chance: float | None = None, blind: float | None = None) -> Measure:
        """Return it as a row with its 95 % interval; resamples that lack what the number needs are left out.

        Args:
            split: Where the samples are from.
            language: Theirs.
            chance: What guessing gives.
            blind: What the same model gives that sees the picture of another sample.
        """
        value, n = self.value, len(self.parts)
        drawn = self.of(resampled_means(self.parts, self.groups))
        low, high = spread(drawn[~np.isnan(drawn)], value, len(set(self.groups or range(n))), most=self.most)
        return Measure(split, language, self.name, value, n, low, high, chance=chance, blind=blind, unit=self.unit)


def mean_number(name: str, values: Floats, groups: Sequence[str] | None = None) -> Number:
    """Return a plain mean of one value per example."""
    return Number(name, values[:, None], lambda means: means[..., 0], values, groups=groups)
