"""Numbers that are no mean over samples (F1, BLEU, sums of subtasks), with the bootstrap's interval."""

from collections.abc import Callable

import numpy as np

from stages.evaluation_metrics import Floats, Measure, bounds, interval, resampled_means


def composed(
    split: str,
    language: str,
    name: str,
    parts: Floats,
    of: Callable[[Floats], Floats],
    *,
    chance: float | None = None,
    blind: float | None = None,
    unit: str = "%",
) -> Measure:
    """Return a number made of means over samples as a row.

    Args:
        split: Where the samples are from.
        language: Theirs.
        name: Of the number.
        parts: What it is made of, shape (samples, columns).
        of: From means of columns, shape (..., columns), to the number, shape (...); nan where a resample lacks
            what it needs, and such resamples are left out.
        chance: What guessing gives.
        blind: What the same model gives that sees the picture of another sample.
        unit: Of the number.
    """
    value = float(of(parts.mean(axis=0)))
    if parts.shape[1] == 1 and np.allclose(parts.mean(), value, rtol=0, atol=1e-12):
        low, high = interval(parts[:, 0])
    else:
        drawn = of(resampled_means(parts))
        low, high = bounds(drawn[~np.isnan(drawn)])
    return Measure(split, language, name, value, len(parts), low, high, chance=chance, blind=blind, unit=unit)
